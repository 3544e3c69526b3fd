package provision_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/trust"
)

var source = netip.MustParseAddr("192.0.2.7")

// rig is a Gate on an embedded store of its own.
type rig struct {
	t     *testing.T
	gate  *provision.Gate
	store *flakyStore
	log   *syncBuffer
	reg   *prometheus.Registry
}

// flakyStore is a real store behind a wire that can be cut: calls then fail as
// those to a store that does not answer, and the change feed stops.
type flakyStore struct {
	*boltstore.Store
	mu   sync.Mutex
	down bool
}

func (s *flakyStore) cut(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *flakyStore) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return provision.ErrUnavailable
	}
	return nil
}

func (s *flakyStore) Hub(ctx context.Context, id provision.HubID) (provision.Hub, error) {
	if err := s.check(); err != nil {
		return provision.Hub{}, err
	}
	return s.Store.Hub(ctx, id)
}

func (s *flakyStore) Device(ctx context.Context, hub provision.HubID, name string) (provision.Device, error) {
	if err := s.check(); err != nil {
		return provision.Device{}, err
	}
	return s.Store.Device(ctx, hub, name)
}

func (s *flakyStore) ClaimHub(ctx context.Context, h provision.Hub) error {
	if err := s.check(); err != nil {
		return err
	}
	return s.Store.ClaimHub(ctx, h)
}

func (s *flakyStore) CreateDevice(ctx context.Context, c provision.Creation) (provision.Device, bool, error) {
	if err := s.check(); err != nil {
		return provision.Device{}, false, err
	}
	return s.Store.CreateDevice(ctx, c)
}

func (s *flakyStore) Watch(ctx context.Context, sink provision.Sink) error {
	return s.Store.Watch(ctx, cutSink{s, sink})
}

type cutSink struct {
	store *flakyStore
	provision.Sink
}

func (c cutSink) Fresh(partition int, at time.Time) {
	if c.store.check() == nil {
		c.Sink.Fresh(partition, at)
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newRig(t *testing.T, edit ...func(*provision.GateConfig)) *rig {
	t.Helper()
	store, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: &flakyStore{Store: store}, log: &syncBuffer{}, reg: prometheus.NewRegistry()}
	config := provision.GateConfig{
		Store:      r.store,
		Domain:     "iot.example.com",
		Logger:     slog.New(slog.NewTextHandler(r.log, nil)),
		Registerer: r.reg,
	}
	for _, e := range edit {
		e(&config)
	}
	if r.gate, err = provision.NewGate(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = store.Run(ctx) })
	running.Go(func() { _ = r.gate.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	r.eventually("the gate is ready", func() bool { return r.gate.Ready() == nil })
	return r
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// hub stores a hub and waits until the gate serves it.
func (r *rig) hub(name string, edit ...func(*provision.Hub)) provision.Hub {
	r.t.Helper()
	h := provision.Hub{ID: provision.NewHubID(), Name: name, AutoProvisioning: true}
	for _, e := range edit {
		e(&h)
	}
	h, err := r.store.CreateHub(r.t.Context(), h, provision.Created.OnHub(h, time.Now()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.eventually("hub "+name+" is served", func() bool { _, ok := r.gate.Hub(name); return ok })
	return h
}

func anchors(certs ...*x509.Certificate) func(*provision.Hub) {
	return func(h *provision.Hub) {
		for _, c := range certs {
			h.Anchors = append(h.Anchors, c.Raw)
		}
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func root(t *testing.T, name string) *pki.Authority {
	t.Helper()
	return must[*pki.Authority](t)(pki.NewRoot(name))
}

func leaf(t *testing.T, a *pki.Authority, cn string, opts ...pki.Option) *pki.Identity {
	t.Helper()
	return must[*pki.Identity](t)(a.Leaf(cn, opts...))
}

// over is the device's connection: HTTP with its whole chain.
func over(id *pki.Identity, edit ...func(*provision.Connection)) provision.Connection {
	c := provision.Connection{Protocol: provision.HTTP, TLS: true, Leaf: id.Certificate.Raw, Source: source}
	for _, cert := range id.Chain {
		c.Presented = append(c.Presented, cert.Raw)
		c.Attested = append(c.Attested, trust.FingerprintOf(cert))
	}
	for _, e := range edit {
		e(&c)
	}
	return c
}

func sni(name string) func(*provision.Connection) {
	return func(c *provision.Connection) { c.SNI = name }
}

// leafOnly is how a device connects over plain TCP: Envoy forwards no chain.
func leafOnly(c *provision.Connection) {
	c.Protocol, c.Presented = provision.TCP, nil
}

func (r *rig) expect(c provision.Connection, want provision.Reason) provision.Decision {
	r.t.Helper()
	d := r.gate.Admit(r.t.Context(), c)
	if d.Reason != want {
		r.t.Fatalf("reason %s (%s), want %s", d.Reason, d.Detail, want)
	}
	return d
}

func (r *rig) devices(h provision.Hub) []provision.Device {
	r.t.Helper()
	list, _, err := r.store.Devices(r.t.Context(), h.ID, provision.ByName, "", 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

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

// mustMetric gathers one family and sums it into a gauge.
func mustMetric(t *testing.T, reg *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sum"})
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				g.Add(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	return g
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

func TestChangesAreInForceOnceAcknowledged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	next := root(t, "Vendor 2")
	hub := r.hub("factory", anchors(vendor.Certificate))
	dev := leaf(t, vendor, "SN-1")
	r.expect(over(dev), provision.DeviceProvisioned)
	r.expect(over(dev), provision.DeviceKnown)
	id := provision.DeviceIDOf(hub.ID, "SN-1")

	set := func(disabled bool) {
		t.Helper()
		act := provision.Enabled
		if disabled {
			act = provision.Disabled
		}
		if _, err := r.store.UpdateDevice(t.Context(), provision.Update{
			Hub: hub.ID, Device: id,
			Change: func(d *provision.Device) error { d.Disabled = disabled; return nil },
			Event:  func(d provision.Device) provision.Event { return act.OnDevice(d, time.Now()) },
		}); err != nil {
			t.Fatal(err)
		}
	}
	becomes := func(c provision.Connection, want provision.Reason) {
		t.Helper()
		r.eventually(string(want), func() bool { return r.gate.Admit(t.Context(), c).Reason == want })
	}
	set(true)
	becomes(over(dev), provision.DeviceDisabled)
	set(false)
	becomes(over(dev), provision.DeviceKnown)
	if err := r.store.DeleteDevice(t.Context(), hub.ID, id, func(d provision.Device) provision.Event { return provision.Deleted.OnDevice(d, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	becomes(over(dev), provision.DeviceProvisioned)

	update := func(change func(*provision.Hub)) {
		t.Helper()
		if _, err := r.store.UpdateHub(t.Context(), hub.ID,
			func(h *provision.Hub) error { change(h); return nil },
			func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }); err != nil {
			t.Fatal(err)
		}
	}
	// Another anchor than the one that admitted the device, on the same hub.
	update(func(h *provision.Hub) { h.Anchors = append(h.Anchors, next.Certificate.Raw) })
	becomes(over(leaf(t, next, "SN-2")), provision.DeviceProvisioned)
	r.expect(over(leaf(t, next, "SN-1")), provision.DeviceIssuerChanged)

	update(func(h *provision.Hub) { h.Anchors = h.Anchors[1:] })
	becomes(over(dev, sni("factory.iot.example.com")), provision.ChainIncomplete)
	update(func(h *provision.Hub) { h.Disabled = true })
	becomes(over(leaf(t, next, "SN-2")), provision.HubDisabled)
	if err := r.store.DeleteHub(t.Context(), hub.ID, provision.Deleted.OnHub(hub, time.Now())); err != nil {
		t.Fatal(err)
	}
	becomes(over(leaf(t, next, "SN-2"), sni("factory.iot.example.com")), provision.HubUnknown)
}

func TestNothingIsCreatedAfterAHubWasDisabled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	devices := make([]provision.Connection, 200)
	for i := range devices {
		devices[i] = over(leaf(t, vendor, fmt.Sprintf("SN-%03d", i)))
	}
	var creators sync.WaitGroup
	for worker := range 8 {
		creators.Go(func() {
			for i := worker; i < len(devices); i += 8 {
				r.gate.Admit(t.Context(), devices[i])
			}
		})
	}
	if _, err := r.store.UpdateHub(t.Context(), hub.ID,
		func(h *provision.Hub) error { h.Disabled = true; return nil },
		func(h provision.Hub) provision.Event { return provision.Disabled.OnHub(h, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	before := len(r.devices(hub))
	creators.Wait()
	if after := len(r.devices(hub)); after != before {
		t.Errorf("%d devices were created after the hub's disabling was acknowledged", after-before)
	}
}

func TestSimultaneousFirstConnectionsCreateOneDevice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	conn := over(leaf(t, vendor, "SN-1"))
	reasons := make(chan provision.Reason, 200)
	var all sync.WaitGroup
	for range cap(reasons) {
		all.Go(func() { reasons <- r.gate.Admit(t.Context(), conn).Reason })
	}
	all.Wait()
	close(reasons)
	count := map[provision.Reason]int{}
	for reason := range reasons {
		count[reason]++
	}
	if count[provision.DeviceProvisioned] != 1 || count[provision.DeviceKnown] != 199 {
		t.Errorf("outcomes %v, want one device_provisioned and 199 device_known", count)
	}
	if n := len(r.devices(hub)); n != 1 {
		t.Errorf("%d devices, want 1", n)
	}
}

func TestKnownDevicesOutliveAStoreOutage(t *testing.T) {
	t.Parallel()
	var clock sync.Mutex
	var ahead time.Duration
	r := newRig(t, func(c *provision.GateConfig) {
		c.OutageWindow = time.Minute
		c.Now = func() time.Time {
			clock.Lock()
			defer clock.Unlock()
			return time.Now().Add(ahead)
		}
	})
	vendor := root(t, "Vendor")
	r.hub("factory", anchors(vendor.Certificate))
	known, unseen := over(leaf(t, vendor, "SN-1")), over(leaf(t, vendor, "SN-2"))
	r.expect(known, provision.DeviceProvisioned)
	r.expect(known, provision.DeviceKnown)

	r.store.cut(true)
	pass := func(d time.Duration) {
		clock.Lock()
		defer clock.Unlock()
		ahead += d
	}
	pass(10 * time.Second) // the feed's proof is too old now: checks read through
	r.expect(known, provision.DeviceKnown)
	if d := r.expect(unseen, provision.StoreUnavailable); d.RetryAfter == 0 {
		t.Error("a fault without Retry-After")
	}
	pass(time.Minute) // beyond the window
	r.expect(known, provision.StoreUnavailable)
	if n := testutil.ToFloat64(mustMetric(t, r.reg, "hubgate_store_up")); n != 0 {
		t.Errorf("hubgate_store_up = %v", n)
	}
	if err := r.gate.Ready(); err != nil {
		t.Errorf("a store that does not answer makes the gate unready: %v", err)
	}

	r.store.cut(false)
	clock.Lock()
	ahead = 0
	clock.Unlock()
	r.expect(known, provision.DeviceKnown)
	r.expect(unseen, provision.DeviceProvisioned)
}

func TestDeclaredHubs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, next := root(t, "Vendor"), root(t, "Vendor 2")
	declared := func(edit ...func(*provision.Hub)) provision.Hub {
		h := provision.Hub{ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "hubgate.yaml", AutoProvisioning: true}
		for _, e := range edit {
			e(&h)
		}
		return h
	}
	declare := func(hubs ...provision.Hub) {
		t.Helper()
		if err := r.gate.Declare(t.Context(), hubs); err != nil {
			t.Fatal(err)
		}
	}
	declare(declared(anchors(vendor.Certificate)))
	dev := over(leaf(t, vendor, "SN-1"))
	r.expect(dev, provision.DeviceProvisioned)

	// In force when Declare returns, without waiting for anything.
	declare(declared(anchors(next.Certificate)))
	r.expect(over(leaf(t, vendor, "SN-1"), sni("factory.iot.example.com")), provision.ChainIncomplete)
	r.expect(over(leaf(t, next, "SN-2")), provision.DeviceProvisioned)
	declare(declared(anchors(next.Certificate), func(h *provision.Hub) { h.Disabled = true }))
	r.expect(over(leaf(t, next, "SN-2")), provision.HubDisabled)
	declare()
	r.expect(over(leaf(t, next, "SN-2"), sni("factory.iot.example.com")), provision.HubUnknown)
	declare(declared(anchors(vendor.Certificate)))
	r.expect(dev, provision.DeviceKnown)

	// Settings change in a file while the store is down.
	r.store.cut(true)
	declare(declared(anchors(next.Certificate)))
	r.expect(over(leaf(t, vendor, "SN-1"), sni("factory.iot.example.com")), provision.ChainIncomplete)
	declare(declared(anchors(vendor.Certificate)))
	r.store.cut(false)

	// A name that a stored hub has cannot be declared, and what was stays.
	other := root(t, "Vendor 3")
	r.hub("stored", anchors(other.Certificate))
	taken := provision.Hub{ID: provision.DeclaredHubID("stored"), Name: "stored", Declared: "hubgate.yaml"}
	if err := r.gate.Declare(t.Context(), []provision.Hub{taken}); err == nil {
		t.Error("declared a hub whose name is taken")
	}
	r.expect(dev, provision.DeviceKnown)

	// An anchor that a stored hub trusts cannot be declared on another hub.
	same := declared(anchors(other.Certificate))
	var problem *provision.HubError
	if err := r.gate.Declare(t.Context(), []provision.Hub{same}); !errors.As(err, &problem) || problem.Field != "trust_anchors" {
		t.Errorf("declared an anchor of another hub: %v", err)
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
