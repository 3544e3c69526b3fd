package provision_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

func (s *flakyStore) BindDevice(ctx context.Context, b provision.Binding) (provision.Device, error) {
	if err := s.check(); err != nil {
		return provision.Device{}, err
	}
	return s.Store.BindDevice(ctx, b)
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

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = bytes.Buffer{}
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

func intermediates(certs ...*x509.Certificate) func(*provision.Hub) {
	return func(h *provision.Hub) {
		for _, c := range certs {
			h.Intermediates = append(h.Intermediates, c.Raw)
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

// sealed is the connection as an edge brings it that has decoded nothing. read
// counts how often it has to; nil: nobody asks.
func sealed(c provision.Connection, read *int) provision.Connection {
	e := envelope{c, read}
	c.Leaf, c.Attested, c.Presented, c.Evidence = nil, nil, nil, e
	return c
}

type envelope struct {
	provision.Connection
	read *int
}

func (e envelope) Attested() (leaf, prints string) {
	if len(e.Connection.Attested) > 0 {
		prints = fmt.Sprintf("%x", e.Connection.Attested)
	}
	return string(e.Leaf), prints
}

func (e envelope) Presented() [2]string {
	return [2]string{fmt.Sprintf("%x", e.Connection.Presented)}
}

func (e envelope) Read(c *provision.Connection) {
	if e.read != nil {
		*e.read++
	}
	c.Leaf, c.Attested, c.Presented = e.Leaf, e.Connection.Attested, e.Connection.Presented
}

func (r *rig) expect(c provision.Connection, want provision.Reason) provision.Decision {
	r.t.Helper()
	d := r.gate.Admit(r.t.Context(), sealed(c, nil))
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
