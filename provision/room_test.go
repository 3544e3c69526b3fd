package provision_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// held is evidence that takes as long to read as the test likes.
type held struct {
	provision.Evidence
	reading, release chan struct{}
}

func (h held) Read(c *provision.Connection) {
	close(h.reading)
	<-h.release
	h.Evidence.Read(c)
}

// slowStore is a store in which a creation takes as long as the test likes.
type slowStore struct {
	provision.Store
	creating, release chan struct{}
}

func (s slowStore) CreateDevice(ctx context.Context, c provision.Creation) (provision.Device, bool, error) {
	if c.Device.Name == "slow" {
		close(s.creating)
		<-s.release
	}
	return s.Store.CreateDevice(ctx, c)
}

// TestKnownDevicesGoFirst: strangers who take up all that there is for them, by
// what it takes to verify them or to create them, leave the rest to devices
// that are recognised.
func TestKnownDevicesGoFirst(t *testing.T) {
	t.Parallel()
	slow := slowStore{creating: make(chan struct{}), release: make(chan struct{})}
	r := newRig(t, func(c *provision.GateConfig) {
		c.MaxInFlight = 2 // one that is not recognised, one that creates
		slow.Store = c.Store
		c.Store = slow
	})
	vendor := root(t, "Acme")
	r.hub("factory", anchors(vendor.Certificate))
	known := over(leaf(t, vendor, "known"))
	r.expect(known, provision.DeviceProvisioned)
	r.settle(known, provision.DeviceKnown)

	answers := make(chan provision.Decision, 1)
	ask := func(c provision.Connection) { answers <- r.gate.Admit(t.Context(), c) }
	go ask(sealed(over(leaf(t, vendor, "slow")), nil))
	<-slow.creating
	r.expect(over(leaf(t, vendor, "new")), provision.Overloaded) // verified, and not created
	r.expect(known, provision.DeviceKnown)
	close(slow.release)
	if d := <-answers; d.Reason != provision.DeviceProvisioned {
		t.Errorf("the first of them: %s (%s)", d.Reason, d.Detail)
	}
	r.expect(over(leaf(t, vendor, "new")), provision.DeviceProvisioned)

	c := sealed(over(leaf(t, root(t, "Globex"), "stranger")), nil)
	h := held{c.Evidence, make(chan struct{}), make(chan struct{})}
	c.Evidence = h
	go ask(c)
	<-h.reading
	n := 0
	if d := r.gate.Admit(t.Context(), sealed(over(leaf(t, vendor, "third")), &n)); d.Reason != provision.Overloaded || n != 0 {
		t.Errorf("a stranger too many: %s, decoded %d times", d.Reason, n)
	}
	r.expect(known, provision.DeviceKnown)
	close(h.release)
	if d := <-answers; d.Reason != provision.ChainIncomplete {
		t.Errorf("a stranger: %s (%s)", d.Reason, d.Detail)
	}
	r.expect(over(leaf(t, vendor, "third")), provision.DeviceProvisioned)
}

// TestStrangersDoNotWaitInVain: who would wait longer for a processor than his
// caller does is told so, and costs no more.
func TestStrangersDoNotWaitInVain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(*provision.GateConfig) {})
	vendor := root(t, "Acme")
	r.hub("factory", anchors(vendor.Certificate))
	known := over(leaf(t, vendor, "known"))
	r.expect(known, provision.DeviceProvisioned)
	r.settle(known, provision.DeviceKnown)

	soon, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	provision.KeepBusy(r.gate, time.Minute)
	n := 0
	if d := r.gate.Admit(soon, sealed(over(leaf(t, vendor, "new")), &n)); d.Reason != provision.Overloaded || n != 0 {
		t.Errorf("a new device: %s, decoded %d times", d.Reason, n)
	}
	if d := r.gate.Admit(soon, sealed(known, nil)); d.Reason != provision.DeviceKnown {
		t.Errorf("a known one: %s (%s)", d.Reason, d.Detail)
	}
	provision.KeepBusy(r.gate, time.Millisecond)
	if d := r.gate.Admit(soon, sealed(over(leaf(t, vendor, "new")), &n)); d.Reason != provision.DeviceProvisioned || n != 1 {
		t.Errorf("where there is time: %s, decoded %d times", d.Reason, n)
	}
}

// hookOf is a hook that does not answer until it is let.
type hookOf struct {
	asked   atomic.Int32
	release chan struct{}
}

func (h *hookOf) Ask(context.Context, string, provision.HookQuestion) (provision.HookAnswer, error) {
	h.asked.Add(1)
	<-h.release
	return provision.HookAnswer{Allow: true}, nil
}

// TestASlowHookHoldsUpItsHub: and no other hub's first connections.
func TestASlowHookHoldsUpItsHub(t *testing.T) {
	t.Parallel()
	hook := &hookOf{release: make(chan struct{})}
	r := newRig(t, func(c *provision.GateConfig) { c.Hook, c.MaxInFlight = hook, 64 }) // 16 ask, 2 of a hub
	asking, vendor := root(t, "Asking"), root(t, "Vendor")
	r.hub("asking", anchors(asking.Certificate), func(h *provision.Hub) {
		h.Policy.Admission = []provision.AdmissionRule{{Hook: "https://hook.example.com/"}}
	})
	r.hub("factory", anchors(vendor.Certificate))
	answers := make(chan provision.Decision, 2)
	for n := range 2 {
		c := sealed(over(leaf(t, asking, fmt.Sprint("slow-", n))), nil)
		go func() { answers <- r.gate.Admit(context.WithoutCancel(t.Context()), c) }()
	}
	r.eventually("the hook is asked", func() bool { return hook.asked.Load() == 2 })
	r.expect(over(leaf(t, asking, "too-many")), provision.Overloaded)
	for n := range 20 {
		r.expect(over(leaf(t, vendor, fmt.Sprint("SN-", n))), provision.DeviceProvisioned)
	}
	close(hook.release)
	for range 2 {
		if d := <-answers; d.Reason != provision.DeviceProvisioned {
			t.Errorf("%s (%s)", d.Reason, d.Detail)
		}
	}
	r.expect(over(leaf(t, asking, "too-many")), provision.DeviceProvisioned)
}

// slowLooks is a store in which a look-up takes as long as the test likes.
type slowLooks struct {
	provision.Store
	waiting atomic.Int32
	release chan struct{} // nil: it takes none
}

func (s *slowLooks) Device(ctx context.Context, hub provision.HubID, name string) (provision.Device, error) {
	if s.release != nil {
		s.waiting.Add(1)
		<-s.release
	}
	return s.Store.Device(ctx, hub, name)
}

// TestStrangersLookUps: where certificates that verify under no anchor are looked
// up, as custom certificates are allowed, strangers get no more places by it.
func TestStrangersLookUps(t *testing.T) {
	t.Parallel()
	slow := &slowLooks{}
	r := newRig(t, func(c *provision.GateConfig) {
		slow.Store = c.Store
		c.Store, c.MaxInFlight = slow, 8
	})
	r.hub("factory", anchors(root(t, "Vendor").Certificate), func(h *provision.Hub) { h.Policy.CustomCertificates = true })
	c := over(leaf(t, root(t, "Stranger"), "SN-1"), sni("factory.iot.example.com"))
	r.expect(c, provision.ChainIncomplete)
	slow.release = make(chan struct{})
	answers := make(chan provision.Decision, 4)
	for range 4 {
		go func() { answers <- r.gate.Admit(context.WithoutCancel(t.Context()), sealed(c, nil)) }()
	}
	r.eventually("the store is asked", func() bool { return slow.waiting.Load() == 4 })
	r.expect(c, provision.Overloaded)
	close(slow.release)
	for range 4 {
		if d := <-answers; d.Reason != provision.ChainIncomplete {
			t.Errorf("%s (%s)", d.Reason, d.Detail)
		}
	}
}
