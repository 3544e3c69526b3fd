package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/authz"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// store is all that a store can do.
type store interface {
	provision.Store
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Outbox
	provision.Announcer
	provision.Claims
}

// world is a hubgate on one store, behind an Envoy of its own.
type world struct {
	*front
	store   store
	gate    *provision.Gate
	witness *witness
	grpc    string // hubgate's address
	hookCA  *pki.Authority
}

// witness remembers what the Gate decided, by leaf: over MQTT a refused device
// learns nothing, and no device learns the detail.
type witness struct {
	*provision.Gate
	mu        sync.Mutex
	decisions map[string][]provision.Decision
}

func (w *witness) Admit(ctx context.Context, c provision.Connection) provision.Decision {
	d := w.Gate.Admit(ctx, c)
	if c.Evidence != nil { // it is for the witness to read; the Gate may do without
		c.Evidence.Read(&c)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.decisions[string(c.Leaf)] = append(w.decisions[string(c.Leaf)], d)
	return d
}

// of gives the decisions about a leaf so far.
func (w *witness) of(leaf []byte) []provision.Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.decisions[string(leaf)])
}

// openBolt opens an embedded store that runs until the test ends.
func openBolt(t *testing.T) store {
	t.Helper()
	s, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	return s
}

// openRedis opens a store on a redis-server of its own.
func openRedis(t *testing.T) store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), redisstore.Config{URL: redistest.Start(t).URL(), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newWorld wires hubgate the way `hubgate serve` does, and puts Envoy before it.
func newWorld(t *testing.T, s store, u upstreams) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hookCA := must(pki.NewRoot("Hooks"))(t)
	gate, err := provision.NewGate(provision.GateConfig{
		Store: s, Domain: domain, Logger: log, Hook: newHooks(t, hookCA), Denials: s, FoldWindow: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{store: s, gate: gate, hookCA: hookCA, witness: &witness{Gate: gate, decisions: make(map[string][]provision.Decision)}}
	server, err := authz.New(authz.Config{Gate: w.witness, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := authz.Listen(t.Context(), "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	w.grpc = listener.Addr().String()
	background(t, gate.Run)
	background(t, func(ctx context.Context) error { return server.Serve(ctx, listener) })
	eventually(t, "the gate is ready", func() error { return gate.Ready() })
	w.front = startFront(t, w.grpc, u)
	return w
}

// background runs something until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// hub creates a hub of its own for the test, with auto-provisioning on, and
// waits until checks know it.
func (w *world) hub(t *testing.T, edits ...func(*provision.Hub)) provision.Hub {
	t.Helper()
	h := provision.Hub{ID: provision.NewHubID(), Name: "hub-" + uuid.NewString()[:8], AutoProvisioning: true}
	for _, edit := range edits {
		edit(&h)
	}
	h, err := w.store.CreateHub(t.Context(), h, provision.Created.OnHub(h, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gate knows the hub", func() error {
		if known, ok := w.gate.Hub(h.ID.String()); !ok || known.Version != h.Version {
			return fmt.Errorf("it has version %d", known.Version)
		}
		return nil
	})
	return h
}

func anchors(certs ...*x509.Certificate) func(*provision.Hub) {
	return func(h *provision.Hub) { h.Anchors = append(h.Anchors, raw(certs)...) }
}

func intermediates(certs ...*x509.Certificate) func(*provision.Hub) {
	return func(h *provision.Hub) { h.Intermediates = append(h.Intermediates, raw(certs)...) }
}

func raw(certs []*x509.Certificate) [][]byte {
	ders := make([][]byte, len(certs))
	for i, c := range certs {
		ders[i] = c.Raw
	}
	return ders
}

// protocols are both ways in.
var protocols = []provision.Protocol{provision.HTTP, provision.TCP}

// connect connects as a device and returns what hubgate decided, having checked
// that the device saw just that.
func (w *world) connect(t *testing.T, p provision.Protocol, d dial) provision.Decision {
	t.Helper()
	decision, _ := w.connectResumed(t, p, d)
	return decision
}

// connectResumed tells in addition whether the TLS session was resumed.
func (w *world) connectResumed(t *testing.T, p provision.Protocol, d dial) (provision.Decision, bool) {
	t.Helper()
	leaf := d.cert.Certificate[0]
	before := len(w.witness.of(leaf))
	var (
		a       *answer
		resumed bool
		err     error
	)
	if p == provision.HTTP {
		a, err = w.get(t.Context(), d)
	} else {
		resumed, err = w.converse(t.Context(), d)
	}
	if err != nil && !errors.Is(err, errDenied) {
		t.Fatalf("%s: %v", p, err)
	}
	decisions := w.witness.of(leaf)[before:]
	if len(decisions) != 1 {
		t.Fatalf("%s: hubgate was asked %d times, want once (%+v)", p, len(decisions), a)
	}
	decision := decisions[0]
	if p == provision.TCP {
		if denied := err != nil; denied == decision.Allowed() {
			t.Fatalf("%s: hubgate said %s, the device got %v", p, decision.Reason, err)
		}
		return decision, resumed
	}
	if err := w.matches(a, decision); err != nil {
		t.Fatalf("%s: hubgate said %s (%s), but %v", p, decision.Reason, decision.Detail, err)
	}
	return decision, a.resumed
}

// matches checks an HTTPS answer, and what the backend saw, against the
// decision.
func (w *world) matches(a *answer, d provision.Decision) error {
	through := w.backend.count(a.path)
	if d.Allowed() {
		if a.status != http.StatusOK || through != 1 {
			return fmt.Errorf("the device got %+v", a)
		}
		for name, want := range map[string]string{
			"X-Hub-Id": d.Hub.String(), "X-Device-Id": d.Device.String(), "X-Device-Name": d.DeviceName,
		} {
			if got := a.seen.Header[name]; !slices.Equal(got, []string{want}) {
				return fmt.Errorf("the backend saw %s: %q, want %q", name, got, want)
			}
		}
		if got, ok := a.seen.Header["X-Forwarded-Client-Cert"]; ok {
			return fmt.Errorf("the backend saw X-Forwarded-Client-Cert: %q", got)
		}
		return nil
	}
	status := http.StatusForbidden
	switch {
	case d.Reason.Outcome() == provision.Fault:
		status = http.StatusServiceUnavailable
	case d.Reason == provision.QuotaExceeded || d.Reason == provision.RateLimited:
		status = http.StatusTooManyRequests
	}
	if status != http.StatusForbidden && a.header.Get("Retry-After") == "" {
		return errors.New("the device got no Retry-After")
	}
	want := refusal{Reason: string(d.Reason), Message: d.Reason.Message(), Decision: d.ID}
	if a.status != status || a.refusal != want || through != 0 {
		return fmt.Errorf("the device got %d %+v, want %d %+v; %d requests came through", a.status, a.refusal, status, want, through)
	}
	return nil
}

// expect connects and checks the reason.
func (w *world) expect(t *testing.T, p provision.Protocol, d dial, want provision.Reason) provision.Decision {
	t.Helper()
	decision := w.connect(t, p, d)
	if decision.Reason != want {
		t.Fatalf("%s: %s (%s), want %s", p, decision.Reason, decision.Detail, want)
	}
	return decision
}

// devices are all devices of a hub.
func (w *world) devices(t *testing.T, hub provision.HubID) []provision.Device {
	t.Helper()
	list, next, err := w.store.Devices(t.Context(), hub, provision.ByName, "", 1000)
	if err != nil || next != "" {
		t.Fatalf("devices of %s: %v, cursor %q", hub, err, next)
	}
	return list
}

// provisioned are the events of devices that created themselves on a hub.
func (w *world) provisioned(t *testing.T, hub provision.HubID) []provision.Event {
	t.Helper()
	var found []provision.Event
	partition := hub.Partition(w.store.Partitions())
	for after := uint64(0); ; {
		page, err := w.store.Events(t.Context(), partition, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return found
		}
		for _, e := range page {
			after = e.Seq
			if e.Event.Hub == hub && e.Event.Reason == string(provision.DeviceProvisioned) {
				found = append(found, e.Event)
			}
		}
	}
}

// empty checks that nothing was created on a hub.
func (w *world) empty(t *testing.T, hub provision.Hub) {
	t.Helper()
	if devices, events := w.devices(t, hub.ID), w.provisioned(t, hub.ID); len(devices) != 0 || len(events) != 0 {
		t.Errorf("on hub %s there are devices %+v, events %+v; want none", hub.Name, devices, events)
	}
}

// must takes a result whose error ends the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// timeout is a context of the test that ends by itself.
func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for what happens in its own time.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < patience; time.Sleep(10 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, patience, err)
}
