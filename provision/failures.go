package provision

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/hubgate/hubgate/trust"
)

// maxFailing bounds the source networks whose failures are counted. Beyond it,
// the one that has not failed for the longest is forgotten.
const maxFailing = 8192

// failures bounds, per source network, how many certificates are refused after
// they were looked at: each costs signatures, and whoever makes them up can make
// any number. What recognition knows costs none and is never counted or refused
// here, and neither is a device that is admitted. It is for this process alone.
type failures struct {
	perMinute int
	networks  *otter.Cache[netip.Prefix, *bucket]
}

// bucket holds what a network may still fail.
type bucket struct {
	mu     sync.Mutex
	left   float64
	filled time.Time
}

func newFailures(perMinute int) (*failures, error) {
	networks, err := otter.New(&otter.Options[netip.Prefix, *bucket]{MaximumSize: maxFailing})
	if err != nil {
		return nil, fmt.Errorf("failures by network: %w", err)
	}
	return &failures{perMinute: perMinute, networks: networks}, nil
}

// failingNetwork is the network that an address is counted in: /24, or /56 of
// IPv6, which is what one customer gets.
func failingNetwork(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 56
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // an address that is none has no network
	return p
}

// fill adds what the time since has earned.
func (b *bucket) fill(now time.Time, perMinute int) {
	if earned := now.Sub(b.filled).Minutes() * float64(perMinute); earned > 0 {
		b.left, b.filled = min(float64(perMinute), b.left+earned), now
	}
}

// wait is how long a network has to wait before another of its certificates is
// looked at, 0 if it has not.
func (f *failures) wait(source netip.Addr, now time.Time) time.Duration {
	b, ok := f.networks.GetIfPresent(failingNetwork(source))
	if !ok {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now, f.perMinute)
	if b.left >= 1 {
		return 0
	}
	return time.Duration((1 - b.left) / float64(f.perMinute) * float64(time.Minute))
}

// count counts a failure.
func (f *failures) count(source netip.Addr, now time.Time) {
	b, _ := f.networks.SetIfAbsent(failingNetwork(source), &bucket{left: float64(f.perMinute), filled: now})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now, f.perMinute)
	b.left = max(0, b.left-1)
}

// limited is how long the connection's certificate is not looked at.
func (g *Gate) limited(f *Facts) time.Duration {
	if g.failures == nil || f.Connection.DryRun {
		return 0
	}
	wait := g.failures.wait(f.Connection.Source, f.Now)
	if wait > 0 {
		g.metrics.unseen.Inc()
	}
	return wait
}

// countFailure counts a certificate that was refused for what it is.
func (g *Gate) countFailure(f *Facts) {
	if g.failures == nil || f.Connection.DryRun || !f.stranger {
		return
	}
	var failure *trust.Error
	if f.ChainErr != nil || errors.As(f.PathErr, &failure) || f.NoHub.Reason != "" && f.NoHub.Reason.Outcome() == Deny {
		g.failures.count(f.Connection.Source, f.Now)
	}
}
