package fleet_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/trust"
)

// store is what the tests need of one.
type store interface {
	provision.Store
	provision.Outbox
	provision.Sessions
	fleet.Store
}

// opener opens a store, or another handle on the one it opened before.
type opener func(t *testing.T) store

// onStores runs a test on either store.
func onStores(t *testing.T, test func(t *testing.T, open opener)) {
	t.Helper()
	t.Parallel()
	t.Run("bbolt", func(t *testing.T) {
		t.Parallel()
		var s *boltstore.Store
		test(t, func(t *testing.T) store {
			if s == nil {
				s = openBolt(t)
			}
			return s
		})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, "--appendonly", "no")
		test(t, func(t *testing.T) store { return openRedis(t, server) })
	})
}

func openBolt(t *testing.T) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openRedis(t testing.TB, server *redistest.Server) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), redisstore.Config{
		URL: server.URL(), Partitions: 8, Timeout: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// run runs a part until the test ends.
func run(t testing.TB, part func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = part(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// rig is the administration of one process.
type rig struct {
	t     testing.TB
	store store
	gate  *provision.Gate
	fleet *fleet.Fleet
	log   *lines

	metrics *prometheus.Registry
}

func newRig(t testing.TB, s store) *rig {
	t.Helper()
	r := &rig{t: t, store: s, log: &lines{}, metrics: prometheus.NewRegistry()}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	r.gate, err = provision.NewGate(provision.GateConfig{Store: s, Domain: "iot.example.com", Logger: quiet, Registerer: r.metrics})
	if err != nil {
		t.Fatal(err)
	}
	r.fleet, err = fleet.New(fleet.Config{Gate: r.gate, Store: s, Logger: slog.New(slog.NewJSONHandler(r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	run(t, r.gate.Run)
	run(t, r.fleet.Run)
	eventually(t, "the gate is ready", func() bool { return r.gate.Ready() == nil })
	return r
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// lines are what was logged.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// last is the newest line.
func (l *lines) last(t testing.TB) map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := bytes.Split(bytes.TrimSpace(l.text.Bytes()), []byte("\n"))
	var line map[string]any
	if err := json.Unmarshal(all[len(all)-1], &line); err != nil {
		t.Fatalf("%v: %s", err, all[len(all)-1])
	}
	return line
}

// Who asks.
var (
	project  = uuid.MustParse("6f1c1d4e-7a0e-4a51-9a55-0d2f3b1c2a10")
	admin    = access.Principal{Name: "boss", Role: access.Admin, TokenID: "7d1f"}
	operator = access.Principal{Name: "op", Role: access.Operator}
	viewer   = access.Principal{Name: "eye", Role: access.Viewer}
	tenant   = access.Principal{Name: "tenant", Role: access.Admin, Project: project}
	other    = access.Principal{Name: "other", Role: access.Admin, Project: uuid.MustParse("00000000-0000-4000-8000-000000000001")}
)

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (r *rig) hub(name string, edit ...func(*fleet.HubSpec)) fleet.Hub {
	r.t.Helper()
	spec := fleet.HubSpec{Name: name}
	for _, e := range edit {
		e(&spec)
	}
	return must(r.fleet.CreateHub(r.t.Context(), admin, spec))(r.t)
}

func root(t testing.TB, name string, opts ...pki.Option) *pki.Authority {
	t.Helper()
	return must(pki.NewRoot(name, opts...))(t)
}

func pem(certs ...*x509.Certificate) string { return string(pki.EncodeCertificates(certs...)) }

// challenge is a proof for the hub that the CA signed.
func challenge(t testing.TB, ca *pki.Authority, hub string, opts ...pki.Option) string {
	t.Helper()
	now := time.Now()
	opts = append([]pki.Option{pki.WithValidity(now.Add(-time.Minute), now.Add(24*time.Hour))}, opts...)
	return pem(must(ca.Leaf(hub, opts...))(t).Certificate)
}

// trusts has the hub trust the CA.
func (r *rig) trusts(h fleet.Hub, ca *pki.Authority) {
	r.t.Helper()
	_, err := r.fleet.AddAnchor(r.t.Context(), admin, h.Name,
		fleet.AnchorSpec{Certificate: pem(ca.Certificate), Challenge: challenge(r.t, ca, h.ID.String())})
	if err != nil {
		r.t.Fatal(err)
	}
}

// set edits the hub.
func (r *rig) set(h fleet.Hub, c fleet.HubChange) fleet.Hub {
	r.t.Helper()
	return must(r.fleet.UpdateHub(r.t.Context(), admin, h.Name, c))(r.t)
}

// connection is that of a device of the CA.
func connection(t testing.TB, ca *pki.Authority, name string) provision.Connection {
	t.Helper()
	leaf := must(ca.Leaf(name))(t)
	return provision.Connection{
		Protocol: provision.TCP, TLS: true, Leaf: leaf.Certificate.Raw, Source: netip.MustParseAddr("192.0.2.7"),
		Attested: []trust.Fingerprint{trust.FingerprintOf(leaf.Certificate)},
	}
}

// declare declares a hub with an anchor.
func (r *rig) declare(name string, ca *pki.Authority) provision.Hub {
	r.t.Helper()
	h := provision.Hub{ID: provision.DeclaredHubID(name), Name: name, Declared: "hubgate.yaml", AutoProvisioning: true,
		Anchors: [][]byte{ca.Certificate.Raw}}
	if err := r.gate.Declare(r.t.Context(), []provision.Hub{h}); err != nil {
		r.t.Fatal(err)
	}
	return h
}

// reasons are those of the hub's events, oldest first.
func (r *rig) reasons(hub provision.HubID) []string {
	r.t.Helper()
	var all []string
	for after := uint64(0); ; {
		events := must(r.store.Events(r.t.Context(), hub.Partition(r.store.Partitions()), after, 1000))(r.t)
		if len(events) == 0 {
			return all
		}
		for _, e := range events {
			if e.Event.Hub == hub {
				all = append(all, e.Event.Reason)
			}
		}
		after = events[len(events)-1].Seq
	}
}

// code is the outcome of an act, for tables.
func code(err error) string {
	var refusal *fleet.Refusal
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &refusal):
		return string(refusal.Code)
	case errors.Is(err, provision.ErrNotFound):
		return "not_found"
	case errors.Is(err, provision.ErrExists):
		return "exists"
	case errors.Is(err, access.ErrDenied):
		return "denied"
	}
	return err.Error()
}

func ptr[T any](v T) *T { return &v }
