package provision_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// verified are the facts of a connection whose chain verified on the hub, and
// whose device was looked up in vain.
func verified(t *testing.T, h provision.Hub, id *pki.Identity) *provision.Facts {
	t.Helper()
	c := over(id)
	f := &provision.Facts{Connection: c, Now: time.Now(), Hub: &h, HubFrom: "SNI", Looked: true}
	f.Chain = must[*trust.Chain](t)(trust.ParseChain(c.Leaf, c.Presented))
	var roots []*x509.Certificate
	for _, der := range h.Anchors {
		roots = append(roots, must[*x509.Certificate](t)(x509.ParseCertificate(der)))
	}
	f.Path = must[trust.Path](t)(must[*trust.Bundle](t)(trust.NewBundle(roots, nil)).Verify(f.Chain, trust.Options{Now: f.Now}))
	f.Rules = must[*provision.Rules](t)(provision.NewRules(h))
	return f
}

func TestAdmissionRules(t *testing.T) {
	t.Parallel()
	vendor, other := root(t, "Vendor"), root(t, "Other")
	lineA, lineB := must[*pki.Authority](t)(vendor.Intermediate("Line A")), must[*pki.Authority](t)(vendor.Intermediate("Line B"))
	// The same name as line A's, another key.
	twin := must[*pki.Authority](t)(vendor.Intermediate("Line A"))
	key := func(a *pki.Authority) trust.KeyHash { return trust.KeyHashOf(a.Certificate) }
	name := func(pattern string) provision.AdmissionRule { return provision.AdmissionRule{NamePattern: pattern} }
	issuer := func(a *pki.Authority) provision.AdmissionRule { return provision.AdmissionRule{Issuer: key(a)} }
	of := func(anchor *pki.Authority, r provision.AdmissionRule) provision.AdmissionRule {
		r.Anchor = key(anchor)
		return r
	}
	tests := []struct {
		what  string
		rules []provision.AdmissionRule
		by    *pki.Authority
		cn    string
		want  provision.Reason
	}{
		{"no rule", nil, lineA, "SN-1", provision.DeviceProvisioned},
		{"the name matches", []provision.AdmissionRule{name("SN-[0-9]+")}, lineA, "SN-1", provision.DeviceProvisioned},
		{"more than the pattern behind", []provision.AdmissionRule{name("SN-[0-9]+")}, lineA, "SN-1x", provision.DeviceNotAllowed},
		{"more than the pattern before", []provision.AdmissionRule{name("SN-[0-9]+")}, lineA, "xSN-1", provision.DeviceNotAllowed},
		{"an alternative is no way round the ends", []provision.AdmissionRule{name("SN-1|SN-2")}, lineA, "SN-1-of-somebody", provision.DeviceNotAllowed},
		{"another case", []provision.AdmissionRule{name("SN-[0-9]+")}, lineA, "sn-1", provision.DeviceNotAllowed},
		{"case does not matter", []provision.AdmissionRule{name("(?i)SN-[0-9]+")}, lineA, "sn-1", provision.DeviceProvisioned},
		{"the pinned issuer", []provision.AdmissionRule{issuer(lineA)}, lineA, "SN-1", provision.DeviceProvisioned},
		{"another issuer under the same anchor", []provision.AdmissionRule{issuer(lineA)}, lineB, "SN-1", provision.DeviceNotAllowed},
		{"an issuer of the pinned one's name", []provision.AdmissionRule{issuer(lineA)}, twin, "SN-1", provision.DeviceNotAllowed},
		{"the anchor is the pinned issuer", []provision.AdmissionRule{issuer(vendor)}, vendor, "SN-1", provision.DeviceProvisioned},
		{"the anchor is above the pinned issuer", []provision.AdmissionRule{issuer(vendor)}, lineA, "SN-1", provision.DeviceNotAllowed},
		{"a rule of another anchor", []provision.AdmissionRule{of(other, name("none"))}, lineA, "SN-1", provision.DeviceProvisioned},
		{"a rule of this anchor", []provision.AdmissionRule{of(vendor, name("none"))}, lineA, "SN-1", provision.DeviceNotAllowed},
		{"both rules are met", []provision.AdmissionRule{name("SN-.*"), of(vendor, issuer(lineA))}, lineA, "SN-1", provision.DeviceProvisioned},
		{"the first of two is not", []provision.AdmissionRule{name("XX-.*"), of(vendor, issuer(lineA))}, lineA, "SN-1", provision.DeviceNotAllowed},
		{"the second of two is not", []provision.AdmissionRule{name("SN-.*"), of(vendor, issuer(lineA))}, lineB, "SN-1", provision.DeviceNotAllowed},
		{"one rule with two conditions", []provision.AdmissionRule{{NamePattern: "SN-.*", Issuer: key(lineA)}}, lineB, "SN-1", provision.DeviceNotAllowed},
		{"the claim list is the store's", []provision.AdmissionRule{{Claims: provision.ClaimOnce}}, lineA, "SN-1", provision.DeviceProvisioned},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := provision.Hub{ID: provision.NewHubID(), Name: "factory", AutoProvisioning: true, Policy: provision.Policy{Admission: tt.rules}}
			anchors(vendor.Certificate, other.Certificate)(&h)
			chip := leaf(t, tt.by, tt.cn)
			f := verified(t, h, chip)
			if d, decided := provision.Decide(f); d.Reason != tt.want || !decided {
				t.Errorf("unseen: %s (%s), want %s", d.Reason, d.Detail, tt.want)
			}
			// A known device is never held to the rules.
			f.Device = &provision.Device{Anchor: trust.KeyHashOf(f.Path.Anchor())}
			if d, _ := provision.Decide(f); d.Reason != provision.DeviceKnown {
				t.Errorf("known: %s (%s)", d.Reason, d.Detail)
			}
			// Without auto-provisioning no rule lets anybody in.
			f.Device = nil
			f.Hub.AutoProvisioning = false
			if d, _ := provision.Decide(f); d.Reason != provision.DeviceUnknown {
				t.Errorf("auto-provisioning off: %s (%s)", d.Reason, d.Detail)
			}
		})
	}
}

// TestNoRulesNoDecision: facts without the hub's rules let nobody in.
func TestNoRulesNoDecision(t *testing.T) {
	t.Parallel()
	vendor := root(t, "Vendor")
	h := provision.Hub{ID: provision.NewHubID(), Name: "factory", AutoProvisioning: true}
	anchors(vendor.Certificate)(&h)
	f := verified(t, h, leaf(t, vendor, "SN-1"))
	f.Rules = nil
	for _, d := range []*provision.Device{nil, {Anchor: trust.KeyHashOf(vendor.Certificate)}} {
		f.Device = d
		if got, _ := provision.Decide(f); got.Reason != provision.Internal {
			t.Errorf("known %t: %s", d != nil, got.Reason)
		}
	}
}

// TestKeyPolicy is step 7: what becomes of a known device that comes with
// another key, or under another anchor.
func TestKeyPolicy(t *testing.T) {
	t.Parallel()
	vendor, next, stranger := root(t, "Vendor"), root(t, "Vendor 2"), root(t, "Stranger")
	known := leaf(t, vendor, "SN-1")
	first, other := trust.KeyHashOf(known.Certificate), trust.KeyHash{7}
	pinned := pki.WithSigner(known.Key)
	tests := []struct {
		what  string
		keys  provision.KeyPolicy
		by    *pki.Authority
		opts  []pki.Option
		first trust.KeyHash
		last  trust.KeyHash
		want  provision.Reason
	}{
		{"accept: its key", "", vendor, []pki.Option{pinned}, first, first, provision.DeviceKnown},
		{"accept: another key", provision.AcceptKeys, vendor, nil, first, first, provision.DeviceKnown},
		{"accept: another anchor of its group", "", next, nil, first, first, provision.DeviceKnown},
		{"accept: its key under an anchor of no group", "", stranger, []pki.Option{pinned}, first, first, provision.DeviceIssuerChanged},
		{"pin: its key, certified again", provision.PinKeys, vendor, []pki.Option{pinned}, first, first, provision.DeviceKnown},
		{"pin: its key under another anchor of its group", provision.PinKeys, next, []pki.Option{pinned}, first, first, provision.DeviceKnown},
		{"pin: another key", provision.PinKeys, vendor, nil, first, first, provision.DeviceKeyChanged},
		{"pin: the key that was accepted before the policy", provision.PinKeys, vendor, []pki.Option{pinned}, other, first, provision.DeviceKeyChanged},
		{"approve: its key", provision.ApproveKeys, vendor, []pki.Option{pinned}, other, first, provision.DeviceKnown},
		{"approve: another key", provision.ApproveKeys, vendor, nil, first, first, provision.DeviceKeyChanged},
		{"approve: its first key, after another was approved", provision.ApproveKeys, vendor, []pki.Option{pinned}, first, other, provision.DeviceKeyChanged},
		{"pin: its key under an anchor of no group", provision.PinKeys, stranger, []pki.Option{pinned}, first, first, provision.DeviceIssuerChanged},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			h := provision.Hub{ID: provision.NewHubID(), Name: "factory", Policy: provision.Policy{Keys: tt.keys},
				AnchorFacts: map[trust.Fingerprint]provision.AnchorFacts{
					trust.FingerprintOf(vendor.Certificate):   {Group: "vendor"},
					trust.FingerprintOf(next.Certificate):     {Group: "vendor"},
					trust.FingerprintOf(stranger.Certificate): {},
				}}
			anchors(vendor.Certificate, next.Certificate, stranger.Certificate)(&h)
			f := verified(t, h, leaf(t, tt.by, "SN-1", tt.opts...))
			f.Device = &provision.Device{Anchor: trust.KeyHashOf(vendor.Certificate), FirstKey: tt.first, CurrentKey: tt.last}
			if d, _ := provision.Decide(f); d.Reason != tt.want {
				t.Errorf("%s (%s), want %s", d.Reason, d.Detail, tt.want)
			}
			f.Device.Disabled = true
			if d, _ := provision.Decide(f); d.Reason != provision.DeviceDisabled {
				t.Errorf("disabled: %s (%s)", d.Reason, d.Detail)
			}
			f.Device = &provision.Device{} // created by an administrator
			if d, _ := provision.Decide(f); d.Reason != provision.DeviceKnown {
				t.Errorf("not bound: %s (%s)", d.Reason, d.Detail)
			}
		})
	}
}

// TestRulesAtTheGate: rules hold for unseen devices alone, and as soon as the
// hub has them.
func TestRulesAtTheGate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	known := over(leaf(t, vendor, "OLD-1"))
	r.expect(known, provision.DeviceProvisioned)
	hub = r.policy(hub, provision.Policy{Admission: []provision.AdmissionRule{{NamePattern: "SN-[0-9]+"}}})
	r.expect(known, provision.DeviceKnown)
	d := r.expect(over(leaf(t, vendor, "OLD-2")), provision.DeviceNotAllowed)
	if !strings.Contains(d.Detail, `admission rule 1: the name does not match "SN-[0-9]+"`) {
		t.Errorf("detail %q", d.Detail)
	}
	dry := over(leaf(t, vendor, "OLD-3"))
	dry.DryRun = true
	r.expect(dry, provision.DeviceNotAllowed)
	r.expect(over(leaf(t, vendor, "SN-1")), provision.DeviceProvisioned)
	r.byHand(hub, "OLD-4") // an administrator's word is enough
	r.expect(over(leaf(t, vendor, "OLD-4")), provision.DeviceKnown)
}

// policy changes a hub's policy, and waits until the gate has it.
func (r *rig) policy(h provision.Hub, p provision.Policy) provision.Hub {
	r.t.Helper()
	return r.change(h, func(h *provision.Hub) { h.Policy = p })
}

// change edits a hub, and waits until the gate has it.
func (r *rig) change(h provision.Hub, edit func(*provision.Hub)) provision.Hub {
	r.t.Helper()
	h, err := r.store.UpdateHub(r.t.Context(), h.ID,
		func(h *provision.Hub) error { edit(h); return nil },
		func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) })
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.gate.Refresh(r.t.Context(), h.ID); err != nil {
		r.t.Fatal(err)
	}
	return h
}

// device reads a device's record.
func (r *rig) device(h provision.Hub, name string) provision.Device {
	r.t.Helper()
	return must[provision.Device](r.t)(r.store.Device(r.t.Context(), h.ID, name))
}

// acts are the reasons of the events of a hub's devices.
func (r *rig) acts(h provision.Hub) string {
	r.t.Helper()
	events, err := r.store.Events(r.t.Context(), h.ID.Partition(r.store.Partitions()), 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	var reasons []string
	for _, e := range events {
		if e.Event.Hub == h.ID && e.Event.ObjectType == provision.ObjectDevice {
			reasons = append(reasons, e.Event.Reason)
		}
	}
	return fmt.Sprint(reasons)
}

// TestAnotherCertificate: a known device that is admitted with another key,
// issuer or anchor is bound to it; the first key stays.
func TestAnotherCertificate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, next := root(t, "Vendor"), root(t, "Vendor 2")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
	group := func(h *provision.Hub) {
		h.AnchorFacts = map[trust.Fingerprint]provision.AnchorFacts{
			trust.FingerprintOf(vendor.Certificate): {Group: "vendor"},
			trust.FingerprintOf(next.Certificate):   {Group: "vendor"},
		}
	}
	hub := r.hub("factory", anchors(vendor.Certificate, next.Certificate), group)
	first := leaf(t, vendor, "SN-1")
	r.expect(over(first), provision.DeviceProvisioned)
	moved := leaf(t, next, "SN-1")
	r.expect(over(moved), provision.DeviceKnown)
	d := r.device(hub, "SN-1")
	if d.FirstKey != trust.KeyHashOf(first.Certificate) || d.CurrentKey != trust.KeyHashOf(moved.Certificate) ||
		d.Anchor != trust.KeyHashOf(next.Certificate) || d.Issuer != d.Anchor || d.Version != 2 || d.ProvisionedFrom != source {
		t.Errorf("after the move: %+v", d)
	}
	counts := must[map[trust.KeyHash]int](t)(r.store.AnchorDevices(t.Context(), hub.ID))
	if len(counts) != 1 || counts[trust.KeyHashOf(next.Certificate)] != 1 {
		t.Errorf("devices of anchors: %v", counts)
	}
	// Certificates that take turns do not cost a step of the store each time.
	for range 3 {
		r.expect(over(first), provision.DeviceKnown)
		r.expect(over(moved), provision.DeviceKnown)
	}
	if d := r.device(hub, "SN-1"); d.Version != 2 {
		t.Errorf("version %d after certificates that took turns", d.Version)
	}

	r.expect(over(leaf(t, vendor, "SN-2")), provision.DeviceProvisioned)
	r.expect(over(leaf(t, vendor, "SN-2")), provision.DeviceKnown)
	same := leaf(t, vendor, "SN-3")
	r.expect(over(same), provision.DeviceProvisioned)
	r.expect(over(leaf(t, line, "SN-3", pki.WithSigner(same.Key))), provision.DeviceKnown)
	if d := r.device(hub, "SN-3"); d.Issuer != trust.KeyHashOf(line.Certificate) || d.CurrentKey != d.FirstKey {
		t.Errorf("after another issuer: %+v", d)
	}
	if got, want := r.acts(hub), "[device_provisioned anchor_changed device_provisioned key_changed device_provisioned issuer_changed]"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}

	// A store that does not take it does not keep a known device out.
	last := over(leaf(t, vendor, "SN-4"))
	r.expect(last, provision.DeviceProvisioned)
	r.expect(last, provision.DeviceKnown)
	r.store.cut(true)
	r.expect(over(leaf(t, vendor, "SN-4")), provision.DeviceKnown)
	if !strings.Contains(r.log.String(), "binding a device to its new certificate failed") {
		t.Error("nothing is logged of it")
	}
}

// TestSharedCA: on two hubs that trust one vendor's CA, each keeps the other's
// chips out, whatever they say.
func TestSharedCA(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
	hubs := make(map[string]provision.Hub)
	for _, name := range []string{"alpha", "beta"} {
		hubs[name] = r.hub(name, anchors(vendor.Certificate), func(h *provision.Hub) {
			h.SNIOnly = true
			h.Policy.Admission = []provision.AdmissionRule{{NamePattern: strings.ToUpper(name) + "-[0-9]+"}}
		})
	}
	chip := leaf(t, line, "ALPHA-1")
	at := func(hub string) func(*provision.Connection) { return sni(hub + ".iot.example.com") }
	authority := func(hub string) func(*provision.Connection) {
		return func(c *provision.Connection) { c.Authority = hub + ".iot.example.com" }
	}
	for range 2 { // unseen, then known on its own hub, and recognised
		r.expect(over(chip), provision.ChainIncomplete) // no hub is found by issuer
		r.expect(over(chip, authority("alpha")), provision.ChainIncomplete)
		r.expect(over(chip, at("beta")), provision.DeviceNotAllowed)
		r.expect(over(chip, at("alpha"), authority("beta")), provision.AuthorityMismatch)
		if d := r.gate.Admit(t.Context(), over(chip, at("alpha"))); !d.Allowed() || d.Hub != hubs["alpha"].ID {
			t.Fatalf("on its own hub: %s (%s)", d.Reason, d.Detail)
		}
	}
	// What beta's operator creates by hand is beta's alone.
	r.byHand(hubs["beta"], "ALPHA-1")
	if d := r.expect(over(chip, at("beta")), provision.DeviceKnown); d.Device == provision.DeviceIDOf(hubs["alpha"].ID, "ALPHA-1") {
		t.Error("one device on two hubs")
	}
	r.expect(over(leaf(t, vendor, "BETA-1"), at("alpha")), provision.DeviceNotAllowed)
}

// TestRulesFollowTheRotation: a rule for an anchor holds for its successor.
func TestRulesFollowTheRotation(t *testing.T) {
	t.Parallel()
	old, next := root(t, "Vendor"), root(t, "Vendor 2")
	h := provision.Hub{ID: provision.NewHubID(), Name: "factory", AutoProvisioning: true, AnchorFacts: map[trust.Fingerprint]provision.AnchorFacts{
		trust.FingerprintOf(old.Certificate):  {Group: "vendor"},
		trust.FingerprintOf(next.Certificate): {Group: "vendor"},
	}}
	anchors(old.Certificate, next.Certificate)(&h)
	h.Policy.Admission = []provision.AdmissionRule{{Anchor: trust.KeyHashOf(old.Certificate), NamePattern: "SN-.*"}}
	if d, _ := provision.Decide(verified(t, h, leaf(t, next, "XX-1"))); d.Reason != provision.DeviceNotAllowed {
		t.Errorf("%s (%s)", d.Reason, d.Detail)
	}
	h.AnchorFacts = nil
	if d, _ := provision.Decide(verified(t, h, leaf(t, next, "XX-1"))); d.Reason != provision.DeviceProvisioned {
		t.Errorf("without a group: %s (%s)", d.Reason, d.Detail)
	}
	if err := provision.CheckRules(h); err != nil {
		t.Error(err)
	}
	h.Anchors = h.Anchors[1:]
	if err := provision.CheckRules(h); err == nil || !strings.HasPrefix(err.Error(), "policy.admission[0]: anchor: no trust anchor of the hub has the key ") {
		t.Errorf("a rule for an anchor that is not there: %v", err)
	}
}
