package provision_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

func policy(p provision.Policy) func(*provision.Hub) {
	return func(h *provision.Hub) { h.Policy = p }
}

// denied counts the checks that were denied for the reason.
func (r *rig) denied(reason provision.Reason) (n float64) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "hubgate_checks_total" && l.GetName() == "reason" && l.GetValue() == string(reason) {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// TestQuota: what is refused is a first connection, never a known device, and
// an administrator may exceed it.
func TestQuota(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor Root")
	hub := r.hub("factory", anchors(vendor.Certificate), policy(provision.Policy{MaxDevices: 2}))
	first, second, third := leaf(t, vendor, "SN-1"), leaf(t, vendor, "SN-2"), leaf(t, vendor, "SN-3")
	r.expect(over(first), provision.DeviceProvisioned)
	r.expect(over(second), provision.DeviceProvisioned)
	if d := r.expect(over(third), provision.QuotaExceeded); d.RetryAfter <= 0 {
		t.Errorf("no time to try again: %+v", d)
	}
	r.expect(over(first), provision.DeviceKnown)
	if n := len(r.devices(hub)); n != 2 {
		t.Errorf("%d devices", n)
	}
	_, err := r.store.PutDevices(t.Context(), hub.ID, []provision.Put{{
		Name:  "SN-3",
		Merge: func(*provision.Device) (provision.Device, error) { return provision.Device{CreatedAt: time.Now()}, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.expect(over(third), provision.DeviceKnown)
	r.expect(over(leaf(t, vendor, "SN-4")), provision.QuotaExceeded)
	if n := r.denied(provision.QuotaExceeded); n != 2 {
		t.Errorf("%v denials are counted, want 2", n)
	}
}

// TestDryRunTellsOfLimits: an explained check says what a first connection would
// meet, and uses none of it up.
func TestDryRunTellsOfLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor Root")
	hub := r.hub("factory", anchors(vendor.Certificate))
	explain := func(name string, want provision.Reason, details ...string) {
		t.Helper()
		for range 3 {
			d := r.expect(over(leaf(t, vendor, name), dryRun), want)
			for _, detail := range details {
				if !slices.ContainsFunc(d.Steps, func(s provision.Step) bool { return s.Name == "device" && strings.Contains(s.Detail, detail) }) {
					t.Errorf("%s: no step says %q: %+v", name, detail, d.Steps)
				}
			}
		}
	}
	explain("SN-1", provision.DeviceProvisioned, "first connection")
	hub = r.policy(hub, provision.Policy{MaxDevices: 1, Admission: []provision.AdmissionRule{{Claims: provision.ClaimOnce}}})
	explain("SN-1", provision.DeviceNotAllowed, "the name is not on the hub's claim list")
	if _, err := r.store.PutClaims(t.Context(), hub.ID, []string{"SN-1", "SN-2"}); err != nil {
		t.Fatal(err)
	}
	explain("SN-1", provision.DeviceProvisioned, "as the hub's claim list has the name")
	r.expect(over(leaf(t, vendor, "SN-1")), provision.DeviceProvisioned)
	explain("SN-1", provision.DeviceKnown)
	explain("SN-2", provision.QuotaExceeded, "1 of 1")
	err := r.store.DeleteDevice(t.Context(), hub.ID, provision.DeviceIDOf(hub.ID, "SN-1"), func(d provision.Device) provision.Event { return provision.Deleted.OnDevice(d, time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the device is forgotten", func() bool {
		return r.gate.Admit(t.Context(), over(leaf(t, vendor, "SN-1"), dryRun)).Reason == provision.DeviceNotAllowed
	})
	explain("SN-1", provision.DeviceNotAllowed, "the name has created a device before")
	r.policy(hub, provision.Policy{FirstConnectionsPerSecond: 1, Admission: []provision.AdmissionRule{{Hook: "https://hook.example.com/"}}})
	explain("SN-3", provision.DeviceProvisioned, "if it is one of the hub's first 1 in that second", "which only the connection itself can tell",
		"and if https://hook.example.com/ allows it")
	if n := len(r.devices(hub)); n != 0 {
		t.Errorf("%d devices", n)
	}
}

// TestRate: a hub takes its first connections one after the other, and says when
// the next; known devices need no token.
func TestRate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor Root")
	r.hub("factory", anchors(vendor.Certificate), policy(provision.Policy{FirstConnectionsPerSecond: 1}))
	known := leaf(t, vendor, "SN-0")
	r.expect(over(known), provision.DeviceProvisioned)
	var refused provision.Decision
	for n := 1; refused.Reason != provision.RateLimited; n++ {
		if refused = r.gate.Admit(t.Context(), over(leaf(t, vendor, fmt.Sprint("SN-", n)))); n > 100 {
			t.Fatal("none was refused")
		}
	}
	if refused.RetryAfter <= 0 || refused.RetryAfter > time.Second {
		t.Errorf("try again after %s", refused.RetryAfter)
	}
	r.expect(over(known), provision.DeviceKnown)
	r.eventually("another gets in", func() bool {
		return r.gate.Admit(t.Context(), over(leaf(t, vendor, refused.DeviceName))).Reason == provision.DeviceProvisioned
	})
}

// TestClaims: the list binds under the anchor whose rule asks for it, and first
// connections only.
func TestClaims(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	shared, own := root(t, "Shared Vendor"), root(t, "Own Line")
	hub := r.hub("factory", anchors(shared.Certificate, own.Certificate), policy(provision.Policy{Admission: []provision.AdmissionRule{
		{Anchor: trust.KeyHashOf(shared.Certificate), Claims: provision.ClaimOnce},
	}}))
	mine, foreign := leaf(t, shared, "SN-1"), leaf(t, shared, "SN-2")
	r.expect(over(leaf(t, own, "LINE-1")), provision.DeviceProvisioned)
	r.expect(over(mine), provision.DeviceNotAllowed)
	if _, err := r.store.PutClaims(t.Context(), hub.ID, []string{"SN-1"}); err != nil {
		t.Fatal(err)
	}
	r.expect(over(mine), provision.DeviceProvisioned)
	r.expect(over(mine), provision.DeviceKnown)
	r.expect(over(foreign), provision.DeviceNotAllowed)
	id := provision.DeviceIDOf(hub.ID, "SN-1")
	err := r.store.DeleteDevice(t.Context(), hub.ID, id, func(d provision.Device) provision.Event { return provision.Deleted.OnDevice(d, time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("the device is forgotten", func() bool {
		return r.gate.Admit(t.Context(), over(mine)).Reason == provision.DeviceNotAllowed
	})
	if _, err := r.store.RemoveClaims(t.Context(), hub.ID, []string{"SN-1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.PutClaims(t.Context(), hub.ID, []string{"SN-1"}); err != nil {
		t.Fatal(err)
	}
	r.expect(over(mine), provision.DeviceProvisioned)
}
