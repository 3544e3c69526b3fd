package provision_test

import (
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/trust"
)

func TestFirstConnectionCreatesTheDevice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor Root")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line 7"))
	hub := r.hub("factory", anchors(vendor.Certificate))
	dev := leaf(t, line, "SN-0001")

	first := r.expect(over(dev), provision.DeviceProvisioned)
	second := r.expect(over(dev), provision.DeviceKnown)
	if first.Device != second.Device || first.Device != provision.DeviceIDOf(hub.ID, "SN-0001") || first.ID == second.ID {
		t.Errorf("first %+v\nsecond %+v", first, second)
	}
	list := r.devices(hub)
	if len(list) != 1 {
		t.Fatalf("%d devices, want 1", len(list))
	}
	d := list[0]
	if d.Name != "SN-0001" || !strings.Contains(d.Description, "192.0.2.7") || d.Filters != nil || d.AllowInsecure || d.AllowMultipleConnections || d.Disabled {
		t.Errorf("not the device of a first connection: %+v", d)
	}
	if d.FirstKey != trust.KeyHashOf(dev.Certificate) || d.CurrentKey != d.FirstKey ||
		d.Anchor != trust.KeyHashOf(vendor.Certificate) || d.Issuer != trust.KeyHashOf(line.Certificate) || d.ProvisionedFrom != source {
		t.Errorf("the record does not tell what later policies need: %+v", d)
	}
	events, err := r.store.Events(t.Context(), hub.ID.Partition(r.store.Partitions()), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var told []provision.Event
	for _, e := range events {
		if e.Event.Reason == string(provision.DeviceProvisioned) {
			told = append(told, e.Event)
		}
	}
	if len(told) != 1 {
		t.Fatalf("%d events of the first connection, want 1", len(told))
	}
	e := told[0]
	if e.Message != "device was auto-provisioned" || e.ObjectID != d.ID.String() || e.ObjectName != "SN-0001" ||
		e.Hub != hub.ID || e.SourceAddress != "192.0.2.7" || e.Decision != first.ID || e.Severity != provision.SeverityInfo || e.Count != 1 {
		t.Errorf("event %+v", e)
	}
	if n := testutil.ToFloat64(mustMetric(t, r.reg, "hubgate_devices_provisioned_total")); n != 1 {
		t.Errorf("hubgate_devices_provisioned_total = %v, want 1", n)
	}
	if !strings.Contains(r.log.String(), "reason=device_provisioned") || !strings.Contains(r.log.String(), first.ID) {
		t.Errorf("no log line of the decision:\n%s", r.log)
	}
}

func TestHubIsFoundByHintSNIOrIssuer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendorA, vendorB := root(t, "Vendor A"), root(t, "Vendor B")
	a := r.hub("alpha", anchors(vendorA.Certificate))
	b := r.hub("beta", anchors(vendorB.Certificate))
	quiet := root(t, "Vendor Quiet")
	r.hub("quiet", anchors(quiet.Certificate), func(h *provision.Hub) { h.SNIOnly = true })
	devA, devB := leaf(t, vendorA, "SN-1"), leaf(t, vendorB, "SN-1")
	hint := func(hub string) func(*provision.Connection) {
		return func(c *provision.Connection) { c.HubHint = hub }
	}
	authority := func(host string) func(*provision.Connection) {
		return func(c *provision.Connection) { c.Authority = host }
	}
	tests := []struct {
		name string
		conn provision.Connection
		want provision.Reason
		hub  string
	}{
		{"issuer", over(devA), provision.DeviceProvisioned, "alpha"},
		{"issuer of the other hub, same name", over(devB), provision.DeviceProvisioned, "beta"},
		{"SNI by name", over(devA, sni("alpha.iot.example.com")), provision.DeviceKnown, "alpha"},
		{"SNI by ID", over(devA, sni(a.ID.String()+".iot.example.com")), provision.DeviceKnown, "alpha"},
		{"SNI in capitals", over(devA, sni("ALPHA.IOT.Example.COM")), provision.DeviceKnown, "alpha"},
		{"SNI elsewhere falls to the issuer", over(devA, sni("www.example.org")), provision.DeviceKnown, "alpha"},
		{"SNI of the bare domain falls to the issuer", over(devA, sni("iot.example.com")), provision.DeviceKnown, "alpha"},
		{"SNI of the other hub", over(devA, sni("beta.iot.example.com")), provision.ChainIncomplete, "beta"},
		{"SNI of an unknown hub does not fall through", over(devA, sni("gamma.iot.example.com")), provision.HubUnknown, ""},
		{"SNI with two labels", over(devA, sni("x.alpha.iot.example.com")), provision.HubUnknown, ""},
		{"hint", over(devA, hint("alpha")), provision.DeviceKnown, "alpha"},
		{"hint by ID beats SNI", over(devB, hint(b.ID.String()), sni("alpha.iot.example.com")), provision.DeviceKnown, "beta"},
		{"hint to nowhere", over(devA, hint("gamma")), provision.HubUnknown, ""},
		{"hint to the other hub", over(devA, hint("beta")), provision.ChainIncomplete, "beta"},
		{"authority of the same hub", over(devA, authority("alpha.iot.example.com:8443")), provision.DeviceKnown, "alpha"},
		{"authority of the other hub", over(devA, authority("beta.iot.example.com")), provision.AuthorityMismatch, "alpha"},
		{"authority of the other hub by ID", over(devA, sni("alpha.iot.example.com"), authority(b.ID.String()+".iot.example.com")), provision.AuthorityMismatch, "alpha"},
		{"authority of no hub", over(devA, authority("gamma.iot.example.com")), provision.AuthorityMismatch, "alpha"},
		{"authority elsewhere", over(devA, authority("example.org")), provision.DeviceKnown, "alpha"},
		{"a hub that is found by SNI only, by issuer", over(leaf(t, quiet, "SN-1")), provision.ChainIncomplete, ""},
		{"a hub that is found by SNI only, by SNI", over(leaf(t, quiet, "SN-1"), sni("quiet.iot.example.com")), provision.DeviceProvisioned, "quiet"},
	}
	for _, tt := range tests { // in order: the first connection creates
		d := r.gate.Admit(t.Context(), tt.conn)
		if d.Reason != tt.want || d.HubName != tt.hub {
			t.Errorf("%s: %s on hub %q (%s), want %s on %q", tt.name, d.Reason, d.HubName, d.Detail, tt.want, tt.hub)
		}
	}
	if len(r.devices(a)) != 1 || len(r.devices(b)) != 1 {
		t.Errorf("%d and %d devices, want one on each hub", len(r.devices(a)), len(r.devices(b)))
	}
}

func TestHubIsAmbiguousBySignaturesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendorA, vendorB := root(t, "Vendor A"), root(t, "Vendor B")
	line := must[*pki.Authority](t)(vendorA.Intermediate("Line"))
	cross := must[*x509.Certificate](t)(vendorB.CrossSign(line))
	r.hub("alpha", anchors(vendorA.Certificate))
	r.hub("beta", anchors(vendorB.Certificate))

	// Signed under both: ambiguous until SNI tells.
	both := over(leaf(t, line, "SN-1"), func(c *provision.Connection) { c.Presented = append(c.Presented, cross.Raw) })
	r.expect(both, provision.HubAmbiguous)
	both.SNI = "beta.iot.example.com"
	r.expect(both, provision.DeviceProvisioned)

	// A CA of another tenant that looks like A's, name and key ID, changes nothing.
	lookAlike := must[*pki.Authority](t)(pki.NewRoot("Vendor A", pki.WithTemplate(func(c *x509.Certificate) {
		c.SubjectKeyId = vendorA.Certificate.SubjectKeyId
	})))
	r.hub("mallory", anchors(lookAlike.Certificate))
	if d := r.expect(over(leaf(t, vendorA, "SN-2")), provision.DeviceProvisioned); d.HubName != "alpha" {
		t.Errorf("admitted to hub %s", d.HubName)
	}
	if d := r.expect(over(leaf(t, lookAlike, "SN-2")), provision.DeviceProvisioned); d.HubName != "mallory" {
		t.Errorf("admitted to hub %s", d.HubName)
	}
	r.expect(over(leaf(t, lookAlike, "SN-2"), sni("alpha.iot.example.com")), provision.ChainUntrusted)
}

// Vendors give their CAs the same names. Neither that nor a tenant that copies a
// name and a key ID keeps a device from its hub.
func TestManyHubsKnowCAsOfOneName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const hubs = 30
	lines := make([]*pki.Authority, hubs)
	for i := range lines {
		vendor := root(t, fmt.Sprintf("Vendor %d", i))
		lines[i] = must[*pki.Authority](t)(vendor.Intermediate("Issuing CA"))
		r.hub(fmt.Sprintf("hub-%d", i), anchors(vendor.Certificate), intermediates(lines[i].Certificate))
	}
	for i, line := range lines {
		d := r.expect(over(leaf(t, line, "SN-1"), leafOnly), provision.DeviceProvisioned)
		if want := fmt.Sprintf("hub-%d", i); d.HubName != want {
			t.Errorf("admitted to %s, want %s", d.HubName, want)
		}
	}

	// Mallory was there first.
	late := root(t, "Vendor Late")
	line := must[*pki.Authority](t)(late.Intermediate("Issuing CA"))
	for i := range hubs {
		mallory := root(t, fmt.Sprintf("Mallory %d", i))
		copied := must[*pki.Authority](t)(mallory.Intermediate("Issuing CA", pki.WithTemplate(func(c *x509.Certificate) {
			c.SubjectKeyId = line.Certificate.SubjectKeyId
		})))
		r.hub(fmt.Sprintf("mallory-%d", i), anchors(mallory.Certificate), intermediates(copied.Certificate))
	}
	r.hub("late", anchors(late.Certificate), intermediates(line.Certificate))
	if d := r.expect(over(leaf(t, line, "SN-2")), provision.DeviceProvisioned); d.HubName != "late" {
		t.Errorf("admitted to %s", d.HubName)
	}
	// A device that presents its leaf alone, and whose hub cannot be told, is
	// told to name it.
	alone := over(leaf(t, line, "SN-3"), leafOnly, func(c *provision.Connection) { c.Attested = c.Attested[:1] })
	r.expect(alone, provision.HubAmbiguous)
	alone.SNI = "late.iot.example.com"
	r.expect(alone, provision.DeviceProvisioned)
}

func TestLearnedIntermediateServesALeafAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor Root")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line 7"))
	r.hub("factory", anchors(vendor.Certificate))

	refused := r.expect(over(leaf(t, line, "SN-1"), leafOnly, sni("factory.iot.example.com")), provision.ChainIncomplete)
	if !strings.Contains(refused.Detail, "Line 7") {
		t.Errorf("the detail does not name the missing issuer: %s", refused.Detail)
	}
	r.expect(over(leaf(t, line, "SN-1"), leafOnly), provision.ChainIncomplete)

	r.expect(over(leaf(t, line, "SN-2")), provision.DeviceProvisioned)
	r.expect(over(leaf(t, line, "SN-3"), leafOnly), provision.DeviceProvisioned)
	r.expect(over(leaf(t, line, "SN-4"), leafOnly, sni("factory.iot.example.com")), provision.DeviceProvisioned)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, foreign := root(t, "Vendor"), root(t, "Foreign")
	off := root(t, "Vendor Off")
	shut := root(t, "Vendor Shut")
	hub := r.hub("factory", anchors(vendor.Certificate))
	r.hub("off", anchors(off.Certificate), func(h *provision.Hub) { h.AutoProvisioning = false })
	r.hub("shut", anchors(shut.Certificate), func(h *provision.Hub) { h.Disabled = true })
	weak := must[*pki.Authority](t)(vendor.Intermediate("Weak", pki.WithKey(pki.P224)))
	named := func(cn string) provision.Connection { return over(leaf(t, vendor, cn)) }
	withRoot := func(c *provision.Connection) { c.Presented = append(c.Presented, foreign.Certificate.Raw) }
	tests := []struct {
		name string
		conn provision.Connection
		want provision.Reason
	}{
		{"plaintext", provision.Connection{Protocol: provision.TCP}, provision.NoCertificate},
		{"no certificate", provision.Connection{Protocol: provision.TCP, TLS: true}, provision.NoCertificate},
		{"the edge found a problem", provision.Connection{Problem: &provision.Problem{Reason: provision.ListenerMisconfigured}}, provision.ListenerMisconfigured},
		{"garbage", provision.Connection{TLS: true, Leaf: []byte("garbage")}, provision.CertificateMalformed},
		{"P-224", over(leaf(t, vendor, "SN", pki.WithKey(pki.P224))), provision.CertificateUnsupported},
		{"11 certificates, of which TCP shows the leaf", over(leaf(t, vendor, "SN"), leafOnly, func(c *provision.Connection) {
			c.Attested = append(c.Attested, make([]trust.Fingerprint, trust.MaxCertificates)...)
		}), provision.CertificateUnsupported},
		{"an intermediate that is not supported", over(leaf(t, weak, "SN")), provision.CertificateUnsupported},
		{"foreign CA, not sent", over(leaf(t, foreign, "SN")), provision.ChainIncomplete},
		{"foreign CA, sent", over(leaf(t, foreign, "SN"), withRoot), provision.HubUnknown},
		{"foreign CA, sent, hub named", over(leaf(t, foreign, "SN"), withRoot, sni("factory.iot.example.com")), provision.ChainUntrusted},
		{"expired", over(leaf(t, vendor, "SN", pki.WithValidity(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)))), provision.CertificateExpired},
		{"not yet valid", over(leaf(t, vendor, "SN", pki.WithValidity(time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)))), provision.CertificateNotYetValid},
		{"name with a slash", named("a/b"), provision.NameInvalid},
		{"name of 65 characters", named(strings.Repeat("x", 65)), provision.NameInvalid},
		{"name that is the hub's ID", named(hub.ID.String()), provision.NameInvalid},
		{"name that is the hub's ID in capitals", named(strings.ToUpper(hub.ID.String())), provision.NameInvalid},
		{"auto-provisioning off", over(leaf(t, off, "SN")), provision.DeviceUnknown},
		{"hub disabled", over(leaf(t, shut, "SN")), provision.HubDisabled},
	}
	for _, tt := range tests {
		d := r.gate.Admit(t.Context(), tt.conn)
		if d.Reason != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.name, d.Reason, d.Detail, tt.want)
		}
		if d.Allowed() || d.ID == "" || d.Reason.Message() == "" || d.Reason.Remedy() == "" {
			t.Errorf("%s: not a refusal that helps: %+v", tt.name, d)
		}
	}
	if n := len(r.devices(hub)); n != 0 {
		t.Errorf("%d devices were created", n)
	}
}

func TestExplainChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	c := over(leaf(t, vendor, "SN-1"))
	c.DryRun = true
	d := r.expect(c, provision.DeviceProvisioned)
	if len(d.Steps) == 0 || !d.Steps[len(d.Steps)-1].OK {
		t.Errorf("steps %+v", d.Steps)
	}
	if n := len(r.devices(hub)); n != 0 {
		t.Errorf("explain created %d devices", n)
	}
	if n := testutil.ToFloat64(mustMetric(t, r.reg, "hubgate_checks_total")); n != 0 || strings.Contains(r.log.String(), "decision_id") {
		t.Errorf("explain was counted (%v) or logged", n)
	}
	foreign := over(leaf(t, root(t, "Foreign"), "SN-1"), sni("factory.iot.example.com"))
	foreign.DryRun = true
	d = r.expect(foreign, provision.ChainIncomplete)
	if last := d.Steps[len(d.Steps)-1]; last.OK || d.Certificate == nil || !strings.Contains(last.Detail, "Foreign") {
		t.Errorf("the last step does not tell what broke: %+v", last)
	}
}

func TestPanicBecomesAFault(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *provision.GateConfig) {
		c.Now = func() time.Time { panic("clock broke") }
	})
	d := r.expect(over(leaf(t, root(t, "Vendor"), "SN-1")), provision.Internal)
	if d.Allowed() || strings.Count(r.log.String(), d.ID) != 1 {
		t.Errorf("not logged once: %s", r.log)
	}
}

// A tenant cross-signs another vendor's intermediate and makes his hub know it:
// learned from a chip of that line, or uploaded. No device of the line ends up
// with him, or is locked out.
func TestAHubCannotClaimAnotherVendorsLine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, mallory := root(t, "Vendor"), root(t, "Mallory")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line 7"))
	cross := must[*x509.Certificate](t)(mallory.CrossSign(line))
	r.hub("evil", anchors(mallory.Certificate))
	r.expect(over(leaf(t, line, "CHIP"), sni("evil.iot.example.com"), func(c *provision.Connection) {
		c.Presented = [][]byte{c.Leaf, cross.Raw}
	}), provision.DeviceProvisioned)
	alone := func(c *provision.Connection) { leafOnly(c); c.Attested = c.Attested[:1] }

	// The victim's hub does not know the line yet.
	r.hub("victim", anchors(vendor.Certificate))
	r.expect(over(leaf(t, line, "SN-1"), alone), provision.ChainIncomplete)
	r.expect(over(leaf(t, line, "SN-1"), leafOnly), provision.ChainIncomplete)
	victims := func(c provision.Connection, want provision.Reason) {
		t.Helper()
		if d := r.expect(c, want); d.HubName != "victim" {
			t.Errorf("admitted to %s", d.HubName)
		}
	}
	// It learns it from the first device that brings its chain.
	victims(over(leaf(t, line, "SN-2")), provision.DeviceProvisioned)
	victims(over(leaf(t, line, "SN-3"), leafOnly), provision.DeviceProvisioned)
	victims(over(leaf(t, line, "SN-4"), alone, sni("victim.iot.example.com")), provision.DeviceProvisioned)
	r.expect(over(leaf(t, line, "SN-5"), alone), provision.ChainIncomplete)

	// Uploaded, it still loses to a path that the device sent whole.
	r.hub("worse", anchors(root(t, "Unrelated").Certificate))
	second := root(t, "Mallory 2")
	r.hub("worst", anchors(second.Certificate), intermediates(must[*x509.Certificate](t)(second.CrossSign(line))))
	victims(over(leaf(t, line, "SN-6")), provision.DeviceProvisioned)
	victims(over(leaf(t, line, "SN-7"), leafOnly), provision.DeviceProvisioned)
}

func TestUntilItsHubsAreLoadedTheGateDeniesNobody(t *testing.T) {
	t.Parallel()
	store, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	gate, err := provision.NewGate(provision.GateConfig{Store: store, Domain: "iot.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	c := over(leaf(t, root(t, "Vendor"), "SN-1"), sni("factory.iot.example.com"))
	if d := gate.Admit(t.Context(), c); d.Reason != provision.StoreUnavailable {
		t.Errorf("%s (%s), want %s", d.Reason, d.Detail, provision.StoreUnavailable)
	}
}
