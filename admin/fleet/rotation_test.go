package fleet_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// rulesOf replaces a hub's admission rules.
func rulesOf(rules ...provision.AdmissionRule) fleet.HubChange {
	return fleet.HubChange{Policy: &fleet.PolicyChange{Admission: append([]provision.AdmissionRule{}, rules...)}}
}

// TestRotation: the successor of a CA admits what the CA has admitted, devices
// move over as they connect, and the old one goes when none is left.
func TestRotation(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		r := newRig(t, open(t))
		h := r.hub("factory")
		old, next, stranger := root(t, "Acme 1"), root(t, "Acme 2"), root(t, "Stranger")
		r.trusts(h, old)
		r.trusts(h, stranger)
		r.set(h, fleet.HubChange{AutoProvisioning: ptr(true)})
		print := trust.FingerprintOf(old.Certificate)
		add := func(rotates trust.Fingerprint) (fleet.Anchor, error) {
			return r.fleet.AddAnchor(t.Context(), admin, "factory", fleet.AnchorSpec{
				Certificate: pem(next.Certificate), Challenge: challenge(t, next, h.ID.String()), Rotates: rotates,
			})
		}
		if _, err := add(trust.Fingerprint{1}); code(err) != string(fleet.Invalid) {
			t.Errorf("in the place of what is not there: %v", err)
		}
		must(add(print))(t)
		states := func(want ...bool) {
			t.Helper()
			for i, a := range must(r.fleet.Anchors(t.Context(), viewer, "factory"))(t) {
				if grouped := a.Facts.Group != ""; a.Superseded != want[i] || grouped != (i != 1) {
					t.Errorf("anchor %d: superseded %t, in a group %t", i, a.Superseded, grouped)
				}
			}
		}
		states(true, false, false)
		r.admits(connection(t, old, "SN-1"), provision.DeviceProvisioned)
		r.admits(connection(t, stranger, "SN-1"), provision.DeviceIssuerChanged)
		if err := r.fleet.RemoveAnchor(t.Context(), admin, "factory", print, false); code(err) != string(fleet.InUse) {
			t.Errorf("removed while a device is left: %v", err)
		}
		r.admits(connection(t, next, "SN-1"), provision.DeviceKnown)
		if anchors := must(r.fleet.Anchors(t.Context(), viewer, "factory"))(t); anchors[0].Devices != 0 || anchors[2].Devices != 1 {
			t.Errorf("devices by anchor: %d, %d", anchors[0].Devices, anchors[2].Devices)
		}
		// A rule for the old one would hold for nobody once it is gone.
		key := trust.KeyHashOf(old.Certificate)
		r.set(h, rulesOf(provision.AdmissionRule{Anchor: key, NamePattern: "SN-.*"}))
		r.admits(connection(t, next, "XX-1"), provision.DeviceNotAllowed)
		if err := r.fleet.RemoveAnchor(t.Context(), admin, "factory", print, false); code(err) != string(fleet.Conflict) {
			t.Errorf("removed with a rule of its own: %v", err)
		}
		r.set(h, rulesOf(provision.AdmissionRule{Anchor: trust.KeyHashOf(next.Certificate), NamePattern: "SN-.*"}))
		if err := r.fleet.RemoveAnchor(t.Context(), admin, "factory", print, false); err != nil {
			t.Fatal(err)
		}
		if _, err := r.fleet.UpdateHub(t.Context(), admin, "factory", rulesOf(provision.AdmissionRule{Anchor: key, NamePattern: "SN-.*"})); code(err) != string(fleet.Invalid) {
			t.Errorf("a rule for a CA that is gone: %v", err)
		}
		r.admits(connection(t, next, "SN-1"), provision.DeviceKnown)
		r.admits(connection(t, next, "XX-1"), provision.DeviceNotAllowed)
	})
}

// admits asks the gate once it knows what the store has.
func (r *rig) admits(c provision.Connection, want provision.Reason) {
	r.t.Helper()
	if d := r.gate.Admit(r.t.Context(), c); d.Reason != want {
		r.t.Errorf("%s (%s), want %s", d.Reason, d.Detail, want)
	}
}

// TestSharedCA: two hubs trust one CA only while both keep their devices apart,
// whatever they are changed to, and by whom, at once.
func TestSharedCA(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		rigs := []*rig{newRig(t, open(t)), newRig(t, open(t))}
		vendor := root(t, "Vendor")
		narrow := rulesOf(provision.AdmissionRule{NamePattern: "SN-.*"})
		apart := func(r *rig, name string) fleet.Hub {
			h := r.hub(name, func(s *fleet.HubSpec) { s.SNIOnly = true })
			return r.set(h, narrow)
		}
		trusts := func(r *rig, h fleet.Hub) error {
			_, err := r.fleet.AddAnchor(t.Context(), admin, h.Name, fleet.AnchorSpec{
				Certificate: pem(vendor.Certificate), Challenge: challenge(t, vendor, h.ID.String()),
			})
			return err
		}
		a := apart(rigs[0], "a")
		if err := trusts(rigs[0], a); err != nil {
			t.Fatal(err)
		}
		if err := trusts(rigs[0], rigs[0].hub("open")); code(err) != string(fleet.AnchorRelated) {
			t.Errorf("a hub that is not apart: %v", err)
		}
		b := apart(rigs[0], "b")
		if err := trusts(rigs[0], b); err != nil {
			t.Fatal(err)
		}
		for what, c := range map[string]fleet.HubChange{
			"the rules": rulesOf(), "SNI": {SNIOnly: ptr(false)},
		} {
			if _, err := rigs[0].fleet.UpdateHub(t.Context(), admin, "a", c); code(err) != string(fleet.AnchorRelated) {
				t.Errorf("%s given up: %v", what, err)
			}
		}
		// One hub gives its rules up while another comes to trust the CA.
		if err := rigs[0].fleet.RemoveAnchor(t.Context(), admin, "b", trust.FingerprintOf(vendor.Certificate), false); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			var both sync.WaitGroup
			var errs [2]error
			both.Go(func() { errs[0] = trusts(rigs[0], b) })
			both.Go(func() { _, errs[1] = rigs[1].fleet.UpdateHub(t.Context(), admin, "a", rulesOf()) })
			both.Wait()
			if errs[0] == nil && errs[1] == nil {
				t.Fatal("one hub without rules trusts the CA of another")
			}
			for _, err := range errs {
				var refusal *fleet.Refusal
				if err != nil && !errors.As(err, &refusal) {
					t.Errorf("refused with %v", err)
				}
			}
			if errs[0] == nil {
				if err := rigs[0].fleet.RemoveAnchor(t.Context(), admin, "b", trust.FingerprintOf(vendor.Certificate), false); err != nil {
					t.Fatal(err)
				}
			}
			if errs[1] == nil {
				rigs[1].set(a, narrow)
			}
		}
	})
}
