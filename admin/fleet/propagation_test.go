package fleet_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// bound is when a change is in force everywhere at the latest, the change feed
// cut or not.
const bound = 2 * time.Second

// proxy stands between a replica and the server. What goes over a connection
// that reads the change feed can be held up, both ways, while all else passes.
type proxy struct {
	listener net.Listener
	target   string
	cut      atomic.Bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.carry(client) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return p
}

func (p *proxy) carry(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	var isFeed atomic.Bool
	pass := func(from, to net.Conn, sent bool) {
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				break
			}
			if sent && bytes.Contains(bytes.ToLower(buffer[:n]), []byte("xread")) {
				isFeed.Store(true)
			}
			if isFeed.Load() && p.cut.Load() {
				continue // into the void
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		_, _ = client.Close(), server.Close()
	}
	var both sync.WaitGroup
	both.Go(func() { pass(client, server, true) })
	both.Go(func() { pass(server, client, false) })
	both.Wait()
}

// replicas are two processes on one Redis, the second by way of a proxy.
func replicas(t testing.TB) (here, there *rig, wire *proxy) {
	t.Helper()
	server := redistest.Start(t, "--appendonly", "no")
	wire = newProxy(t, server.Addr())
	s, err := redisstore.Open(t.Context(), redisstore.Config{
		URL: "redis://" + wire.listener.Addr().String() + "/0", Partitions: 8, Timeout: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return newRig(t, openRedis(t, server)), newRig(t, s), wire
}

// becomes asks there until the decision is another one, and returns how long
// after the change was acknowledged the last check by the old settings began,
// and how long it took until the first by the new.
func (r *rig) becomes(c provision.Connection, acknowledged time.Time, want provision.Reason) (stale, took time.Duration) {
	r.t.Helper()
	for {
		began := time.Now()
		d := r.gate.Admit(r.t.Context(), c)
		if d.Reason == want {
			return stale, time.Since(acknowledged)
		}
		stale = began.Sub(acknowledged)
		if stale > 30*time.Second {
			r.t.Fatalf("%s (%s), want %s", d.Reason, d.Detail, want)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// TestChangesAreInForceOnAllReplicas: within the bound whatever happens to the
// change feed, and at once where it was changed.
func TestChangesAreInForceOnAllReplicas(t *testing.T) {
	t.Parallel()
	here, there, wire := replicas(t)
	ca, second := root(t, "Acme"), root(t, "Acme 2")
	h := here.hub("factory")
	here.trusts(h, ca)
	here.trusts(h, second)
	here.set(h, fleet.HubChange{AutoProvisioning: ptr(true)})
	ctx := t.Context()
	known := connection(t, ca, "SN-1")
	there.becomes(known, time.Now(), provision.DeviceProvisioned)
	there.becomes(known, time.Now(), provision.DeviceKnown)
	other := connection(t, second, "SN-2")
	there.becomes(other, time.Now(), provision.DeviceProvisioned)
	for _, cut := range []bool{false, true} {
		byHand, newcomer := fmt.Sprintf("by-hand-%t", cut), fmt.Sprintf("new-%t", cut)
		for _, step := range []struct {
			name string
			do   func() error
			who  provision.Connection
			want provision.Reason
		}{
			{"hub is disabled", func() error {
				_, err := here.fleet.UpdateHub(ctx, admin, "factory", fleet.HubChange{Enabled: ptr(false)})
				return err
			}, known, provision.HubDisabled},
			{"hub is enabled", func() error {
				_, err := here.fleet.UpdateHub(ctx, admin, "factory", fleet.HubChange{Enabled: ptr(true)})
				return err
			}, known, provision.DeviceKnown},
			{"device is disabled", func() error {
				_, err := here.fleet.UpdateDevice(ctx, admin, "factory", "SN-1", fleet.DeviceChange{Enabled: ptr(false)})
				return err
			}, known, provision.DeviceDisabled},
			{"device is enabled", func() error {
				_, err := here.fleet.UpdateDevice(ctx, admin, "factory", "SN-1", fleet.DeviceChange{Enabled: ptr(true)})
				return err
			}, known, provision.DeviceKnown},
			{"auto-provisioning is turned off", func() error {
				_, err := here.fleet.UpdateHub(ctx, admin, "factory", fleet.HubChange{AutoProvisioning: ptr(false)})
				return err
			}, connection(t, ca, byHand), provision.DeviceUnknown},
			{"a device is made by hand", func() error {
				_, err := here.fleet.CreateDevice(ctx, admin, "factory", fleet.DeviceSpec{Name: byHand})
				return err
			}, connection(t, ca, byHand), provision.DeviceKnown},
			{"auto-provisioning is turned on", func() error {
				_, err := here.fleet.UpdateHub(ctx, admin, "factory", fleet.HubChange{AutoProvisioning: ptr(true)})
				return err
			}, connection(t, ca, newcomer), provision.DeviceProvisioned},
		} {
			wire.cut.Store(cut)
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			acknowledged := time.Now()
			if step.want.Outcome() == provision.Deny {
				if d := here.gate.Admit(ctx, step.who); d.Reason != step.want && step.name != "device is disabled" {
					t.Errorf("%s: here it is %s right after", step.name, d.Reason)
				}
			}
			stale, took := there.becomes(step.who, acknowledged, step.want)
			t.Logf("%s, feed cut: %t: in force after %s", step.name, cut, took.Round(100*time.Microsecond))
			if stale > bound {
				t.Errorf("%s, feed cut: %t: a check was decided by the old settings %s after the change", step.name, cut, stale)
			}
			wire.cut.Store(false)
			// The next cut comes while everything is proved to be current, and
			// known here.
			eventually(t, "the feed is there again", there.isFresh)
			there.gate.Admit(ctx, known)
		}
	}
}

// isFresh reports whether the feed proves all that is cached to be current.
func (r *rig) isFresh() bool {
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "hubgate_store_up" })
	return families[i].GetMetric()[0].GetGauge().GetValue() == 1
}

// BenchmarkPropagation tells how long after its acknowledgement a change is in
// force on another replica.
func BenchmarkPropagation(b *testing.B) {
	here, there, _ := replicas(b)
	ca := root(b, "Acme")
	h := here.hub("factory")
	here.trusts(h, ca)
	here.set(h, fleet.HubChange{AutoProvisioning: ptr(true)})
	known := connection(b, ca, "SN-1")
	there.becomes(known, time.Now(), provision.DeviceProvisioned)
	for _, kind := range []string{"hub", "device"} {
		b.Run(kind, func(b *testing.B) {
			var all []time.Duration
			for i := 0; b.Loop(); i++ {
				enabled, want := i%2 == 1, provision.DeviceKnown
				var err error
				if kind == "hub" {
					if !enabled {
						want = provision.HubDisabled
					}
					_, err = here.fleet.UpdateHub(b.Context(), admin, "factory", fleet.HubChange{Enabled: &enabled})
				} else {
					if !enabled {
						want = provision.DeviceDisabled
					}
					_, err = here.fleet.UpdateDevice(b.Context(), admin, "factory", "SN-1", fleet.DeviceChange{Enabled: &enabled})
				}
				if err != nil {
					b.Fatal(err)
				}
				_, took := there.becomes(known, time.Now(), want)
				all = append(all, took)
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
			_, _ = here.fleet.UpdateHub(b.Context(), admin, "factory", fleet.HubChange{Enabled: ptr(true)})
			_, _ = here.fleet.UpdateDevice(b.Context(), admin, "factory", "SN-1", fleet.DeviceChange{Enabled: ptr(true)})
		})
	}
}
