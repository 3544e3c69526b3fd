package provision_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// witness is an Observer that remembers.
type witness struct {
	mu      sync.Mutex
	changes []provision.Change
}

func (w *witness) Changed(c provision.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes = append(w.changes, c)
}

func (w *witness) Lost(int) {}

func (w *witness) saw(c provision.Change) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.changes {
		if o == c {
			return true
		}
	}
	return false
}

func TestWhoObservesHearsOfEveryChange(t *testing.T) {
	t.Parallel()
	w := &witness{}
	r := newRig(t, func(c *provision.GateConfig) { c.Changes = w })
	ca := root(t, "Vendor")
	hub := r.hub("factory", anchors(ca.Certificate))
	d := r.expect(over(leaf(t, ca, "SN-1")), provision.DeviceProvisioned)
	if err := r.store.AnnounceSessions(t.Context(), hub.ID, d.Device); err != nil {
		t.Fatal(err)
	}
	_, err := r.store.UpdateDevice(t.Context(), provision.Update{
		Hub: hub.ID, Device: d.Device,
		Change: func(*provision.Device) error { return nil },
		Event:  func(d provision.Device) provision.Event { return provision.Updated.OnDevice(d, time.Now()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	other := root(t, "Declared")
	declared := provision.Hub{
		ID: provision.DeclaredHubID("declared"), Name: "declared", Declared: "hubgate.yaml", Anchors: [][]byte{other.Certificate.Raw},
	}
	if err := r.gate.Declare(t.Context(), []provision.Hub{declared}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []provision.Change{
		{Kind: provision.HubChanged, Hub: hub.ID},
		{Kind: provision.SessionsChanged, Hub: hub.ID, Device: d.Device},
		{Kind: provision.DeviceChanged, Hub: hub.ID, Device: d.Device},
		{Kind: provision.HubChanged, Hub: declared.ID},
	} {
		if !w.saw(want) {
			t.Errorf("did not hear of %+v", want)
		}
	}
	*w = witness{}
	if err := r.gate.Declare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if !w.saw(provision.Change{Kind: provision.HubChanged, Hub: declared.ID}) {
		t.Error("did not hear that a hub is no longer declared")
	}
	if h, err := r.gate.CurrentHub(t.Context(), declared.ID); h != nil || err != nil {
		t.Errorf("the current hub is %+v, %v", h, err)
	}
}

// TestTheCurrentHubIsNoOlderThanAnAcknowledgedChange: the hub was found just
// before it was read anew.
func TestTheCurrentHubIsNoOlderThanAnAcknowledgedChange(t *testing.T) {
	t.Parallel()
	var happens atomic.Pointer[func()]
	r := newRig(t, func(c *provision.GateConfig) {
		c.Now = func() time.Time {
			if f := happens.Swap(nil); f != nil {
				(*f)()
			}
			return time.Now()
		}
	})
	hub := r.hub("factory", anchors(root(t, "Vendor").Certificate))
	var changed provision.Hub
	change := func() {
		var err error
		changed, err = r.store.UpdateHub(t.Context(), hub.ID, func(*provision.Hub) error { return nil },
			func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) })
		if err != nil {
			t.Error(err)
		}
		for live, _ := r.gate.Hub("factory"); live.Version != changed.Version; live, _ = r.gate.Hub("factory") {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(10 * time.Millisecond) // until the Gate knows that it is current again
	}
	happens.Store(&change)
	h, err := r.gate.CurrentHub(t.Context(), hub.ID)
	if err != nil || h == nil || h.Version != changed.Version {
		t.Errorf("after version %d was acknowledged: %+v, %v", changed.Version, h, err)
	}
}

// TestTheCurrentDevice: it is as it is, or as it was for the outage window.
func TestTheCurrentDevice(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	r := newRig(t, func(c *provision.GateConfig) {
		c.OutageWindow = time.Minute
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	current := func(name string) *provision.Device {
		t.Helper()
		return must[*provision.Device](t)(r.gate.CurrentDevice(t.Context(), hub.ID, name))
	}
	if d := current("SN-1"); d != nil {
		t.Errorf("before it connected: %+v", d)
	}
	r.expect(over(leaf(t, vendor, "SN-1")), provision.DeviceProvisioned)
	d := current("SN-1")
	if d == nil || d.Name != "SN-1" || d.Disabled {
		t.Fatalf("after it connected: %+v", d)
	}
	must[provision.Device](t)(r.store.UpdateDevice(t.Context(), provision.Update{
		Hub: hub.ID, Device: d.ID,
		Change: func(d *provision.Device) error {
			d.Disabled = true
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.Updated.OnDevice(d, time.Now()) },
	}))
	ahead.Store(int64(3 * time.Second)) // the feed's proof is too old: it is read anew
	if d := current("SN-1"); d == nil || !d.Disabled {
		t.Errorf("after it was disabled: %+v", d)
	}
	r.store.cut(true)
	ahead.Store(int64(30 * time.Second))
	if d := current("SN-1"); d == nil || !d.Disabled {
		t.Errorf("while the store does not answer: %+v", d)
	}
	ahead.Store(int64(2 * time.Minute))
	if d, err := r.gate.CurrentDevice(t.Context(), hub.ID, "SN-1"); !errors.Is(err, provision.ErrUnavailable) {
		t.Errorf("beyond the window: %+v, %v", d, err)
	}
}
