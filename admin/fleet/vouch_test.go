package fleet_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// TestForeignCA: to sign another vendor's CA does not take its key. So whoever
// administers one project comes by none of that vendor's devices with it, and keeps
// nobody from installing that CA.
func TestForeignCA(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		r := newRig(t, open(t))
		mine, vendor := root(t, "Mine"), root(t, "Vendor")
		line := must(vendor.Intermediate("Line"))(t)
		crossRoot, crossLine := must(mine.CrossSign(vendor))(t), must(mine.CrossSign(line))(t)
		evil := must(r.fleet.CreateHub(t.Context(), other, fleet.HubSpec{Name: "evil"}))(t)
		must(r.fleet.AddAnchor(t.Context(), other, "evil", fleet.AnchorSpec{
			Certificate: pem(mine.Certificate), Challenge: challenge(t, mine, evil.ID.String())}))(t)
		must(r.fleet.UpdateHub(t.Context(), other, "evil", fleet.HubChange{AutoProvisioning: ptr(true)}))(t)
		upload := func(by access.Principal) error {
			_, err := r.fleet.AddIntermediates(t.Context(), by, "evil", pem(crossRoot, crossLine))
			return err
		}
		bySNI := func(by access.Principal, only bool) error {
			_, err := r.fleet.UpdateHub(t.Context(), by, "evil", fleet.HubChange{SNIOnly: &only})
			return err
		}
		chip, nobodys := connection(t, line, "SN-1"), connection(t, vendor, "SN-2")

		if err := upload(other); code(err) != string(fleet.Conflict) || !strings.Contains(err.Error(), "sni_only") {
			t.Errorf("uploaded to a hub that is found by issuer: %v", err)
		}
		if h := must(r.store.Hub(t.Context(), evil.ID))(t); len(h.Intermediates) != 0 || h.Proposal != nil {
			t.Errorf("after the refusal: %d intermediates, proposal %v", len(h.Intermediates), h.Proposal)
		}
		if err := bySNI(other, true); err != nil {
			t.Fatal(err)
		}
		if err := upload(other); err != nil {
			t.Fatal(err)
		}
		if err := bySNI(other, false); code(err) != string(fleet.Conflict) || !strings.Contains(err.Error(), "intermediates") {
			t.Errorf("found by issuer after all: %v", err)
		}
		r.admits(chip, provision.ChainIncomplete)
		r.admits(nobodys, provision.ChainIncomplete)

		// The owner, and whoever vouches for one, is not in its way.
		victim := must(r.fleet.CreateHub(t.Context(), tenant, fleet.HubSpec{Name: "victim"}))(t)
		print := trust.FingerprintOf(vendor.Certificate)
		must(r.fleet.AddAnchor(t.Context(), tenant, "victim", fleet.AnchorSpec{
			Certificate: pem(vendor.Certificate), Challenge: challenge(t, vendor, victim.ID.String())}))(t)
		if err := r.fleet.RemoveAnchor(t.Context(), tenant, "victim", print, false); err != nil {
			t.Fatal(err)
		}
		must(r.fleet.AddAnchor(t.Context(), admin, "victim", fleet.AnchorSpec{
			Certificate: pem(vendor.Certificate), WaiveProof: true, WaiverReason: "order 4711"}))(t)
		must(r.fleet.UpdateHub(t.Context(), tenant, "victim", fleet.HubChange{AutoProvisioning: ptr(true)}))(t)
		must(r.fleet.AddIntermediates(t.Context(), admin, "victim", pem(line.Certificate)))(t)
		if d := r.gate.Admit(t.Context(), chip); d.Reason != provision.DeviceProvisioned || d.HubName != "victim" {
			t.Errorf("the chip: %s on hub %q", d.Reason, d.HubName)
		}
		must(r.fleet.AddIntermediates(t.Context(), tenant, "victim", pem(line.Certificate)))(t) // it is there: no change

		// Which hub is in the way is for whoever sees all of them.
		if err := bySNI(admin, false); code(err) != string(fleet.AnchorRelated) || !strings.Contains(err.Error(), "hub victim") {
			t.Errorf("found by issuer beside the owner's: %v", err)
		}
		if err := r.fleet.RemoveIntermediate(t.Context(), other, "evil", trust.FingerprintOf(crossRoot)); err != nil {
			t.Fatal(err)
		}
		if err := r.fleet.RemoveIntermediate(t.Context(), other, "evil", trust.FingerprintOf(crossLine)); err != nil {
			t.Fatal(err)
		}
		if err := bySNI(other, false); err != nil {
			t.Errorf("found by its anchor: %v", err)
		}
		_, err := r.fleet.AddAnchor(t.Context(), other, "evil", fleet.AnchorSpec{
			Certificate: pem(vendor.Certificate), Challenge: challenge(t, vendor, evil.ID.String())})
		if code(err) != string(fleet.AnchorRelated) || strings.Contains(err.Error(), "victim") {
			t.Errorf("the owner's CA: %v", err)
		}
		if err := upload(admin); code(err) != string(fleet.AnchorRelated) || !strings.Contains(err.Error(), "hub victim") {
			t.Errorf("uploaded by an admin of all projects: %v", err)
		}
	})
}

// meddled has somebody change a hub after it was looked up.
type meddled struct {
	store

	meddle atomic.Pointer[func()]
}

func (m *meddled) HubByName(ctx context.Context, name string) (provision.Hub, error) {
	h, err := m.store.HubByName(ctx, name)
	if meddle := m.meddle.Swap(nil); meddle != nil {
		(*meddle)()
	}
	return h, err
}

// TestFoundByIssuerMeanwhile: a hub that was found by issuer when a change of it
// began is compared with the others all the same, if it is to be so when it ends.
func TestFoundByIssuerMeanwhile(t *testing.T) {
	t.Parallel()
	m := &meddled{store: openBolt(t)}
	r := newRig(t, m)
	vendor := root(t, "Vendor")
	narrow := rulesOf(provision.AdmissionRule{NamePattern: "SN-.*"})
	a, b := r.hub("a", func(s *fleet.HubSpec) { s.SNIOnly = true }), r.hub("b")
	r.set(a, narrow)
	r.set(b, narrow)
	r.trusts(a, vendor)
	meddle := func() {
		r.set(b, fleet.HubChange{SNIOnly: ptr(true)})
		r.trusts(b, vendor)
	}
	m.meddle.Store(&meddle)
	if _, err := r.fleet.UpdateHub(t.Context(), admin, "b", fleet.HubChange{SNIOnly: ptr(false)}); code(err) != string(fleet.AnchorRelated) {
		t.Errorf("two hubs trust one CA, and one is found by it: %v", err)
	}
}
