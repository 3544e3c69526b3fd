package redisstore

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// openWithSession returns a store with a device and a confirmed session of it,
// whose Envoy's lease holds.
func openWithSession(t *testing.T) (*Store, provision.Session) {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: redistest.Start(t, "--appendonly", "no").SocketURL(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	hub, err := s.CreateHub(t.Context(), provision.Hub{ID: provision.NewHubID(), Name: "factory"}, provision.Event{})
	if err != nil {
		t.Fatal(err)
	}
	d := provision.Device{ID: provision.DeviceIDOf(hub.ID, "chip"), Hub: hub.ID, Name: "chip", Version: 1}
	if _, _, err := s.CreateDevice(t.Context(), provision.Creation{Device: d, HubVersion: hub.Version}); err != nil {
		t.Fatal(err)
	}
	session := provision.Session{
		ID: uuid.Must(uuid.NewV7()).String(), Hub: hub.ID, Device: d.ID, DeviceName: d.Name, Confirmed: true,
		Envoy: provision.EnvoyID{Node: "edge", Epoch: "1"}, Since: time.Now().Add(-time.Hour),
	}
	if err := s.RenewEnvoy(t.Context(), session.Envoy, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	return s, session
}

// TestReapSparesWhatWasPutAgain: between the moment a session is found dead and
// the moment it is removed, its Envoy may be back and put it again as it was.
func TestReapSparesWhatWasPutAgain(t *testing.T) {
	t.Parallel()
	s, session := openWithSession(t)
	id, err := record.ParseSessionID(session.ID)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := s.readSessions(t.Context(), []sessionKey{{id, session.Device, session.Hub}})
	if err != nil {
		t.Fatal(err)
	}
	missing := storedSession{key: dead[0].key, session: provision.Session{Envoy: session.Envoy}}
	if _, _, err := s.PutSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	if err := s.reap(t.Context(), append(dead, missing)); err != nil {
		t.Fatal(err)
	}
	for what, list := range map[string]func() ([]provision.Session, error){
		"device": func() ([]provision.Session, error) { return s.DeviceSessions(t.Context(), session.Hub, session.Device) },
		"envoy":  func() ([]provision.Session, error) { return s.EnvoySessions(t.Context(), session.Envoy) },
		"hub": func() ([]provision.Session, error) {
			page, _, err := s.HubSessions(t.Context(), session.Hub, "", 10)
			return page, err
		},
	} {
		if left, err := list(); err != nil || len(left) != 1 {
			t.Errorf("sessions of the %s: %v, %v", what, left, err)
		}
	}
}

// TestLeasesRemembered: only a lease that holds is remembered, for a second and
// not longer than it holds.
func TestLeasesRemembered(t *testing.T) {
	t.Parallel()
	var l leases
	now, long, short, ended := time.Now(), provision.EnvoyID{Node: "long"}, provision.EnvoyID{Node: "short"}, provision.EnvoyID{Node: "ended"}
	l.set(map[provision.EnvoyID]time.Duration{long: time.Hour, short: leaseCached / 2, ended: time.Hour}, now)
	l.set(map[provision.EnvoyID]time.Duration{ended: 0}, now)
	for _, c := range []struct {
		envoy provision.EnvoyID
		after time.Duration
		want  bool
	}{
		{long, 0, true}, {long, leaseCached - 1, true}, {long, leaseCached, false},
		{short, leaseCached/2 - 1, true}, {short, leaseCached / 2, false}, {ended, 0, false},
	} {
		if got := l.hold(c.envoy, now.Add(c.after)); got != c.want {
			t.Errorf("%s after %s: %t", c.envoy.Node, c.after, got)
		}
	}
	l.set(nil, now.Add(leaseCached))
	if len(l.holds) > 0 {
		t.Errorf("%d leases are remembered though nobody asks", len(l.holds))
	}
}

// roundTrips counts the requests of a client, a pipeline as one.
type roundTrips struct{ n atomic.Int64 }

func (r *roundTrips) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (r *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.n.Add(1)
		return next(ctx, cmd)
	}
}

func (r *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.n.Add(1)
		return next(ctx, cmds)
	}
}

func TestSessionRoundTrips(t *testing.T) {
	t.Parallel()
	s, session := openWithSession(t)
	now := time.Now()
	s.now = func() time.Time { return now }
	count := &roundTrips{}
	s.client.(*redis.Client).AddHook(count)
	ctx := t.Context()
	later := func() { now = now.Add(2 * leaseCached) } // nothing is remembered of leases
	later()
	for _, step := range []struct {
		what  string
		begin func()
		call  func() error
		want  int64
	}{
		{"put", nil, func() error { _, _, err := s.PutSession(ctx, session); return err }, 1},
		{"device", later, func() error { _, err := s.DeviceSessions(ctx, session.Hub, session.Device); return err }, 2},
		{"device again", nil, func() error { _, err := s.DeviceSessions(ctx, session.Hub, session.Device); return err }, 1},
		{"hub", later, func() error { _, _, err := s.HubSessions(ctx, session.Hub, "", 10); return err }, 3},
		{"envoy", later, func() error { _, err := s.EnvoySessions(ctx, session.Envoy); return err }, 3},
		{"renewal", nil, func() error { return s.RenewEnvoy(ctx, session.Envoy, time.Hour) }, 1},
		{"device after the renewal", nil, func() error { _, err := s.DeviceSessions(ctx, session.Hub, session.Device); return err }, 1},
		{"removal", nil, func() error { return s.RemoveSession(ctx, session) }, 1},
		{"announcement", nil, func() error { return s.AnnounceSessions(ctx, session.Hub, session.Device) }, 1},
	} {
		if step.begin != nil {
			step.begin()
		}
		// A script is sent twice when the server sees it first.
		_ = step.call()
		if step.begin != nil {
			step.begin()
		}
		before := count.n.Load()
		if err := step.call(); err != nil {
			t.Fatal(err)
		}
		if n := count.n.Load() - before; n != step.want {
			t.Errorf("%s: %d round trips, want %d", step.what, n, step.want)
		}
	}
}
