package session_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

// crowd is so many devices of one hub, connected.
func crowd(t testing.TB, r *replica, f *fleet, n int, closed func(i int)) {
	t.Helper()
	e := newEnvoy(t, r).link(r)
	devices := make([]*chip, n)
	var creating sync.WaitGroup
	gate := make(chan struct{}, 64)
	for i := range devices {
		creating.Go(func() {
			gate <- struct{}{}
			devices[i] = f.device(fmt.Sprintf("SN-%d", i))
			<-gate
		})
	}
	creating.Wait()
	for i, d := range devices {
		number := e.next()
		id := e.check(r, d, provision.TCP, number)
		s := &reporter{ended: func() { closed(i) }, ready: make(chan struct{})}
		s.entry = e.client.Open(link.Open{
			Connection: number, Protocol: link.TCP, Session: id, Hub: d.Hub.String(), Device: d.ID.String(),
		}, s)
		close(s.ready)
	}
	eventually(t, "all are open", func() bool {
		sessions, _, err := r.store.HubSessions(t.Context(), f.hub.ID, "", n+1)
		return err == nil && len(sessions) == n && !slices.ContainsFunc(sessions, func(s provision.Session) bool { return !s.Confirmed })
	})
}

// reporter is a connection that says when it was told to close.
type reporter struct {
	entry *link.Session
	ended func()
	ready chan struct{}
}

// End implements link.Control.
func (s *reporter) End(byte, string) {
	s.ended()
	<-s.ready
	s.entry.Close()
}

// Release implements link.Control.
func (s *reporter) Release() {}

// Active implements link.Control.
func (s *reporter) Active() bool { return false }

func TestAThousandSessionsEndWithTheirHub(t *testing.T) {
	t.Parallel()
	const n = 1000
	r := newSite(t)
	f := newFleet(r, "factory")
	var all sync.WaitGroup
	all.Add(n)
	crowd(t, r, f, n, func(int) { all.Done() })
	f.edit(func(h *provision.Hub) { h.Disabled = true })
	all.Wait()
	eventually(t, "all are off the record", func() bool {
		sessions, _, err := r.store.HubSessions(t.Context(), f.hub.ID, "", n)
		return err == nil && len(sessions) == 0
	})
	if got := r.metric("hubgate_sessions_ended_total", "reason", string(provision.EndHubDisabled)); got != n {
		t.Errorf("%v counted", got)
	}
}

// BenchmarkEndAll measures from the order to the last of 1,000 connections, all
// over one link, being told; p99 is that of the single ones.
func BenchmarkEndAll(b *testing.B) {
	const n = 1000
	for range b.N {
		b.StopTimer()
		r := newSite(b)
		f := newFleet(r, "factory")
		var all sync.WaitGroup
		all.Add(n)
		var start time.Time
		took := make([]time.Duration, n)
		crowd(b, r, f, n, func(i int) {
			took[i] = time.Since(start)
			all.Done()
		})
		start = time.Now()
		b.StartTimer()
		f.edit(func(h *provision.Hub) { h.Disabled = true })
		all.Wait()
		b.StopTimer()
		slices.Sort(took)
		b.ReportMetric(float64(took[n*99/100].Microseconds())/1e3, "p99-ms")
		r.drain()
	}
}

// BenchmarkEndOne measures from the order against one device to its connection
// being told, while 1,000 are open.
func BenchmarkEndOne(b *testing.B) {
	const n = 1000
	r := newSite(b)
	f := newFleet(r, "factory")
	crowd(b, r, f, n, func(int) { b.Error("a bystander was ended") })
	e := newEnvoy(b, r).link(r)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		d := f.device(fmt.Sprintf("one-%d", i))
		s := e.mqtt(r, d)
		eventually(b, "it is open", d.confirmed(s.session))
		b.StartTimer()
		start := time.Now()
		d.disable()
		s.isEnded(link.AdministrativeAction)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
}

// BenchmarkAllowed is what following a connection costs its check.
func BenchmarkAllowed(b *testing.B) {
	r := newSite(b)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(b, r).link(r)
	b.Run("TCP", func(b *testing.B) {
		for b.Loop() {
			e.check(r, d, provision.TCP, 1)
		}
	})
	s := e.web()
	e.check(r, d, provision.HTTP, s.number)
	bare := provision.Session{
		ID: newSessionID(), Hub: d.Hub, Device: d.ID, Protocol: provision.HTTP, Envoy: e.id, Connection: s.number, Since: time.Now(),
	}
	b.Run("HTTP", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.tracker.Allowed(b.Context(), bare)
		}
	})
	bare.Envoy.Epoch += "-elsewhere"
	b.Run("HTTPElsewhere", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.tracker.Allowed(b.Context(), bare)
		}
	})
}
