package provision_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// byHand creates a device as an administrator does.
func (r *rig) byHand(h provision.Hub, name string, edit ...func(*provision.Device)) provision.Device {
	r.t.Helper()
	now := time.Now()
	d := provision.Device{ID: provision.DeviceIDOf(h.ID, name), Hub: h.ID, Name: name, Version: 1, CreatedAt: now, UpdatedAt: now}
	for _, e := range edit {
		e(&d)
	}
	d, _, err := r.store.CreateDevice(r.t.Context(), provision.Creation{
		Device: d, HubVersion: h.Version, Event: provision.Created.OnDevice(d, now),
	})
	if err != nil {
		r.t.Error(err)
	}
	return d
}

// TestFirstConnectionBinds: a device that an administrator created gets in where
// unknown ones do not, and what admits it first is what it is bound to.
func TestFirstConnectionBinds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, next := root(t, "Vendor"), root(t, "Vendor 2")
	hub := r.hub("factory", anchors(vendor.Certificate, next.Certificate), func(h *provision.Hub) { h.AutoProvisioning = false })
	r.byHand(hub, "SN-1", func(d *provision.Device) { d.AllowMultipleConnections = true })
	dev := leaf(t, vendor, "SN-1")
	r.expect(over(leaf(t, vendor, "SN-2")), provision.DeviceUnknown)

	dry := over(dev)
	dry.DryRun = true
	r.expect(dry, provision.DeviceKnown)
	if r.devices(hub)[0].Bound() {
		t.Fatal("a dry run bound the device")
	}
	r.expect(over(dev), provision.DeviceKnown)
	d := r.devices(hub)[0]
	key := trust.KeyHashOf(dev.Certificate)
	if d.FirstKey != key || d.CurrentKey != key || d.Anchor != trust.KeyHashOf(vendor.Certificate) || d.Issuer != d.Anchor ||
		d.ProvisionedFrom != source || d.Version != 2 || !d.AllowMultipleConnections {
		t.Errorf("bound as %+v", d)
	}
	r.expect(over(dev), provision.DeviceKnown)
	r.expect(over(leaf(t, next, "SN-1")), provision.DeviceIssuerChanged)
	if d = r.devices(hub)[0]; d.Version != 2 {
		t.Errorf("version %d after later connections", d.Version)
	}
	var reasons []string
	events, err := r.store.Events(t.Context(), hub.ID.Partition(r.store.Partitions()), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		reasons = append(reasons, e.Event.Reason)
	}
	if got := fmt.Sprint(reasons); got != "[created created bound]" {
		t.Errorf("events %s", got)
	}

	r.byHand(hub, "SN-3", func(d *provision.Device) { d.Disabled = true })
	r.expect(over(leaf(t, vendor, "SN-3")), provision.DeviceDisabled)
	for _, d := range r.devices(hub) {
		if d.Name == "SN-3" && d.Bound() {
			t.Error("a disabled device was bound")
		}
	}
	r.byHand(hub, "SN-4")
	r.store.cut(true)
	r.expect(over(leaf(t, vendor, "SN-4")), provision.StoreUnavailable)
}

// TestFirstConnectionsRace: of connections under two anchors one binds, and the
// others are judged by it.
func TestFirstConnectionsRace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, next := root(t, "Vendor"), root(t, "Vendor 2")
	hub := r.hub("factory", anchors(vendor.Certificate, next.Certificate))
	for round := range 10 {
		name := fmt.Sprint("SN-", round)
		var wg sync.WaitGroup
		decisions := make([]provision.Decision, 16)
		wg.Go(func() { r.byHand(hub, name) }) // while they connect
		for i := range decisions {
			signer := vendor
			if i%2 == 1 {
				signer = next
			}
			dev := leaf(t, signer, name)
			wg.Go(func() {
				for {
					decisions[i] = r.gate.Admit(t.Context(), over(dev))
					if decisions[i].Reason != provision.DeviceProvisioned {
						return // it or another one was first
					}
				}
			})
		}
		wg.Wait()
		var admitted [2]bool
		for i, d := range decisions {
			switch d.Reason {
			case provision.DeviceKnown:
				admitted[i%2] = true
			case provision.DeviceIssuerChanged:
			default:
				t.Errorf("connection %d: %s (%s)", i, d.Reason, d.Detail)
			}
		}
		if admitted[0] == admitted[1] {
			t.Errorf("round %d: admitted under both anchors or none: %v", round, admitted)
		}
	}
}

// TestUnboundMustEnd: whoever is connected as a device that never was, is not
// that device.
func TestUnboundMustEnd(t *testing.T) {
	t.Parallel()
	vendor := root(t, "Vendor")
	hub := provision.Hub{Anchors: [][]byte{vendor.Certificate.Raw}}
	d := provision.Device{Anchor: trust.KeyHashOf(vendor.Certificate)}
	if got := provision.MustEnd(provision.Session{}, &hub, &d, time.Now()); got != "" {
		t.Errorf("bound: %s", got)
	}
	if got := provision.MustEnd(provision.Session{}, &hub, &provision.Device{}, time.Now()); got != provision.EndDeviceGone {
		t.Errorf("not bound: %q", got)
	}
	hub.Anchors = nil
	if got := provision.MustEnd(provision.Session{}, &hub, &d, time.Now()); got != provision.EndAnchorRemoved {
		t.Errorf("anchor removed: %q", got)
	}
}
