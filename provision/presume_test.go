package provision_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// farStore is a store that every call to is a round trip, which it counts.
type farStore struct {
	*flakyStore
	looks, creations atomic.Int64
}

func (s *farStore) Remote() bool { return true }

func (s *farStore) Device(ctx context.Context, hub provision.HubID, name string) (provision.Device, error) {
	s.looks.Add(1)
	return s.flakyStore.Device(ctx, hub, name)
}

func (s *farStore) CreateDevice(ctx context.Context, c provision.Creation) (provision.Device, bool, error) {
	s.creations.Add(1)
	return s.flakyStore.CreateDevice(ctx, c)
}

// TestRoundTrips: a first connection is one, a known device's one, too, and what
// could not be created is looked for.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	far := &farStore{}
	r := newRig(t, func(c *provision.GateConfig) {
		far.flakyStore = c.Store.(*flakyStore)
		c.Store = far
	})
	trips := func(what string, looks, creations int64) {
		t.Helper()
		if l, c := far.looks.Swap(0), far.creations.Swap(0); l != looks || c != creations {
			t.Errorf("%s: %d look-ups and %d creations, want %d and %d", what, l, c, looks, creations)
		}
	}
	vendor := root(t, "Vendor Root")
	hub := r.hub("factory", anchors(vendor.Certificate))
	first, second, third := leaf(t, vendor, "SN-1"), leaf(t, vendor, "SN-2"), leaf(t, vendor, "SN-3")
	r.expect(over(first), provision.DeviceProvisioned)
	trips("first connection", 0, 1)
	r.expect(over(second), provision.DeviceProvisioned)
	trips("another", 0, 1)
	for _, name := range []string{"HAND-1", "HAND-2", "HAND-3"} {
		r.byHand(hub, name)
	}
	r.disable(hub, "HAND-1")
	r.expect(over(leaf(t, vendor, "HAND-1")), provision.DeviceDisabled)
	trips("known, found where it would have been created", 0, 1)
	r.expect(over(leaf(t, vendor, "HAND-2")), provision.DeviceKnown)
	trips("known, after a known one", 1, 0)
	r.expect(over(third), provision.DeviceProvisioned)
	trips("first connection, after a known one", 1, 1)
	r.expect(over(leaf(t, vendor, "SN-4")), provision.DeviceProvisioned)
	trips("first connection, after another", 0, 1)
	if n := len(r.devices(hub)); n != 7 {
		t.Errorf("%d devices", n)
	}
	// Rules keep unseen devices out, and no known one.
	_, err := r.store.UpdateHub(t.Context(), hub.ID, func(h *provision.Hub) error {
		h.Policy.Admission = []provision.AdmissionRule{{NamePattern: "none"}}
		return nil
	}, func(provision.Hub) provision.Event { return provision.Event{} })
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the rule is known", func() bool {
		return r.gate.Admit(t.Context(), over(leaf(t, vendor, "SN-5"))).Reason == provision.DeviceNotAllowed
	})
	r.expect(over(leaf(t, vendor, "HAND-3")), provision.DeviceKnown)
	if n := far.creations.Load(); n != 0 {
		t.Errorf("%d creations that the rules forbid were tried", n)
	}
}

// TestAKeyThatACreationMetWaits: a device that was taken for a new one and comes
// with another key waits for approval at its first try.
func TestAKeyThatACreationMetWaits(t *testing.T) {
	t.Parallel()
	far := &farStore{}
	r := newRig(t, func(c *provision.GateConfig) {
		far.flakyStore = c.Store.(*flakyStore)
		c.Store = far
	})
	vendor := root(t, "Vendor Root")
	hub := r.hub("factory", anchors(vendor.Certificate), func(h *provision.Hub) { h.Policy.Keys = provision.ApproveKeys })
	anchor := trust.KeyHashOf(vendor.Certificate)
	d := provision.Device{
		ID: provision.DeviceIDOf(hub.ID, "SN-1"), Hub: hub.ID, Name: "SN-1", Version: 1,
		FirstKey: trust.KeyHash{7}, CurrentKey: trust.KeyHash{7}, Anchor: anchor, Issuer: anchor,
	}
	if _, _, err := r.store.CreateDevice(t.Context(), provision.Creation{Device: d, HubVersion: hub.Version}); err != nil {
		t.Fatal(err)
	}
	other := leaf(t, vendor, "SN-1")
	r.expect(over(other), provision.DeviceKeyChanged)
	if n := far.creations.Load(); n != 1 {
		t.Fatalf("%d creations were tried, want 1", n)
	}
	d, err := r.store.Device(t.Context(), hub.ID, "SN-1")
	if want := trust.KeyHashOf(other.Certificate); err != nil || d.PendingKey != want {
		t.Errorf("the key that waits is %s (%v), want %s", d.PendingKey, err, want)
	}
}

// disable bans devices, as an operator does.
func (r *rig) disable(hub provision.Hub, names ...string) {
	r.t.Helper()
	for _, name := range names {
		_, err := r.store.UpdateDevice(r.t.Context(), provision.Update{
			Hub: hub.ID, Device: provision.DeviceIDOf(hub.ID, name),
			Change: func(d *provision.Device) error { d.Disabled = true; return nil },
			Event:  func(provision.Device) provision.Event { return provision.Event{} },
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
}
