package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// testSessionsRaceChange: either whoever changes a device finds a session of
// it, or whoever puts the session sees the change.
func testSessionsRaceChange(t *testing.T, f Fixture, o Options) {
	ctx, s := testContextOf(t), f.Store
	_, devices, envoy := sessionsFixture(ctx, t, s, 2*o.Fences)
	handles := []Store{s, f.replica(t)}
	for i, d := range devices {
		crowd := startSessions(ctx, handles, d, envoy, o.Goroutines)
		time.Sleep(o.Storm)
		if i%2 == 0 {
			_, err := updateDevice(ctx, s, d, func(d *provision.Device) error { d.Disabled = true; return nil })
			must(t, err)
		} else {
			must(t, deleteDevice(ctx, s, d))
		}
		found := map[string]bool{}
		for _, session := range got(handles[i%len(handles)].DeviceSessions(ctx, d.Hub, d.ID))(t) {
			found[session.ID] = true
		}
		unaware, aware, err := crowd.end()
		must(t, err)
		overlooked := 0
		for _, id := range unaware {
			if !found[id] {
				overlooked++
			}
		}
		if overlooked > 0 || aware == 0 {
			t.Errorf("device %d: of %d sessions put before its change %d are overlooked; %d know of it", i, len(unaware), overlooked, aware)
		}
	}
}

// sessionCrowd puts sessions of one device until it sees that the device has
// changed.
type sessionCrowd struct {
	wg   sync.WaitGroup
	seen atomic.Int64 // puts that saw the change

	mu      sync.Mutex
	unaware []string // sessions whose put did not
	errs    []error
}

func startSessions(ctx context.Context, handles []Store, d provision.Device, envoy provision.EnvoyID, goroutines int) *sessionCrowd {
	c := &sessionCrowd{}
	for g := range goroutines {
		c.wg.Go(func() {
			for i := 0; ; i++ {
				session := NewSession(d, envoy)
				session.Confirmed = (g+i)%2 == 0
				now, _, err := handles[g%len(handles)].PutSession(ctx, session)
				if errors.Is(err, provision.ErrNotFound) || err == nil && now.Disabled {
					c.seen.Add(1)
					return
				}
				c.mu.Lock()
				if err == nil {
					c.unaware = append(c.unaware, session.ID)
				} else {
					c.errs = append(c.errs, err)
				}
				c.mu.Unlock()
				if err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond) // many at once, not many in all
			}
		})
	}
	return c
}

func (c *sessionCrowd) end() (unaware []string, aware int64, err error) {
	c.wg.Wait()
	return c.unaware, c.seen.Load(), errors.Join(c.errs...)
}

// testSessionsRaceAlone: of two sessions that are put at once, at least one
// knows that it is not alone.
func testSessionsRaceAlone(t *testing.T, f Fixture) {
	const devices = 50
	ctx, s := testContextOf(t), f.Store
	_, all, envoy := sessionsFixture(ctx, t, s, devices)
	handles := []Store{s, f.replica(t)}
	for _, d := range all {
		var (
			wg    sync.WaitGroup
			alone [2]bool
			errs  [2]error
		)
		start := make(chan struct{})
		for i, h := range handles {
			wg.Go(func() {
				<-start
				_, alone[i], errs[i] = h.PutSession(ctx, NewSession(d, envoy))
			})
		}
		close(start)
		wg.Wait()
		must(t, errors.Join(errs[:]...))
		if alone[0] == alone[1] {
			t.Errorf("%s: alone are %v", d.Name, fmt.Sprint(alone))
		}
	}
}

// testSessionsRaceClaim: of many claims at once, one is granted, whatever else
// comes and goes on record meanwhile.
func testSessionsRaceClaim(t *testing.T, f Fixture, o Options) {
	const devices = 10
	ctx, s := testContextOf(t), f.Store
	_, all, envoy := sessionsFixture(ctx, t, s, devices)
	lost := NewEnvoy()
	handles := []Store{s, f.replica(t)}
	for i, d := range all {
		if i%2 == 0 { // what a dead Envoy left has to be looked at first
			put(ctx, t, s, NewSession(d, lost), true)
		}
		var (
			wg      sync.WaitGroup
			granted atomic.Int64
			errs    = make([]error, o.Goroutines)
			web     = NewSession(d, envoy)
		)
		web.Protocol = provision.HTTP
		start := make(chan struct{})
		for g := range o.Goroutines {
			h := handles[g%len(handles)]
			wg.Go(func() {
				<-start
				session := NewSession(d, envoy)
				session.Confirmed = false
				other, err := h.ClaimSession(ctx, session)
				if errs[g] = err; err == nil && other == nil {
					granted.Add(1)
				}
			})
		}
		wg.Go(func() {
			<-start
			_, _, err := s.PutSession(ctx, web)
			if err = errors.Join(err, s.RemoveSession(ctx, web)); err != nil {
				t.Error(err)
			}
		})
		close(start)
		wg.Wait()
		must(t, errors.Join(errs...))
		if n := granted.Load(); n != 1 {
			t.Errorf("%s: %d claims of %d are granted", d.Name, n, o.Goroutines)
		}
	}
}
