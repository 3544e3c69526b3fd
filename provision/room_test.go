package provision_test

import (
	"context"
	"testing"

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
		c.MaxInFlight = 4 // two that are not recognised, one that creates
		slow.Store = c.Store
		c.Store = slow
	})
	vendor := root(t, "Acme")
	r.hub("factory", anchors(vendor.Certificate))
	known := over(leaf(t, vendor, "known"))
	r.expect(known, provision.DeviceProvisioned)
	r.settle(known, provision.DeviceKnown)

	answers := make(chan provision.Decision, 2)
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

	release := make(chan struct{})
	for range 2 {
		c := sealed(over(leaf(t, root(t, "Globex"), "stranger")), nil)
		h := held{c.Evidence, make(chan struct{}), release}
		c.Evidence = h
		go ask(c)
		<-h.reading
	}
	n := 0
	if d := r.gate.Admit(t.Context(), sealed(over(leaf(t, vendor, "third")), &n)); d.Reason != provision.Overloaded || n != 0 {
		t.Errorf("a stranger too many: %s, decoded %d times", d.Reason, n)
	}
	r.expect(known, provision.DeviceKnown)
	close(release)
	for range 2 {
		if d := <-answers; d.Reason != provision.ChainIncomplete {
			t.Errorf("a stranger: %s (%s)", d.Reason, d.Detail)
		}
	}
	r.expect(over(leaf(t, vendor, "third")), provision.DeviceProvisioned)
}
