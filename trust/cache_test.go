package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/hubgate/hubgate/internal/pki"
)

// looked is what one look into a cache gave.
type looked struct {
	result CacheResult
	fault  Fault // zero: admitted
}

func look(t *testing.T, c *Cache, b *Bundle, chain *Chain, opts Options) looked {
	t.Helper()
	path, result, err := c.Verify(t.Context(), b, chain, opts)
	if err == nil {
		if path.Leaf() != chain.Leaf() && !path.Leaf().Equal(chain.Leaf()) {
			t.Error("the path is another leaf's")
		}
		return looked{result, 0}
	}
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatal(err)
	}
	return looked{result, failure.Fault}
}

// TestCacheSequences looks several times into one cache.
func TestCacheSequences(t *testing.T) {
	f := newFactory("Acme")
	bundle := bundleOf(certs(f.root.Certificate))
	again := bundleOf(certs(f.root.Certificate))
	until := now.Add(time.Hour)
	short := must(f.line.Leaf("SN", pki.WithValidity(now, until))).Certificate
	// Valid 10 s from now, the leeway included.
	soon := must(f.line.Leaf("SN", pki.WithValidity(now.Add(NotBeforeLeeway+10*time.Second), until))).Certificate
	device, line := f.device.Certificate, f.line.Certificate
	usual, leafOnly := chainOf(device, line), chainOf(device)
	print := FingerprintOf(line)

	type step struct {
		bundle   *Bundle
		chain    *Chain
		after    time.Duration
		attested []Fingerprint
		want     looked
	}
	for _, r := range []struct {
		name  string
		steps []step
	}{
		{"a hit", []step{
			{bundle, usual, 0, nil, looked{Miss, 0}},
			{bundle, usual, 0, nil, looked{Hit, 0}},
			{bundle, chainOf(device, line), time.Hour, nil, looked{Hit, 0}},
		}},
		{"another chain", []step{
			{bundle, usual, 0, nil, looked{Miss, 0}},
			{bundle, leafOnly, 0, nil, looked{Miss, Incomplete}},
			{bundle, chainOf(device, line, line), 0, nil, looked{Miss, 0}},
		}},
		{"another attested chain", []step{
			{bundle, usual, 0, nil, looked{Miss, 0}},
			{bundle, usual, 0, []Fingerprint{print}, looked{Miss, 0}},
			{bundle, usual, 0, []Fingerprint{print, print}, looked{Miss, 0}},
			{bundle, usual, 0, []Fingerprint{print}, looked{Hit, 0}},
		}},
		{"another bundle of the same", []step{
			{bundle, usual, 0, nil, looked{Miss, 0}},
			{again, usual, 0, nil, looked{Miss, 0}},
			{bundle, usual, 0, nil, looked{Hit, 0}},
		}},
		{"an intermediate is learned", []step{
			{bundle, leafOnly, 0, nil, looked{Miss, Incomplete}},
			{bundleOf(certs(f.root.Certificate), line), leafOnly, 0, nil, looked{Miss, 0}},
		}},
		{"an anchor is removed", []step{
			{bundle, usual, 0, nil, looked{Miss, 0}},
			{bundleOf(nil), usual, 0, nil, looked{Miss, Incomplete}},
		}},
		{"expiry", []step{
			{bundle, chainOf(short, line), 0, nil, looked{Miss, 0}},
			{bundle, chainOf(short, line), time.Hour, nil, looked{Hit, 0}},
			{bundle, chainOf(short, line), time.Hour + time.Second, nil, looked{Miss, Expired}},
			{bundle, chainOf(short, line), time.Hour + 2*time.Second, nil, looked{Hit, Expired}},
		}},
		{"a clock set back", []step{
			{bundle, chainOf(short, line), 0, nil, looked{Miss, 0}},
			{bundle, chainOf(short, line), -NotBeforeLeeway, nil, looked{Hit, 0}},
			{bundle, chainOf(short, line), -NotBeforeLeeway - time.Second, nil, looked{Miss, NotYetValid}},
			{bundle, chainOf(short, line), -NotBeforeLeeway, nil, looked{Hit, 0}},
		}},
		{"a refusal ages", []step{
			{bundle, leafOnly, 0, nil, looked{Miss, Incomplete}},
			{bundle, leafOnly, DefaultNegativeTTL - 1, nil, looked{Hit, Incomplete}},
			{bundle, leafOnly, DefaultNegativeTTL, nil, looked{Miss, Incomplete}},
			{bundle, leafOnly, 2*DefaultNegativeTTL - 1, nil, looked{Hit, Incomplete}},
			{bundle, leafOnly, 0, nil, looked{Miss, Incomplete}},
		}},
		{"a refusal ends as the certificate begins", []step{
			{bundle, chainOf(soon, line), 0, nil, looked{Miss, NotYetValid}},
			{bundle, chainOf(soon, line), 10*time.Second - 1, nil, looked{Hit, NotYetValid}},
			{bundle, chainOf(soon, line), 10 * time.Second, nil, looked{Miss, 0}},
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			c := must(NewCache(CacheConfig{}))
			for i, s := range r.steps {
				if got := look(t, c, s.bundle, s.chain, Options{Now: now.Add(s.after), Attested: s.attested}); got != s.want {
					t.Errorf("step %d: %s, %s; want %s, %s", i, got.result, got.fault, s.want.result, s.want.fault)
				}
			}
		})
	}
}

func TestCacheSpendsTheBudget(t *testing.T) {
	root := must(pki.NewRoot("Root", noSubjectKeyID))
	lines := namesakes(root, MaxSignatureChecks+1)
	bundle := bundleOf(certs(root.Certificate), certificatesOf(lines)...)
	last := chainOf(must(lines[MaxSignatureChecks].Leaf("SN")).Certificate)
	first := chainOf(must(lines[0].Leaf("SN")).Certificate)
	c := must(NewCache(CacheConfig{}))

	budget := &Budget{used: MaxSignatureChecks - 1}
	if got := look(t, c, bundle, first, Options{Now: now, Budget: budget}); got != (looked{Miss, 0}) || budget.used != MaxSignatureChecks {
		t.Errorf("%v with %d checks used", got, budget.used)
	}
	if got := look(t, c, bundle, first, Options{Now: now, Budget: budget}); got != (looked{Hit, 0}) {
		t.Errorf("a hit needs a budget: %v", got)
	}
	// What a partly spent budget left undecided is tried again, and then kept.
	for i, want := range []CacheResult{Miss, Miss, Hit} {
		spent := new(Budget)
		if i == 0 {
			spent.used = 5
		}
		if got := look(t, c, bundle, last, Options{Now: now, Budget: spent}); got != (looked{want, Untrusted}) {
			t.Errorf("look %d: %v, want %v", i, got, want)
		}
	}
}

// TestCacheVerifiesOnceAtATime holds verification back until everybody waits.
func TestCacheVerifiesOnceAtATime(t *testing.T) {
	f := newFactory("Acme")
	bundle, chain := bundleOf(certs(f.root.Certificate)), chainOf(f.device.Certificate, f.line.Certificate)
	const callers = 100
	for name, refusal := range map[string]Fault{"admitted": 0, "refused": Incomplete} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				running := semaphore.NewWeighted(1)
				c := must(NewCache(CacheConfig{Run: within(running)}))
				if err := running.Acquire(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				chain := chain
				if refusal != 0 {
					chain = chainOf(f.device.Certificate)
				}
				got := make(map[looked]int)
				checks := 0
				var mu sync.Mutex
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						budget := new(Budget)
						l := look(t, c, bundle, chain, Options{Now: now, Budget: budget})
						mu.Lock()
						defer mu.Unlock()
						got[l]++
						checks += budget.used
					})
				}
				synctest.Wait()
				running.Release(1)
				wg.Wait()
				if got[looked{Miss, refusal}] != 1 || got[looked{Shared, refusal}] != callers-1 {
					t.Errorf("looks: %v", got)
				}
				if refusal == 0 && checks != 2 {
					t.Errorf("%d checks were counted", checks)
				}
			})
		})
	}
}

// TestCacheContext ends the context of a caller that waits, others of the same
// chain waiting with it.
func TestCacheContext(t *testing.T) {
	f := newFactory("Acme")
	bundle, chain := bundleOf(certs(f.root.Certificate)), chainOf(f.device.Certificate, f.line.Certificate)
	synctest.Test(t, func(t *testing.T) {
		running := semaphore.NewWeighted(1)
		c := must(NewCache(CacheConfig{Run: within(running)}))
		if err := running.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := c.Verify(ctx, bundle, chain, Options{Now: now}); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller whose context ended: %v", err)
			}
		})
		synctest.Wait()
		for range 10 { // they wait for the first one's verification
			wg.Go(func() {
				if got := look(t, c, bundle, chain, Options{Now: now}); got.fault != 0 {
					t.Errorf("another caller: %v", got)
				}
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		running.Release(1)
		wg.Wait()
		if got := look(t, c, bundle, chain, Options{Now: now}); got != (looked{Hit, 0}) {
			t.Errorf("afterwards: %v", got)
		}
		// A hit needs no time.
		if _, result, err := c.Verify(ctx, bundle, chain, Options{Now: now}); result != Hit || err != nil {
			t.Errorf("with an ended context: %s, %v", result, err)
		}
		if _, _, err := c.Verify(ctx, bundle, chainOf(f.device.Certificate), Options{Now: now}); !errors.Is(err, context.Canceled) {
			t.Errorf("a miss with an ended context: %v", err)
		}
	})
}

// TestCachePanic breaks the chain so that verifying it panics.
func TestCachePanic(t *testing.T) {
	c := must(NewCache(CacheConfig{Run: within(semaphore.NewWeighted(1))}))
	f := newFactory("Acme")
	bundle := bundleOf(certs(f.root.Certificate))
	for range 3 { // the place among those that run is given back
		path, _, err := c.Verify(t.Context(), bundle, &Chain{}, Options{Now: now})
		var failure *Error
		if err == nil || errors.As(err, &failure) || !strings.Contains(err.Error(), "panic") || path.Leaf() != nil {
			t.Fatalf("path %v, error %v", path, err)
		}
	}
	if got := look(t, c, bundle, chainOf(f.device.Certificate, f.line.Certificate), Options{}); got != (looked{Miss, 0}) {
		t.Errorf("afterwards: %v", got)
	}
}

func TestCacheBounds(t *testing.T) {
	f := newFactory("Acme")
	bundle := bundleOf(certs(f.root.Certificate))
	padded := func(n int) *x509.Certificate {
		return must(f.line.Leaf("SN", extension([]int{1, 2, 3, 4}, false, make([]byte, n)))).Certificate
	}
	line := f.line.Certificate
	const most = 20
	for _, r := range []struct {
		name               string
		size               int // of the leaf's padding
		presented          []*x509.Certificate
		positive, negative int // kept after twice as many as there is room for
	}{
		{"admitted", 0, certs(line), most, 0},
		{"refused", 0, nil, 0, most},
		{"admitted with 12 KiB", 12 << 10, certs(line), most / 4, 0},
		{"refused with 4 KiB", 4 << 10, nil, 0, most / 5},
		{"refused with more than there is room for", 40 << 10, nil, 0, 0},
	} {
		t.Run(r.name, func(t *testing.T) {
			c := must(NewCache(CacheConfig{Positive: most, Negative: most}))
			for range 2 * most {
				look(t, c, bundle, chainOf(padded(r.size), r.presented...), Options{Now: now})
			}
			c.positive.CleanUp()
			c.negative.CleanUp()
			if p, n := c.positive.EstimatedSize(), c.negative.EstimatedSize(); p != r.positive || n != r.negative {
				t.Errorf("%d admitted and %d refused are kept, want %d and %d", p, n, r.positive, r.negative)
			}
		})
	}
	t.Run("a flood of refusals displaces nobody", func(t *testing.T) {
		c := must(NewCache(CacheConfig{Positive: most, Negative: most}))
		chain := chainOf(f.device.Certificate, line)
		look(t, c, bundle, chain, Options{Now: now})
		for range 10 * most {
			look(t, c, bundle, chainOf(must(f.line.Leaf("SN")).Certificate), Options{Now: now})
		}
		if got := look(t, c, bundle, chain, Options{Now: now}); got != (looked{Hit, 0}) {
			t.Errorf("%v, want a hit", got)
		}
	})
}

func TestCacheConfig(t *testing.T) {
	for _, config := range []CacheConfig{{Positive: -1}, {Negative: -1}, {NegativeTTL: -1}} {
		if _, err := NewCache(config); err == nil {
			t.Errorf("%+v is accepted", config)
		}
	}
	want := map[CacheResult]string{Miss: "miss", Hit: "hit", Shared: "shared"}
	for _, r := range CacheResults {
		if r.String() != want[r] {
			t.Errorf("result %d is called %s, want %s", r, r, want[r])
		}
	}
	if len(CacheResults) != len(want) {
		t.Errorf("%d results", len(CacheResults))
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	f := newFactory("Acme")
	second := must(f.line.Intermediate("Second"))
	chain := chainOf(must(second.Leaf("SN")).Certificate, second.Certificate, f.root.Certificate, lookAlike(f.line).Certificate, f.line.Certificate)
	bundle := bundleOf(certs(f.root.Certificate), f.line.Certificate)
	c := must(NewCache(CacheConfig{Positive: 1}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := bundle.Verify(chain, Options{Now: now}); err != nil {
					t.Error(err)
				}
				own := bundleOf(certs(f.root.Certificate), f.line.Certificate)
				if i%2 == 0 {
					own = bundle
				}
				if got := look(t, c, own, chain, Options{Now: now}); got.fault != 0 {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
}
