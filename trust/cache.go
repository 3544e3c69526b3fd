package trust

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
)

// negativeTTL is how long a refusal is remembered. It is short, as a refusal
// may depend on the time.
const negativeTTL = 30 * time.Second

// CacheConfig bounds a Cache.
type CacheConfig struct {
	// Positive and Negative are how many verdicts of each kind are kept. They
	// are kept apart, so that a flood of refused chains displaces no device.
	Positive, Negative int
	// Concurrency is how many chains are verified at once; 0 means one per CPU.
	Concurrency int
}

// Cache remembers verdicts. Chains that are not remembered are verified a few
// at a time, and identical ones once. It is safe for concurrent use.
type Cache struct {
	positive *otter.Cache[verdictKey, Path]
	negative *otter.Cache[verdictKey, *Error]
	flights  singleflight.Group
	cpu      *semaphore.Weighted
}

// verdictKey names the bundle by its generation: what was decided under other
// anchors or intermediates is never found again.
type verdictKey struct {
	digest     [sha256.Size]byte
	generation uint64
}

func (k verdictKey) String() string {
	return string(binary.BigEndian.AppendUint64(k.digest[:], k.generation))
}

// CacheResult tells how a verdict was found.
type CacheResult uint8

// Results.
const (
	Miss   CacheResult = iota // verified now
	Hit                       // remembered
	Shared                    // verified now, by another check of the same chain
)

// CacheResults are all the results there are.
var CacheResults = []CacheResult{Miss, Hit, Shared}

// String is the result's metric label.
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

// NewCache makes a Cache.
func NewCache(c CacheConfig) (*Cache, error) {
	positive, err := otter.New(&otter.Options[verdictKey, Path]{MaximumSize: c.Positive})
	if err != nil {
		return nil, fmt.Errorf("positive verdicts: %w", err)
	}
	negative, err := otter.New(&otter.Options[verdictKey, *Error]{
		MaximumSize:      c.Negative,
		ExpiryCalculator: otter.ExpiryWriting[verdictKey, *Error](negativeTTL),
	})
	if err != nil {
		return nil, fmt.Errorf("negative verdicts: %w", err)
	}
	if c.Concurrency == 0 {
		c.Concurrency = runtime.GOMAXPROCS(0)
	}
	return &Cache{positive: positive, negative: negative, cpu: semaphore.NewWeighted(int64(c.Concurrency))}, nil
}

// Verify is Bundle.Verify, remembered. Its error is an *Error, or the context's
// if that ended before a CPU was free.
func (c *Cache) Verify(ctx context.Context, b *Bundle, chain *Chain, opts Options) (Path, CacheResult, error) {
	key := verdictKey{chain.digest, b.generation}
	if path, ok := c.positive.GetIfPresent(key); ok && !opts.Now.After(path.Expires()) {
		return path, Hit, nil
	}
	if refused, ok := c.negative.GetIfPresent(key); ok {
		return Path{}, Hit, refused
	}
	for {
		result := Shared
		flight := c.flights.DoChan(key.String(), func() (any, error) {
			result = Miss
			return c.verify(ctx, key, b, chain, opts)
		})
		select {
		case <-ctx.Done():
			return Path{}, Miss, ctx.Err()
		case r := <-flight:
			if outOfTime := errors.Is(r.Err, context.Canceled) || errors.Is(r.Err, context.DeadlineExceeded); outOfTime && ctx.Err() == nil {
				continue // it was the check that verified for us; we have some left
			}
			path, _ := r.Val.(Path)
			return path, result, r.Err
		}
	}
}

func (c *Cache) verify(ctx context.Context, key verdictKey, b *Bundle, chain *Chain, opts Options) (path Path, err error) {
	// A panic here would end the process: it is on no caller's stack.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in verification: %v\n%s", p, debug.Stack())
		}
	}()
	if err := c.cpu.Acquire(ctx, 1); err != nil {
		return Path{}, err
	}
	defer c.cpu.Release(1)
	path, err = b.Verify(chain, opts)
	var refused *Error
	switch {
	case err == nil:
		c.positive.Set(key, path)
	case errors.As(err, &refused) && !refused.exhausted:
		c.negative.Set(key, refused)
	}
	return path, err
}
