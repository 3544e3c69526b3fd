package sessions

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/authz"
	"github.com/hubgate/hubgate/brokerauth"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/session"
)

const (
	// domain is that of all hubs.
	domain = "iot.example.com"
	// patience bounds each step: many servers share few cores.
	patience = 30 * time.Second
	// heartbeat is short, so that what a dead Envoy left is soon gone.
	heartbeat = time.Second
)

// soak is whether there is time for long loops.
var soak = os.Getenv("HUBGATE_SOAK") != ""

// store is all that a store can do for sessions and for those who order ends.
type store interface {
	provision.Store
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Sessions
	provision.Announcer
	provision.Outbox
	provision.Claims
}

// storage opens the same store again and again, as restarts of hubgate do, and
// gives what closes it.
type storage func(t testing.TB) (store, func())

// storages are both kinds.
var storages = map[string]func(testing.TB) storage{"bolt": onBolt, "redis": onRedis}

func onBolt(t testing.TB) storage {
	path := filepath.Join(t.TempDir(), "hubgate.db")
	return func(t testing.TB) (store, func()) {
		t.Helper()
		s := must(boltstore.Open(boltstore.Config{Path: path}))(t)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(context.Background()) }()
		return s, func() {
			if err := errors.Join(s.Close(), <-ended); err != nil {
				t.Error(err)
			}
		}
	}
}

func onRedis(t testing.TB) storage {
	url := redistest.Start(t).URL()
	return func(t testing.TB) (store, func()) {
		t.Helper()
		s := must(redisstore.Open(t.Context(), redisstore.Config{URL: url, Timeout: 10 * time.Second}))(t)
		return s, func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// hubgate can be stopped and started again, at the same addresses.
type hubgate struct {
	open        storage
	authz, link string
	broker      string // where brokers ask
	store       store
	gate        *provision.Gate
	stop        func()
	log         *os.File

	mu      sync.Mutex
	between map[string]func() // by leaf: what happens after its check, before Envoy hears of it
}

func startHubgate(t testing.TB, open storage) *hubgate {
	t.Helper()
	addresses := freeAddresses(t, 3)
	h := &hubgate{open: open, authz: addresses[0], link: addresses[1], broker: addresses[2], between: make(map[string]func())}
	h.log = must(os.Create(filepath.Join(t.TempDir(), "hubgate.log")))(t)
	t.Cleanup(func() {
		if text, err := os.ReadFile(h.log.Name()); t.Failed() {
			t.Logf("the end of hubgate's log: %v\n%s", err, text[max(0, len(text)-8<<10):])
		}
		_ = h.log.Close()
	})
	h.start(t)
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *hubgate) start(t testing.TB) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(h.log, nil))
	opened, closeStore := h.open(t)
	h.store = opened
	tracker := must(session.New(session.Config{Store: h.store, Logger: log, Heartbeat: heartbeat}))(t)
	gate := must(provision.NewGate(provision.GateConfig{
		Store: h.store, Domain: domain, Logger: log, Sessions: tracker, Changes: tracker, Denials: h.store,
	}))(t)
	h.gate = gate
	server := must(authz.New(authz.Config{Gate: &interposed{gate, h}, Sessions: tracker, Logger: log}))(t)
	broker := must(brokerauth.New(brokerauth.Config{
		Gate: gate, Sessions: tracker, Logger: log,
		Services: []brokerauth.Service{{Username: serviceName, Password: sha256.Sum256([]byte(servicePassword))}},
	}))(t)
	questions := must(net.Listen("tcp", h.broker))(t)
	checks := must(authz.Listen(t.Context(), h.authz, 0))(t)
	links := must(net.Listen("tcp", h.link))(t)
	background, end := context.WithCancel(context.Background())
	front, drain := context.WithCancel(context.Background())
	var behind, before sync.WaitGroup
	run := func(group *sync.WaitGroup, part func() error) {
		group.Go(func() {
			if err := part(); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	run(&behind, func() error { return gate.Run(background) })
	run(&behind, func() error { return tracker.Run(background, gate) })
	run(&before, func() error { return server.Serve(front, checks) })
	run(&before, func() error { return tracker.Serve(front, links) })
	run(&before, func() error { return broker.Serve(front, questions) })
	h.stop = func() {
		drain()
		before.Wait()
		end()
		behind.Wait()
		closeStore()
		h.stop = func() {}
	}
	eventually(t, "hubgate is ready", gate.Ready)
}

// interposed is a Gate between whose decision and answer something can happen.
type interposed struct {
	*provision.Gate
	hubgate *hubgate
}

func (i *interposed) Admit(ctx context.Context, c provision.Connection) provision.Decision {
	d := i.Gate.Admit(ctx, c)
	if c.Evidence != nil { // the Gate may have done without
		c.Evidence.Read(&c)
	}
	i.hubgate.mu.Lock()
	act := i.hubgate.between[string(c.Leaf)]
	delete(i.hubgate.between, string(c.Leaf))
	i.hubgate.mu.Unlock()
	if act != nil {
		act()
	}
	return d
}

// fleet is a hub, with the vendor whose chips it trusts.
type fleet struct {
	*hubgate
	hub        provision.Hub
	root, line *pki.Authority
}

// fleet makes a hub of its own, with auto-provisioning on, and waits until
// checks know it.
func (h *hubgate) fleet(t testing.TB) *fleet {
	t.Helper()
	name := "hub-" + uuid.NewString()[:8]
	f := &fleet{hubgate: h, root: must(pki.NewRoot("Root of " + name))(t)}
	f.line = must(f.root.Intermediate("Line of " + name))(t)
	now := time.Now()
	f.hub = must(h.store.CreateHub(t.Context(), provision.Hub{
		ID: provision.NewHubID(), Name: name, AutoProvisioning: true, Anchors: [][]byte{f.root.Certificate.Raw}, CreatedAt: now, UpdatedAt: now,
	}, provision.Created.OnHub(provision.Hub{Name: name}, now)))(t)
	f.known(t)
	return f
}

func (f *fleet) known(t testing.TB) {
	t.Helper()
	eventually(t, "the gate knows the hub", func() error {
		if known, ok := f.gate.Hub(f.hub.ID.String()); !ok || known.Version != f.hub.Version {
			return fmt.Errorf("it has version %d, want %d", known.Version, f.hub.Version)
		}
		return nil
	})
}

// device is a chip that presents its leaf and its line's certificate.
func (f *fleet) device(t testing.TB, name string) *device {
	t.Helper()
	identity := must(f.line.Leaf(name))(t)
	return &device{fleet: f, name: name, id: provision.DeviceIDOf(f.hub.ID, name), identity: identity, cert: identity.TLS()}
}

func (f *fleet) edit(t testing.TB, change func(*provision.Hub)) {
	t.Helper()
	f.hub = must(f.store.UpdateHub(t.Context(), f.hub.ID, func(h *provision.Hub) error {
		change(h)
		return nil
	}, func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }))(t)
}

// listed are the names of the devices whose sessions are on record, once each.
func (f *fleet) listed(t testing.TB) []string {
	t.Helper()
	var names []string
	for cursor := ""; ; {
		page, next, err := f.store.HubSessions(t.Context(), f.hub.ID, cursor, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			if s.Confirmed {
				names = append(names, s.DeviceName)
			}
		}
		if cursor = next; cursor == "" {
			slices.Sort(names)
			return names
		}
	}
}

// lists waits until exactly the connections of these devices are on record.
func (f *fleet) lists(t testing.TB, names ...string) {
	t.Helper()
	slices.Sort(names)
	eventually(t, "the list of sessions equals the open sockets", func() error {
		if got := f.listed(t); !slices.Equal(got, names) {
			return fmt.Errorf("%d sessions %.300q, want %d: %.300q", len(got), got, len(names), names)
		}
		return nil
	})
}

// device is a chip.
type device struct {
	fleet    *fleet
	name     string
	id       provision.DeviceID
	identity *pki.Identity
	cert     tls.Certificate
}

func (d *device) edit(t testing.TB, change func(*provision.Device)) {
	t.Helper()
	must(d.fleet.store.UpdateDevice(t.Context(), provision.Update{
		Hub: d.fleet.hub.ID, Device: d.id,
		Change: func(d *provision.Device) error {
			change(d)
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.Updated.OnDevice(d, time.Now()) },
	}))(t)
}

func (d *device) disable(t testing.TB) {
	t.Helper()
	d.edit(t, func(d *provision.Device) { d.Disabled = true })
}

func (d *device) delete(t testing.TB) {
	t.Helper()
	event := func(d provision.Device) provision.Event { return provision.Deleted.OnDevice(d, time.Now()) }
	if err := d.fleet.store.DeleteDevice(t.Context(), d.fleet.hub.ID, d.id, event); err != nil {
		t.Fatal(err)
	}
}

// order is what `hubgate session end` does.
func (d *device) order(t testing.TB) {
	t.Helper()
	d.edit(t, func(d *provision.Device) { d.SessionsEndBefore = time.Now() })
}

// sends makes the device present exactly these certificates after its leaf.
func (d *device) sends(certs ...*x509.Certificate) *device {
	d.cert = d.identity.TLSWith(certs...)
	return d
}

// must takes a result whose error ends the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventually waits for what happens in its own time.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < patience; time.Sleep(5 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, patience, err)
}

func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var addresses []string
	for _, port := range must(process.FreePorts(n))(t) {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return addresses
}
