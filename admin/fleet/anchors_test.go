package fleet_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// TestInstallationRules holds each reason not to trust a CA.
func TestInstallationRules(t *testing.T) {
	t.Parallel()
	r := newRig(t, openBolt(t))
	h, neighbour := r.hub("factory"), r.hub("neighbour")
	now := time.Now()
	day := 24 * time.Hour
	validity := func(from, to time.Duration) pki.Option { return pki.WithValidity(now.Add(from), now.Add(to)) }
	ca, theirs := root(t, "Acme"), root(t, "Theirs")
	r.trusts(neighbour, theirs)
	below := must(theirs.Intermediate("Below"))(t)
	line := must(ca.Intermediate("Line"))(t)
	renewed := root(t, "Theirs, renewed", pki.WithSigner(theirs.Key))
	limited := root(t, "Limited", pki.WithTemplate(func(c *x509.Certificate) {
		directoryName := must(asn1.Marshal(pkix.Name{CommonName: "x"}.ToRDNSequence()))(t)
		tagged := must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: directoryName}))(t)
		subtree := must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: tagged}))(t)
		permitted := must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: subtree}))(t)
		value := must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: permitted}))(t)
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: value})
	}))
	id := h.ID.String()
	spec := func(ca *pki.Authority, proof string) fleet.AnchorSpec {
		return fleet.AnchorSpec{Certificate: pem(ca.Certificate), Challenge: proof}
	}
	key := string(must(pki.EncodeKey(ca.Key))(t))
	for _, tt := range []struct {
		name string
		spec fleet.AnchorSpec
		want fleet.Code
	}{
		{"a leaf", fleet.AnchorSpec{Certificate: challenge(t, ca, "SN-1")}, fleet.NotACA},
		{"no certificate", fleet.AnchorSpec{Certificate: "hello"}, fleet.Invalid},
		{"a key", fleet.AnchorSpec{Certificate: key}, fleet.Invalid},
		{"two certificates", fleet.AnchorSpec{Certificate: pem(ca.Certificate, ca.Certificate)}, fleet.Invalid},
		{"expired", spec(root(t, "Old", validity(-2*day, -time.Minute)), ""), fleet.Expired},
		{"to come", spec(root(t, "New", validity(time.Hour, day)), ""), fleet.NotYetValid},
		{"a small key", spec(root(t, "Weak", pki.WithKey(pki.RSA1024)), ""), fleet.KeyUnsupported},
		{"constraints", spec(limited, ""), fleet.ConstraintsUnsupported},
		{"no challenge", spec(ca, ""), fleet.ChallengeMissing},
		{"challenge of another hub", spec(ca, challenge(t, ca, neighbour.ID.String())), fleet.ChallengeWrongName},
		{"challenge named like the hub", spec(ca, challenge(t, ca, "factory")), fleet.ChallengeWrongName},
		{"challenge of another CA", spec(ca, challenge(t, root(t, "Acme"), id)), fleet.ChallengeNotSigned},
		{"challenge of an intermediate", spec(ca, challenge(t, line, id)), fleet.ChallengeNotSigned},
		{"the CA itself", spec(ca, pem(ca.Certificate)), fleet.ChallengeWrongName},
		{"challenge expired", spec(ca, challenge(t, ca, id, validity(-day, -time.Second))), fleet.ChallengeExpired},
		{"challenge to come", spec(ca, challenge(t, ca, id, validity(time.Hour, day))), fleet.ChallengeNotYetValid},
		{"challenge for long", spec(ca, challenge(t, ca, id, validity(-time.Hour, 7*day))), fleet.ChallengeTooLong},
		{"another hub's CA", spec(theirs, challenge(t, theirs, id)), fleet.AnchorRelated},
		{"another hub's key", spec(renewed, challenge(t, renewed, id)), fleet.AnchorRelated},
		{"below another hub's CA", spec(below, challenge(t, below, id)), fleet.AnchorRelated},
	} {
		_, err := r.fleet.AddAnchor(t.Context(), admin, "factory", tt.spec)
		if code(err) != string(tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	if now := must(r.store.Hub(t.Context(), h.ID))(t); len(now.Anchors) != 0 || now.Proposal != nil {
		t.Errorf("after all refusals: %+v", now)
	}
	anchor := must(r.fleet.AddAnchor(t.Context(), admin, "factory", spec(ca, challenge(t, ca, id, validity(-time.Hour, 7*day-time.Hour)))))(t)
	if anchor.Facts.AddedBy != "boss" || anchor.Facts.Waived || anchor.Facts.AddedAt.IsZero() {
		t.Errorf("installed as %+v", anchor.Facts)
	}
	vendor := root(t, "Vendor")
	must(r.fleet.AddAnchor(t.Context(), admin, "factory", fleet.AnchorSpec{Certificate: pem(vendor.Certificate), WaiveProof: true, WaiverReason: "their key"}))(t)
	listed := must(r.fleet.Anchors(t.Context(), viewer, "factory"))(t)
	if len(listed) != 2 || !listed[1].Facts.Waived || listed[1].Facts.WaiverReason != "their key" {
		t.Errorf("listed %+v", listed)
	}
	if got := r.reasons(h.ID); !slices.Equal(got, []string{"created", "anchor_added", "anchor_added"}) {
		t.Errorf("events %v", got)
	}
	if line := r.log.last(t); line["waiver_reason"] != "their key" || line["anchor"] != trust.FingerprintOf(vendor.Certificate).String() {
		t.Errorf("logged %v", line)
	}
	// A declared hub's CAs count, too.
	declaredCA := root(t, "Declared root")
	r.declare("declared", declaredCA)
	if _, err := r.fleet.AddAnchor(t.Context(), admin, "factory", spec(declaredCA, challenge(t, declaredCA, id))); code(err) != string(fleet.AnchorRelated) {
		t.Errorf("a declared hub's CA: %v", err)
	}
}

// TestFifthOfOneName: look-alikes cannot crowd out the real one, whether they
// come one by one, at once, or by a hub that comes to be found by its anchors.
func TestFifthOfOneName(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		rigs := []*rig{newRig(t, open(t)), newRig(t, open(t))}
		const hubs = 8
		var wg sync.WaitGroup
		installed, others := make([]bool, hubs), make([]error, hubs)
		for i := range hubs {
			h := rigs[0].hub(fmt.Sprint("hub-", i))
			ca := root(t, "Look-alike")
			wg.Go(func() {
				_, err := rigs[i%2].fleet.AddAnchor(t.Context(), admin, h.ID.String(),
					fleet.AnchorSpec{Certificate: pem(ca.Certificate), Challenge: challenge(t, ca, h.ID.String())})
				switch code(err) {
				case "done":
					installed[i] = true
				case "too_many":
				default:
					others[i] = err
				}
			})
		}
		wg.Wait()
		n := 0
		for _, ok := range installed {
			if ok {
				n++
			}
		}
		if err := errors.Join(others...); err != nil || n > 4 {
			t.Fatalf("%d installed, %v", n, err)
		}
		hidden := rigs[0].hub("hidden", func(s *fleet.HubSpec) { s.SNIOnly = true })
		for ; n < 4; n++ { // perhaps all were in each other's way
			rigs[0].trusts(rigs[0].hub(fmt.Sprint("more-", n)), root(t, "Look-alike"))
		}
		rigs[1].trusts(hidden, root(t, "Look-alike"))
		_, err := rigs[1].fleet.UpdateHub(t.Context(), admin, "hidden", fleet.HubChange{SNIOnly: ptr(false)})
		if code(err) != "too_many" {
			t.Errorf("a hub that comes to be found: %v", err)
		}
	})
}

// TestRelatedAnchorsRace: of two replicas that install related CAs on two hubs
// at once, one at most succeeds.
func TestRelatedAnchorsRace(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		rigs := []*rig{newRig(t, open(t)), newRig(t, open(t))}
		for round := range 8 {
			ca := root(t, fmt.Sprint("Acme ", round))
			line := must(ca.Intermediate(fmt.Sprint("Line ", round)))(t)
			cas := []*pki.Authority{ca, line}
			var hubs [2]fleet.Hub
			var errs [2]error
			for i := range hubs {
				hubs[i] = rigs[0].hub(fmt.Sprintf("hub-%d-%d", round, i))
			}
			var wg sync.WaitGroup
			for i := range hubs {
				wg.Go(func() {
					_, errs[i] = rigs[i].fleet.AddAnchor(t.Context(), admin, hubs[i].ID.String(),
						fleet.AnchorSpec{Certificate: pem(cas[i].Certificate), Challenge: challenge(t, cas[i], hubs[i].ID.String())})
				})
			}
			wg.Wait()
			anchors := 0
			for i, h := range hubs {
				if c := code(errs[i]); c != "done" && c != "anchor_related" {
					t.Errorf("round %d: %v", round, errs[i])
				}
				stored := must(rigs[i].store.Hub(t.Context(), h.ID))(t)
				anchors += len(stored.Anchors)
				if stored.Proposal != nil {
					t.Errorf("round %d: a proposal was left", round)
				}
			}
			if anchors > 1 {
				t.Fatalf("round %d: related anchors on two hubs", round)
			}
		}
	})
}

// TestProposalOfTheDead: what a process that died has left is in nobody's way
// for long, and cannot come true.
func TestProposalOfTheDead(t *testing.T) {
	t.Parallel()
	r := newRig(t, openBolt(t))
	mine, theirs := r.hub("mine"), r.hub("theirs")
	ca := root(t, "Acme")
	propose := func(h fleet.Hub, age time.Duration) {
		t.Helper()
		must(r.store.UpdateHub(t.Context(), h.ID, func(h *provision.Hub) error {
			h.Proposal = &provision.Proposal{ID: uuid.New(), At: time.Now().Add(-age), Anchors: [][]byte{ca.Certificate.Raw}}
			return nil
		}, func(provision.Hub) provision.Event { return provision.Event{} }))(t)
	}
	spec := fleet.AnchorSpec{Certificate: pem(ca.Certificate), Challenge: challenge(t, ca, mine.ID.String())}
	propose(theirs, 0)
	if _, err := r.fleet.AddAnchor(t.Context(), admin, "mine", spec); code(err) != "anchor_related" {
		t.Fatalf("beside a fresh proposal: %v", err)
	}
	propose(theirs, time.Minute)
	propose(mine, time.Minute)
	r.trusts(mine, ca)
	for _, h := range []fleet.Hub{mine, theirs} {
		if stored := must(r.store.Hub(t.Context(), h.ID))(t); stored.Proposal != nil {
			t.Errorf("hub %s still proposes", h.Name)
		}
	}
}

// TestAnchorIsRetired: what only it admitted ends, and that has to be said.
func TestAnchorIsRetired(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		r := newRig(t, open(t))
		h := r.hub("factory")
		old, next := root(t, "Acme 1"), root(t, "Acme 2")
		r.trusts(h, old)
		r.trusts(h, next)
		r.set(h, fleet.HubChange{AutoProvisioning: ptr(true)})
		for i, ca := range []*pki.Authority{old, old, next} {
			if d := r.gate.Admit(t.Context(), connection(t, ca, fmt.Sprint("SN-", i))); d.Reason != provision.DeviceProvisioned {
				t.Fatal(d.Reason, d.Detail)
			}
		}
		anchors := must(r.fleet.Anchors(t.Context(), viewer, "factory"))(t)
		if anchors[0].Devices != 2 || anchors[1].Devices != 1 {
			t.Errorf("devices by anchor: %d, %d", anchors[0].Devices, anchors[1].Devices)
		}
		print := trust.FingerprintOf(old.Certificate)
		var refusal *fleet.Refusal
		if err := r.fleet.RemoveAnchor(t.Context(), admin, "factory", print, false); !errors.As(err, &refusal) || refusal.Code != fleet.InUse || refusal.Devices != 2 {
			t.Fatalf("in use: %v", err)
		}
		if err := r.fleet.RemoveAnchor(t.Context(), admin, "factory", print, true); err != nil {
			t.Fatal(err)
		}
		hub := must(r.store.Hub(t.Context(), h.ID))(t)
		for i, want := range []provision.EndReason{provision.EndAnchorRemoved, provision.EndAnchorRemoved, ""} {
			d := must(r.store.Device(t.Context(), h.ID, fmt.Sprint("SN-", i)))(t)
			if got := provision.MustEnd(provision.Session{Since: time.Now()}, &hub, &d, time.Now()); got != want {
				t.Errorf("SN-%d: its sessions end for %q, want %q", i, got, want)
			}
		}
		if d := r.gate.Admit(t.Context(), connection(t, old, "SN-0")); d.Allowed() {
			t.Errorf("under a removed anchor: %s", d.Reason)
		}
		if d := r.gate.Admit(t.Context(), connection(t, next, "SN-2")); d.Reason != provision.DeviceKnown {
			t.Errorf("under the other: %s", d.Reason)
		}
	})
}
