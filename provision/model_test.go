package provision_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/trust"
)

// model is what a hub should do, in the simplest words: one map, one function.
type model struct {
	disabled, manual bool
	anchors          [3]bool // of two that the hub may trust, and of a stranger
	policy           provision.Policy
	devices          map[string]*modelDevice
	revoked          map[modelKey]bool
	provisioned      int
}

// modelKey is one of the two keys of a device, which each anchor, and the stranger,
// certified.
type modelKey struct {
	name string
	key  int
}

type modelDevice struct {
	anchor, first, current, version int
	disabled, pending               bool // the other key waits for approval
	custom                          *int // the key of its custom certificate
}

// connect says what becomes of a connection, and takes it in.
func (m *model) connect(name string, anchor, key int) provision.Reason {
	d, alone := m.devices[name], !m.anchors[anchor]
	switch {
	case m.disabled:
		return provision.HubDisabled
	case alone && !m.policy.CustomCertificates:
		return provision.ChainIncomplete
	case m.revoked[modelKey{name, key}]:
		return provision.CertificateRevoked
	case alone && (d == nil || d.custom == nil || *d.custom != key):
		return provision.ChainIncomplete
	case d == nil:
		return m.first(name, anchor, key)
	case d.disabled:
		return provision.DeviceDisabled
	case d.custom != nil && *d.custom == key:
		return provision.DeviceKnown
	case d.custom != nil:
		return provision.DeviceKeyChanged
	case d.anchor != anchor:
		return provision.DeviceIssuerChanged
	case m.policy.Keys == provision.PinKeys && key != d.first:
		return provision.DeviceKeyChanged
	case m.policy.Keys == provision.ApproveKeys && key != d.current:
		if !d.pending {
			d.pending = true
			d.version++
		}
		return provision.DeviceKeyChanged
	case d.version == 1 && key != d.current: // later ones wait a while, and the clock stands still
		d.current = key
		d.version++
	}
	return provision.DeviceKnown
}

// first is connect for a device that the hub does not know.
func (m *model) first(name string, anchor, key int) provision.Reason {
	switch {
	case m.manual:
		return provision.DeviceUnknown
	case !m.admits(name):
		return provision.DeviceNotAllowed
	case m.policy.MaxDevices > 0 && len(m.devices) >= m.policy.MaxDevices:
		return provision.QuotaExceeded
	}
	m.devices[name] = &modelDevice{anchor: anchor, first: key, current: key, version: 1}
	m.provisioned++
	return provision.DeviceProvisioned
}

func (m *model) admits(name string) bool {
	for _, r := range m.policy.Admission {
		if !regexp.MustCompile("^(" + r.NamePattern + ")$").MatchString(name) {
			return false
		}
	}
	return true
}

// modelStore is what the test does to a store.
type modelStore interface {
	provision.Store
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Outbox
}

// told waits for the change feed: what it has told of is in force.
type told struct {
	mu      sync.Mutex
	changed *sync.Cond
	count   map[provision.Change]int
}

func newTold() *told {
	f := &told{count: make(map[provision.Change]int)}
	f.changed = sync.NewCond(&f.mu)
	return f
}

func (f *told) Changed(c provision.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[c]++
	f.changed.Broadcast()
}

func (f *told) Lost(int) {}

// after does something and waits until the feed has told of it.
func (f *told) after(c provision.Change, do func()) {
	f.mu.Lock()
	before := f.count[c]
	f.mu.Unlock()
	do()
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.count[c] == before {
		f.changed.Wait()
	}
}

// TestModel does 10,000 random things to a hub on each store, and compares what
// every connection is told, and what is there in the end, with the model.
func TestModel(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) modelStore{
		"bolt": func(t *testing.T) modelStore {
			s := must[*boltstore.Store](t)(boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")}))
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { _ = s.Run(ctx) })
			t.Cleanup(func() { cancel(); running.Wait(); _ = s.Close() })
			return s
		},
		"redis": func(t *testing.T) modelStore {
			s := must[*redisstore.Store](t)(redisstore.Open(t.Context(), redisstore.Config{URL: redistest.Start(t).URL()}))
			t.Cleanup(func() { _ = s.Close() })
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			newWalk(t, open(t), rand.New(rand.NewPCG(seed, 1))).run(10_000)
		})
	}
}

const modelDevices = 24

// walk is one run of the test.
type walk struct {
	t     *testing.T
	rand  *rand.Rand
	model model
	store modelStore
	gate  *provision.Gate
	told  *told
	hub   provision.Hub
	roots [3]*pki.Authority
	conns map[modelKey][3]provision.Connection // by anchor
	certs map[modelKey]*pki.Identity
}

func newWalk(t *testing.T, store modelStore, random *rand.Rand) *walk {
	t.Helper()
	w := &walk{
		t: t, rand: random, store: store, told: newTold(), roots: [3]*pki.Authority{root(t, "First"), root(t, "Second"), root(t, "Stranger")},
		conns: make(map[modelKey][3]provision.Connection), certs: make(map[modelKey]*pki.Identity),
		model: model{anchors: [3]bool{true, true}, devices: make(map[string]*modelDevice), revoked: make(map[modelKey]bool)},
	}
	for i := range modelDevices {
		for key := range 2 {
			k := modelKey{fmt.Sprintf("SN-%02d", i), key}
			w.certs[k] = leaf(t, w.roots[0], k.name)
			var conns [3]provision.Connection
			for anchor, r := range w.roots {
				conns[anchor] = over(leaf(t, r, k.name, pki.WithSigner(w.certs[k].Key)), sni("factory.iot.example.com"))
			}
			w.conns[k] = conns
		}
	}
	start := time.Now()
	w.gate = must[*provision.Gate](t)(provision.NewGate(provision.GateConfig{
		Store: store, Domain: "iot.example.com", Changes: w.told, Now: func() time.Time { return start },
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = w.gate.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	for w.gate.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	h := provision.Hub{ID: provision.NewHubID(), Name: "factory", AutoProvisioning: true}
	anchors(w.roots[0].Certificate, w.roots[1].Certificate)(&h)
	w.hub = must[provision.Hub](t)(store.CreateHub(t.Context(), h, provision.Created.OnHub(h, start)))
	w.inForce()
	return w
}

// inForce has a change of the hub be in force, as whoever makes one does.
func (w *walk) inForce() {
	if err := w.gate.Refresh(w.t.Context(), w.hub.ID); err != nil {
		w.t.Fatal(err)
	}
}

func (w *walk) run(steps int) {
	for n := range steps {
		name, key := fmt.Sprintf("SN-%02d", w.rand.IntN(modelDevices)), w.rand.IntN(2)
		switch p := w.rand.IntN(100); {
		case p < 60:
			w.connect(n, name, w.rand.IntN(3), key)
		case p < 70:
			w.editDevice(name)
		case p < 78:
			w.deleteDevice(name)
		case p < 84:
			w.revoke(modelKey{name, key})
		default:
			w.editHub()
		}
	}
	w.compare()
}

func (w *walk) connect(n int, name string, anchor, key int) {
	want := w.model.connect(name, anchor, key)
	c := w.conns[modelKey{name, key}][anchor]
	if got := w.gate.Admit(w.t.Context(), sealed(c, nil)); got.Reason != want {
		w.t.Fatalf("step %d: %s with key %d under anchor %d: %s (%s), want %s; hub %+v, device %+v",
			n, name, key, anchor, got.Reason, got.Detail, want, w.model, w.model.devices[name])
	}
}

func (w *walk) editDevice(name string) {
	d := w.model.devices[name]
	if d == nil {
		return
	}
	var custom *provision.CustomCertificate
	switch w.rand.IntN(4) {
	case 0:
		d.custom = nil
	case 1:
		d.custom = new(w.rand.IntN(2))
	default:
		d.disabled = !d.disabled
	}
	if d.custom != nil {
		custom = customOf(w.t, w.certs[modelKey{name, *d.custom}].Certificate)
	}
	d.version++
	id := provision.DeviceIDOf(w.hub.ID, name)
	w.told.after(provision.Change{Kind: provision.DeviceChanged, Hub: w.hub.ID, Device: id}, func() {
		_, err := w.store.UpdateDevice(w.t.Context(), provision.Update{
			Hub: w.hub.ID, Device: id,
			Change: func(e *provision.Device) error { e.Disabled, e.Custom = d.disabled, custom; return nil },
			Event:  func(e provision.Device) provision.Event { return provision.Updated.OnDevice(e, time.Now()) },
		})
		if err != nil {
			w.t.Fatal(err)
		}
	})
}

func (w *walk) deleteDevice(name string) {
	if w.model.devices[name] == nil {
		return
	}
	delete(w.model.devices, name)
	id := provision.DeviceIDOf(w.hub.ID, name)
	w.told.after(provision.Change{Kind: provision.DeviceChanged, Hub: w.hub.ID, Device: id}, func() {
		if err := w.store.DeleteDevice(w.t.Context(), w.hub.ID, id,
			func(e provision.Device) provision.Event { return provision.Deleted.OnDevice(e, time.Now()) }); err != nil {
			w.t.Fatal(err)
		}
	})
}

// revoke revokes a key, or takes that back.
func (w *walk) revoke(k modelKey) {
	m := w.model.revoked
	m[k] = !m[k]
	r := provision.Revocation{Key: trust.KeyHashOf(w.certs[k].Certificate), At: time.Now()}
	if err := w.store.UpdateRevocations(w.t.Context(), w.hub.ID, func(all *provision.Revocations) error {
		if m[k] {
			all.ByHand[r.ID()] = r
		} else {
			delete(all.ByHand, r.ID())
		}
		return nil
	}, func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }); err != nil {
		w.t.Fatal(err)
	}
	w.inForce()
}

func (w *walk) editHub() {
	m := &w.model
	switch w.rand.IntN(7) {
	case 0:
		m.disabled = w.rand.IntN(4) == 0
	case 1:
		m.manual = w.rand.IntN(3) == 0
	case 2:
		i := w.rand.IntN(2)
		m.anchors[i] = !m.anchors[i] || !m.anchors[1-i]
	case 3:
		m.policy.Keys = []provision.KeyPolicy{provision.AcceptKeys, provision.PinKeys, provision.ApproveKeys}[w.rand.IntN(3)]
	case 4:
		m.policy.MaxDevices = []int{0, modelDevices / 2, modelDevices / 4}[w.rand.IntN(3)]
	case 5:
		m.policy.CustomCertificates = w.rand.IntN(3) > 0
	case 6:
		m.policy.Admission = nil
		if w.rand.IntN(2) == 0 {
			m.policy.Admission = []provision.AdmissionRule{{NamePattern: []string{"SN-1.", "SN-.[0-4]", "SN-..", "sn-.*"}[w.rand.IntN(4)]}}
		}
	}
	_, err := w.store.UpdateHub(w.t.Context(), w.hub.ID, func(h *provision.Hub) error {
		h.Disabled, h.AutoProvisioning, h.Policy = m.disabled, !m.manual, m.policy.Normal()
		h.Anchors = nil
		for i, there := range m.anchors {
			if there {
				anchors(w.roots[i].Certificate)(h)
			}
		}
		return nil
	}, func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.inForce()
}

// compare holds what is stored to the model.
func (w *walk) compare() {
	list, _, err := w.store.Devices(w.t.Context(), w.hub.ID, provision.ByName, "", 2*modelDevices)
	if err != nil || len(list) != len(w.model.devices) {
		w.t.Fatalf("%d devices are stored (%v), want %d", len(list), err, len(w.model.devices))
	}
	for _, d := range list {
		want := w.model.devices[d.Name]
		if want == nil || d.Disabled != want.disabled || d.FirstKey != trust.KeyHashOf(w.certs[modelKey{d.Name, want.first}].Certificate) ||
			d.CurrentKey != trust.KeyHashOf(w.certs[modelKey{d.Name, want.current}].Certificate) {
			w.t.Errorf("stored is %+v, want %+v", d, want)
		}
	}
	told, after := 0, uint64(0)
	for {
		events, err := w.store.Events(w.t.Context(), w.hub.ID.Partition(w.store.Partitions()), after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range events {
			if after = e.Seq; e.Event.Reason == string(provision.DeviceProvisioned) {
				told++
			}
		}
		if len(events) == 0 {
			break
		}
	}
	if told != w.model.provisioned {
		w.t.Errorf("%d events tell of %d devices that created themselves", told, w.model.provisioned)
	}
}
