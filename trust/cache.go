package trust

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/semaphore"
)

// What a CacheConfig leaves zero.
const (
	DefaultPositive    = 50_000
	DefaultNegative    = 10_000
	DefaultNegativeTTL = 30 * time.Second
)

// The DER that counts as one entry. Verdicts keep certificates, and a refused
// chain may bring one of 64 KiB that takes a megabyte parsed.
const (
	positiveUnit = 4 << 10
	negativeUnit = 1 << 10
)

// CacheConfig bounds a Cache. Its zero value is usable.
type CacheConfig struct {
	// Positive and Negative bound the verdicts kept. One with more than 4 KiB of
	// certificates (if negative: 1 KiB) counts as several. They are apart so that
	// a flood of refused chains displaces no admitted device.
	Positive int
	Negative int
	// NegativeTTL is how long a refusal is kept, at most. It is short because a
	// chain may become valid.
	NegativeTTL time.Duration
	// Run does a verification when it may be done, or says why it cannot. Nil: one
	// for each CPU at once. Hits need none of it.
	Run func(ctx context.Context, verify func()) error
}

// CacheResult tells where a verdict came from.
type CacheResult uint8

// The results.
const (
	Miss   CacheResult = iota // it was verified now
	Hit                       // it was kept
	Shared                    // a simultaneous check of the same chain verified it
)

// CacheResults are all of them.
var CacheResults = []CacheResult{Miss, Hit, Shared}

// String returns the metric label.
func (r CacheResult) String() string {
	switch r {
	case Hit:
		return "hit"
	case Shared:
		return "shared"
	default:
		return "miss"
	}
}

// Cache keeps verdicts, so that a chain is verified once while it and the
// bundle stay the same, and identical chains are verified once at a time. It is
// safe for concurrent use.
type Cache struct {
	positive *otter.Cache[verdictKey, Path]
	negative *otter.Cache[verdictKey, refusal]
	ttl      time.Duration

	mu      sync.Mutex
	flights map[verdictKey]*flight

	run func(context.Context, func()) error
}

// verdictKey identifies all that a verdict depends on, time apart: the bundle's
// generation, so that a replaced bundle voids it; and a digest of the chain and
// of what the handshake attested, which decides what is tried within the budget.
type verdictKey struct {
	generation uint64
	digest     [sha256.Size]byte
}

func newVerdictKey(b *Bundle, c *Chain, attested []Fingerprint) verdictKey {
	material := make([]byte, 0, (1+MaxCertificates)*sha256.Size)
	material = append(material, c.digest[:]...)
	for _, f := range attested {
		material = append(material, f[:]...)
	}
	return verdictKey{b.generation, sha256.Sum256(material)}
}

// refusal is a negative verdict, kept from one moment until another.
type refusal struct {
	failure     *Error
	from, until time.Time
}

// NewCache returns an empty cache.
func NewCache(c CacheConfig) (*Cache, error) {
	if c.Positive == 0 {
		c.Positive = DefaultPositive
	}
	if c.Negative == 0 {
		c.Negative = DefaultNegative
	}
	if c.NegativeTTL == 0 {
		c.NegativeTTL = DefaultNegativeTTL
	}
	if c.Run == nil {
		c.Run = within(semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))))
	}
	if c.Positive < 0 || c.Negative < 0 || c.NegativeTTL < 0 {
		return nil, errors.New("trust: a verdict cache's bounds are not negative")
	}
	// Neither cache expires by itself: that takes a goroutine, and goes by
	// another clock than Options.Now.
	positive, err := otter.New(&otter.Options[verdictKey, Path]{
		MaximumWeight: uint64(c.Positive),
		Weigher: func(_ verdictKey, p Path) uint32 {
			size := 0
			for _, c := range p.certs[:len(p.certs)-1] { // the bundle keeps the anchor
				size += len(c.Raw)
			}
			return uint32(1 + size/positiveUnit)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("trust: positive verdicts: %w", err)
	}
	negative, err := otter.New(&otter.Options[verdictKey, refusal]{
		MaximumWeight: uint64(c.Negative),
		Weigher: func(_ verdictKey, r refusal) uint32 {
			if r.failure.Certificate == nil {
				return 1
			}
			return uint32(1 + len(r.failure.Certificate.Raw)/negativeUnit)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("trust: negative verdicts: %w", err)
	}
	return &Cache{
		positive: positive,
		negative: negative,
		ttl:      c.NegativeTTL,
		run:      c.Run,
		flights:  make(map[verdictKey]*flight),
	}, nil
}

// within is a Run of as many at once as the semaphore allows.
func within(running *semaphore.Weighted) func(context.Context, func()) error {
	return func(ctx context.Context, verify func()) error {
		if err := running.Acquire(ctx, 1); err != nil {
			return err
		}
		defer running.Release(1)
		verify()
		return nil
	}
}

// Verify is b.Verify, remembered. The error is an *Error; or it is the context's,
// if that ended while the chain waited to be verified; or it is a fault of ours,
// a panic in verification. A hit costs no budget. What a budget left undecided
// is not kept if it was partly spent before, on other bundles.
func (c *Cache) Verify(ctx context.Context, b *Bundle, chain *Chain, opts Options) (Path, CacheResult, error) {
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	if opts.Budget == nil {
		opts.Budget = new(Budget)
	}
	key := newVerdictKey(b, chain, opts.Attested)
	if path, ok := c.positive.GetIfPresent(key); ok && path.ValidAt(opts.Now) {
		return path, Hit, nil
	}
	if r, ok := c.negative.GetIfPresent(key); ok && !opts.Now.Before(r.from) && opts.Now.Before(r.until) {
		return Path{}, Hit, r.failure
	}
	for {
		f, first := c.board(key)
		if first {
			// On the caller's own goroutine, whose stack has grown already.
			f.path, f.err = c.fly(ctx, key, b, chain, opts)
			c.land(key, f)
			return f.path, Miss, f.err
		}
		select {
		case <-ctx.Done():
			return Path{}, Miss, ctx.Err()
		case <-f.landed:
			if ctx.Err() == nil && !f.concerns(opts.Now) {
				continue
			}
			return f.path, Shared, f.err
		}
	}
}

// flight is a verification under way.
type flight struct {
	landed chan struct{} // closed once what follows is set
	path   Path
	err    error
}

// board returns the flight of that chain, and whether it is a new one.
func (c *Cache) board(key verdictKey) (_ *flight, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil {
		return f, false
	}
	f := &flight{landed: make(chan struct{})}
	c.flights[key] = f
	return f, true
}

func (c *Cache) land(key verdictKey, f *flight) {
	c.mu.Lock()
	delete(c.flights, key)
	c.mu.Unlock()
	close(f.landed)
}

// concerns tells whether the outcome holds for another call too: it does not if
// the first one's time or budget ran out, or if it went by another clock.
func (f *flight) concerns(now time.Time) bool {
	var failure *Error
	switch {
	case f.err == nil:
		return f.path.ValidAt(now)
	case errors.As(f.err, &failure):
		return !failure.exhausted
	}
	return !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded)
}

// fly verifies, and keeps the verdict.
func (c *Cache) fly(ctx context.Context, key verdictKey, b *Bundle, chain *Chain, opts Options) (path Path, err error) {
	// Others wait for the outcome, whatever it is.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("trust: panic while verifying: %v\n%s", p, debug.Stack())
		}
	}()
	fresh := opts.Budget.used == 0
	if notRun := c.run(ctx, func() { path, err = b.Verify(chain, opts) }); notRun != nil {
		return Path{}, notRun
	}
	var failure *Error
	switch {
	case err == nil:
		c.positive.Set(key, path)
	case errors.As(err, &failure) && (fresh || !failure.exhausted):
		r := refusal{failure, opts.Now, opts.Now.Add(c.ttl)}
		if failure.Fault == NotYetValid {
			if begins := failure.Certificate.NotBefore.Add(-NotBeforeLeeway); begins.Before(r.until) {
				r.until = begins
			}
		}
		c.negative.Set(key, r)
	}
	return path, err
}
