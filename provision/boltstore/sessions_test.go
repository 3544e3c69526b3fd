package boltstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
)

// TestDeadSessionsAreForgotten: memory holds what is kept, and nothing else.
func TestDeadSessionsAreForgotten(t *testing.T) {
	t.Parallel()
	clock := &storetest.Clock{}
	s := start(t, Config{Now: clock.Now})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	const devices = 100
	if err := storetest.CreateDevices(t.Context(), s, hub, devices); err != nil {
		t.Fatal(err)
	}
	all, _, err := s.Devices(t.Context(), hub.ID, provision.ByName, "", devices)
	if err != nil {
		t.Fatal(err)
	}
	held := func() string {
		s.sessions.mu.Lock()
		defer s.sessions.mu.Unlock()
		return fmt.Sprintf("%d devices, %d entries, %d leases", len(s.sessions.devices), len(s.sessions.hubs[hub.ID]), len(s.sessions.leases))
	}
	for i, d := range all {
		session := storetest.NewSession(d, provision.EnvoyID{Node: "edge", Epoch: fmt.Sprint(i)})
		session.Confirmed = i%2 == 0
		if err := s.RenewEnvoy(t.Context(), session.Envoy, time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.PutSession(t.Context(), session); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(provision.LostEnvoyKept)
	alive := provision.EnvoyID{Node: "edge", Epoch: "alive"}
	step := func(want string) {
		t.Helper()
		if err := s.RenewEnvoy(t.Context(), alive, time.Hour); err != nil {
			t.Fatal(err)
		}
		if have := held(); have != want {
			t.Errorf("%s are held, want %s", have, want)
		}
	}
	step("50 devices, 50 entries, 101 leases")
	clock.Advance(time.Minute)
	step("0 devices, 0 entries, 1 leases")
}

func BenchmarkPutSession(b *testing.B) {
	s, hub := benchmarkStore(b)
	c := storetest.NewCreation(hub, "chip")
	if _, _, err := s.CreateDevice(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	session := storetest.NewSession(c.Device, provision.EnvoyID{Node: "edge", Epoch: "1"})
	for b.Loop() {
		session.ID = uuid.NewString()
		if _, _, err := s.PutSession(b.Context(), session); err != nil {
			b.Fatal(err)
		}
		if err := s.RemoveSession(b.Context(), session); err != nil {
			b.Fatal(err)
		}
	}
}
