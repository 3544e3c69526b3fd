package session_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/session"
	"github.com/hubgate/hubgate/trust"
)

// backend is what the tests need of a store, beyond what a Tracker does.
type backend interface {
	provision.Store
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Sessions
	provision.Announcer
	provision.Outbox
}

type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// clock is the real one, which can be put forward.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// replica is a hubgate: a Gate and a Tracker on a store.
type replica struct {
	t       testing.TB
	store   *wire
	gate    *provision.Gate
	tracker *session.Tracker
	clock   *clock
	log     *buffer
	reg     *prometheus.Registry
	address string
	drain   func() // ends Serve, and waits for it
}

// heartbeat is short, so that silence is soon noticed.
const heartbeat = 100 * time.Millisecond

func newReplica(t testing.TB, store backend, edit ...func(*session.Config)) *replica {
	t.Helper()
	r := &replica{t: t, store: &wire{backend: store}, clock: new(clock), log: new(buffer), reg: prometheus.NewRegistry()}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	config := session.Config{Store: r.store, Logger: log, Registerer: r.reg, Now: r.clock.now, Heartbeat: heartbeat}
	for _, e := range edit {
		e(&config)
	}
	r.tracker = must(session.New(config))(t)
	r.gate = must(provision.NewGate(provision.GateConfig{
		Store: r.store, Logger: slog.New(slog.DiscardHandler), Sessions: r.tracker, Changes: r.tracker, Denials: r.store,
	}))(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	r.address = l.Addr().String()
	background, end := context.WithCancel(context.Background())
	front, drain := context.WithCancel(context.Background())
	var running, serving sync.WaitGroup
	running.Go(func() { _ = r.gate.Run(background) })
	running.Go(func() { _ = r.tracker.Run(background, r.gate) })
	serving.Go(func() {
		if err := r.tracker.Serve(front, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	r.drain = func() {
		drain()
		serving.Wait()
	}
	t.Cleanup(func() {
		r.drain()
		end()
		running.Wait()
	})
	eventually(t, "the replica is ready", func() bool { return r.gate.Ready() == nil })
	return r
}

// newSite is a replica on an embedded store of its own.
func newSite(t testing.TB, edit ...func(*session.Config)) *replica {
	t.Helper()
	store := must(boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")}))(t)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = store.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return newReplica(t, store, edit...)
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// never looks for a while whether something happens that should not.
func never(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(150 * time.Millisecond); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if is() {
			t.Fatalf("it is so: %s", what)
		}
	}
}

// fleet is a hub with its CA.
type fleet struct {
	r      *replica
	hub    provision.Hub
	anchor *pki.Authority
}

func newFleet(r *replica, name string) *fleet {
	r.t.Helper()
	ca := must(pki.NewRoot(name + " root"))(r.t)
	now := time.Now()
	hub := must(r.store.CreateHub(r.t.Context(), provision.Hub{
		ID: provision.NewHubID(), Name: name, AutoProvisioning: true, Anchors: [][]byte{ca.Certificate.Raw}, CreatedAt: now, UpdatedAt: now,
	}, provision.Created.OnHub(provision.Hub{Name: name}, now)))(r.t)
	return &fleet{r, hub, ca}
}

func (f *fleet) edit(change func(*provision.Hub)) {
	f.r.t.Helper()
	f.hub = must(f.r.store.UpdateHub(f.r.t.Context(), f.hub.ID, func(h *provision.Hub) error {
		change(h)
		return nil
	}, func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }))(f.r.t)
}

// device creates a device.
func (f *fleet) device(name string) *chip {
	f.r.t.Helper()
	now := time.Now()
	d := provision.Device{
		ID: provision.DeviceIDOf(f.hub.ID, name), Hub: f.hub.ID, Name: name, Version: 1,
		Anchor: trust.KeyHashOf(f.anchor.Certificate), CreatedAt: now, UpdatedAt: now,
	}
	d, _, err := f.r.store.CreateDevice(f.r.t.Context(), provision.Creation{
		Device: d, HubVersion: f.hub.Version, Event: provision.Created.OnDevice(d, now),
	})
	if err != nil {
		f.r.t.Fatal(err)
	}
	return &chip{f, d}
}

// chip is a device.
type chip struct {
	fleet *fleet
	provision.Device
}

func (d *chip) edit(change func(*provision.Device)) {
	t := d.fleet.r.t
	t.Helper()
	must(d.fleet.r.store.UpdateDevice(t.Context(), provision.Update{
		Hub: d.Hub, Device: d.ID,
		Change: func(d *provision.Device) error {
			change(d)
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.Updated.OnDevice(d, time.Now()) },
	}))(t)
}

func (d *chip) disable() { d.edit(func(d *provision.Device) { d.Disabled = true }) }

// live returns what is on record of the device.
func (d *chip) live() []provision.Session {
	t := d.fleet.r.t
	t.Helper()
	return must(d.fleet.r.store.backend.DeviceSessions(context.WithoutCancel(t.Context()), d.Hub, d.ID))(t)
}

// confirmed reports whether exactly that session is on record and confirmed.
func (d *chip) confirmed(id string) func() bool {
	return func() bool {
		live := d.live()
		return len(live) == 1 && live[0].ID == id && live[0].Confirmed
	}
}

func (d *chip) gone() bool { return len(d.live()) == 0 }

var source = netip.MustParseAddr("192.0.2.7")

// envoy is an Envoy process with the library.
type envoy struct {
	t      testing.TB
	id     provision.EnvoyID
	client *link.Client
	cut    func() // ends the link, and waits for it
	mu     sync.Mutex
	number uint64
}

func newEnvoy(t testing.TB, replicas ...*replica) *envoy {
	t.Helper()
	e := &envoy{t: t, id: provision.EnvoyID{Node: "edge", Epoch: strings.ReplaceAll(uuid.NewString(), "-", "")}, cut: func() {}}
	var addresses []string
	for _, r := range replicas {
		addresses = append(addresses, r.address)
	}
	e.client = must(link.NewClient(link.ClientConfig{
		Addresses: addresses, Hello: link.Hello{Node: e.id.Node, Epoch: e.id.Epoch, Library: "test"}, Log: slog.New(slog.DiscardHandler),
	}))(t)
	t.Cleanup(func() { e.cut() })
	return e
}

// link connects to hubgate, and waits until hubgate knows.
func (e *envoy) link(r *replica) *envoy {
	e.t.Helper()
	before := strings.Count(r.log.String(), "Envoy linked")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.client.Run(ctx) })
	e.cut = func() {
		cancel()
		running.Wait()
	}
	eventually(e.t, "the Envoy is linked", func() bool { return strings.Count(r.log.String(), "Envoy linked") > before })
	return e
}

// socket is an open connection.
type socket struct {
	envoy   *envoy
	number  uint64
	session string
	entry   *link.Session
	keep    atomic.Bool // does not close when told to
	ended   chan byte
	ready   chan struct{} // entry is set

	mu     sync.Mutex
	let    bool // it was released
	closed bool
}

// End implements link.Control.
func (s *socket) End(code byte, _ string) {
	s.ended <- code
	if !s.keep.Load() {
		<-s.ready
		s.close()
	}
}

func (s *socket) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.entry.Close()
}

// Release implements link.Control.
func (s *socket) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.let = !s.closed
}

// atBroker reports whether what the device sends gets through.
func (s *socket) atBroker() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.let && !s.closed
}

// Active implements link.Control.
func (s *socket) Active() bool { return false }

func (e *envoy) next() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.number++
	return e.number
}

// check asks whether a connection may go on, as it is decided that it may.
func (e *envoy) check(r *replica, d *chip, protocol provision.Protocol, number uint64) string {
	return e.checkAt(r, d, protocol, number, r.clock.now())
}

func (e *envoy) checkAt(r *replica, d *chip, protocol provision.Protocol, number uint64, now time.Time) string {
	return r.tracker.Allowed(context.Background(), provision.Session{
		ID: uuid.Must(uuid.NewV7()).String(), Hub: d.Hub, Device: d.ID, DeviceName: d.Name, Protocol: protocol,
		Envoy: e.id, Connection: number, Source: source, Secret: d.Secret.Mark(), Since: now, LastActivity: now,
		Certificates: []trust.RevocationID{trust.KeyID(leafKey)}, Expires: now.Add(chainLife), Anchor: d.cameBy(),
	})
}

// cameBy is the anchor that the device's chain leads to; none without TLS.
func (d *chip) cameBy() trust.KeyHash {
	if !d.Secret.IsZero() {
		return trust.KeyHash{}
	}
	return trust.KeyHashOf(d.fleet.anchor.Certificate)
}

// What each chain is judged by.
var leafKey = trust.KeyHash{1, 2, 3}

const chainLife = 24 * time.Hour

// open opens a connection that was let in.
func (e *envoy) open(o link.Open) *socket {
	s := &socket{envoy: e, number: o.Connection, session: o.Session, ended: make(chan byte, 8), ready: make(chan struct{})}
	s.entry = e.client.Open(o, s)
	close(s.ready)
	return s
}

// mqtt is a device connecting: the check, then the connection.
func (e *envoy) mqtt(r *replica, d *chip) *socket {
	n := e.next()
	return e.tcp(n, e.check(r, d, provision.TCP, n), d)
}

func (e *envoy) tcp(number uint64, id string, d *chip) *socket {
	return e.open(link.Open{Connection: number, Protocol: link.TCP, Session: id, Hub: d.Hub.String(), Device: d.ID.String()})
}

// isEnded demands that the connection was ended, with that code.
func (s *socket) isEnded(code byte) {
	s.envoy.t.Helper()
	select {
	case got := <-s.ended:
		if got != code {
			s.envoy.t.Errorf("ended with code %#x, want %#x", got, code)
		}
	case <-time.After(20 * time.Second):
		s.envoy.t.Fatalf("connection %d was not ended", s.number)
	}
}

func (s *socket) open() bool { return len(s.ended) == 0 }

// metric reads one value, summed over its series; 0 if there is none.
func (r *replica) metric(name string, labels ...string) float64 {
	families := must(r.reg.Gather())(r.t)
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		return 0
	}
	sum := 0.0
	for _, m := range families[i].GetMetric() {
		fits := true
		for n := 0; n < len(labels); n += 2 {
			fits = fits && slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
				return l.GetName() == labels[n] && l.GetValue() == labels[n+1]
			})
		}
		if fits {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// logged counts the lines of the log that hold all the texts.
func (r *replica) logged(texts ...string) int {
	n := 0
	for line := range strings.Lines(r.log.String()) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			n++
		}
	}
	return n
}

func newSessionID() string { return uuid.Must(uuid.NewV7()).String() }

var discard = slog.New(slog.DiscardHandler)

func newAnchor() (*pki.Authority, error) { return pki.NewRoot("Declared root") }
