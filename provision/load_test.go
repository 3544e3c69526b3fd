package provision_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// started is another process on the rig's store, which has just loaded its hubs.
func (r *rig) started() *rig {
	r.t.Helper()
	o := &rig{t: r.t, store: r.store, log: &syncBuffer{}, reg: prometheus.NewRegistry()}
	var err error
	if o.gate, err = provision.NewGate(provision.GateConfig{
		Store: r.store, Domain: "iot.example.com", Logger: slog.New(slog.NewTextHandler(o.log, nil)), Registerer: o.reg,
	}); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = o.gate.Run(ctx) })
	r.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	o.eventually("the gate is ready", func() bool { return o.gate.Ready() == nil })
	return o
}

// stored puts a hub into the store, whether a gate would serve it or not.
func (r *rig) stored(name string, edit ...func(*provision.Hub)) {
	r.t.Helper()
	h := provision.Hub{ID: provision.NewHubID(), Name: name, AutoProvisioning: true}
	for _, e := range edit {
		e(&h)
	}
	if _, err := r.store.CreateHub(r.t.Context(), h, provision.Created.OnHub(h, time.Now())); err != nil {
		r.t.Fatal(err)
	}
}

// TestHubsServeAfterAStart: hubs that no check has needed yet are found by what
// they trust, by whatever way.
func TestHubsServeAfterAStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, other := root(t, "Vendor"), root(t, "Other")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
	uploaded := must[*pki.Authority](t)(other.Intermediate("Uploaded"))
	h := r.hub("factory", anchors(vendor.Certificate))
	r.hub("plant", anchors(other.Certificate), intermediates(uploaded.Certificate))
	r.hub("named", anchors(root(t, "Named").Certificate), func(h *provision.Hub) { h.SNIOnly = true })
	r.expect(over(leaf(t, line, "SN-1")), provision.DeviceProvisioned) // the hub learns the line

	alone := func(c *provision.Connection) { leafOnly(c); c.Attested = c.Attested[:1] }
	for name, c := range map[string]provision.Connection{
		"by the CA":                        over(leaf(t, vendor, "SN-2")),
		"through the line, presented":      over(leaf(t, line, "SN-3")),
		"through the line, learned":        over(leaf(t, line, "SN-4"), leafOnly),
		"through the line, learned, SNI":   over(leaf(t, line, "SN-5"), alone, sni("factory.iot.example.com")),
		"by an uploaded intermediate":      over(leaf(t, uploaded, "SN-6"), alone),
		"by an uploaded one, presented":    over(leaf(t, uploaded, "SN-7")),
		"by hint":                          over(leaf(t, line, "SN-8"), alone, func(c *provision.Connection) { c.HubHint = "factory" }),
		"by name and key ID, not by print": over(leaf(t, vendor, "SN-9"), func(c *provision.Connection) { c.Presented, c.Attested = nil, c.Attested[:1] }),
	} {
		t.Run(name, func(t *testing.T) {
			fresh := r.started()
			fresh.t = t
			fresh.expect(c, provision.DeviceProvisioned)
			fresh.expect(c, provision.DeviceKnown)
		})
	}
	stranger := over(leaf(t, root(t, "Vendor"), "SN-10"))
	r.started().expect(stranger, provision.HubUnknown)
	stranger.SNI = "named.iot.example.com"
	r.started().expect(stranger, provision.ChainIncomplete)

	// What is revoked on a hub is revoked after a start as well.
	banned := leaf(t, line, "SN-11")
	r.revocations(h.ID, revoke(byKey(banned.Certificate)))
	r.started().expect(over(banned), provision.CertificateRevoked)
}

// TestAHubThatCannotBeUsed: a record whose certificates do not hold what its
// anchors have to is found out after a start before a device comes, and by one
// that comes before that; it lets nobody in, and is told of once.
func TestAHubThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	vendor := root(t, "Vendor")
	for name, broken := range map[string]func(*provision.Hub){
		"an anchor that does not parse": func(h *provision.Hub) { h.Anchors = [][]byte{[]byte("garbage")} },
		"one that parses half": func(h *provision.Hub) { // its outline is whole
			der := slices.Clone(vendor.Certificate.Raw)
			const header, algorithm = 4, 4
			der[header+len(vendor.Certificate.RawTBSCertificate)+algorithm]++ // unlike the algorithm that is signed
			h.Anchors = [][]byte{der}
		},
		"an anchor that is no CA":             func(h *provision.Hub) { h.Anchors = [][]byte{leaf(t, vendor, "SN-1").Certificate.Raw} },
		"an intermediate that does not parse": func(h *provision.Hub) { h.Intermediates = [][]byte{[]byte("garbage")} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.stored("broken", anchors(vendor.Certificate), broken)
			r.hub("good", anchors(root(t, "Good").Certificate))
			told := func(o *rig) int { return strings.Count(o.log.String(), `msg="hub cannot be used" hub=broken`) }

			asked := r.started()
			c := over(leaf(t, vendor, "SN-2"))
			asked.expect(c, provision.ChainIncomplete)
			for range 3 {
				asked.expect(over(leaf(t, vendor, "SN-3"), sni("broken.iot.example.com")), provision.HubUnknown)
			}
			unasked := r.started()
			unasked.eventually("the hub is found out", func() bool { return told(unasked) > 0 })
			unasked.expect(c, provision.ChainIncomplete)
			for _, o := range []*rig{asked, unasked} {
				if _, there := o.gate.Hub("broken"); there || told(o) != 1 {
					t.Errorf("there: %t; log:\n%s", there, o.log)
				}
				if _, there := o.gate.Hub("good"); !there {
					t.Error("the other hub is gone")
				}
			}
		})
	}
}

// TestUnrelatedIntermediatesAfterAStart: hubs that were given another vendor's
// intermediate, which chains to none of their anchors, are no candidates for its
// devices, however many they are.
func TestUnrelatedIntermediatesAfterAStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
	for i := range 40 {
		r.stored(fmt.Sprintf("mallory-%d", i), anchors(root(t, fmt.Sprintf("Mallory %d", i)).Certificate),
			intermediates(line.Certificate, vendor.Certificate))
	}
	r.hub("factory", anchors(vendor.Certificate))
	fresh := r.started()
	for i, edit := range []func(*provision.Connection){leafOnly, func(*provision.Connection) {}} {
		c := over(leaf(t, line, fmt.Sprintf("SN-%d", i)), edit)
		if i == 0 {
			fresh.expect(c, provision.ChainIncomplete) // no hub knows the line
			continue
		}
		if d := fresh.expect(c, provision.DeviceProvisioned); d.HubName != "factory" {
			t.Errorf("admitted to %s", d.HubName)
		}
	}
}

// TestFirstChecksAfterAStart: many devices of many hubs come at once.
func TestFirstChecksAfterAStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const hubs, devices = 4, 8
	var connections []provision.Connection
	for i := range hubs {
		vendor := root(t, fmt.Sprintf("Vendor %d", i))
		line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
		r.hub(fmt.Sprintf("hub-%d", i), anchors(vendor.Certificate), intermediates(line.Certificate))
		for n := range devices {
			connections = append(connections, over(leaf(t, line, fmt.Sprintf("SN-%d", n))))
		}
	}
	fresh := r.started()
	var checks sync.WaitGroup
	for _, c := range connections {
		checks.Go(func() {
			if d := fresh.gate.Admit(context.Background(), sealed(c, nil)); d.Reason != provision.DeviceProvisioned {
				t.Errorf("%s (%s)", d.Reason, d.Detail)
			}
		})
	}
	checks.Wait()
}

// TestAttendedHubs are those with CRLs or sources of them, as they change.
func TestAttendedHubs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	attended := func(want ...string) {
		t.Helper()
		r.eventually(fmt.Sprint("attended are ", want), func() bool {
			var have []string
			for _, h := range r.gate.Attended() {
				have = append(have, h.Name)
			}
			slices.Sort(have)
			return slices.Equal(have, want)
		})
	}
	r.hub("plain", anchors(root(t, "Plain").Certificate))
	sourced := r.hub("sourced", func(h *provision.Hub) { h.CRLSources = []string{"http://crl.example.com/"} })
	listed := r.hub("listed", anchors(vendor.Certificate))
	attended("sourced")
	r.revocations(listed.ID, putCRL(t, vendor, 1, "http://crl.example.com/", time.Hour))
	attended("listed", "sourced")
	r.edit(sourced, func(h *provision.Hub) { h.CRLSources = nil })
	attended("listed")
	if n := r.gate.HubCount(); n != 3 {
		t.Errorf("%d hubs", n)
	}
}

// TestAnchorExpiryMetric: each anchor once, of the first hundred hubs, and of
// no others.
func TestAnchorExpiryMetric(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	r.hub("a-twice", anchors(vendor.Certificate, vendor.Certificate))
	expiries := func() map[string]int {
		families, err := r.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		hubs := make(map[string]int)
		for _, f := range families {
			if f.GetName() != "hubgate_trust_anchor_expiry_timestamp_seconds" {
				continue
			}
			for _, m := range f.GetMetric() {
				hubs[m.GetLabel()[1].GetValue()]++
				if m.GetLabel()[1].GetValue() == "a-twice" && m.GetGauge().GetValue() != float64(vendor.Certificate.NotAfter.Unix()) {
					t.Errorf("%v", m)
				}
			}
		}
		return hubs
	}
	if have := expiries(); len(have) != 1 || have["a-twice"] != 1 {
		t.Errorf("%v", have)
	}
	for i := range 105 {
		r.hub(fmt.Sprintf("hub-%03d", i), anchors(root(t, fmt.Sprint("Vendor ", i)).Certificate))
	}
	for range 2 { // before and after all labels are given
		have := expiries()
		if len(have) != 100 || have["a-twice"] != 1 || have["hub-098"] != 1 || have["hub-099"] != 0 {
			t.Errorf("%d hubs: %v", len(have), have)
		}
	}
}
