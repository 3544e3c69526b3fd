package provision_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// clock is a time that a test sets.
type clock struct {
	mu   sync.Mutex
	time time.Time
}

func newClock() *clock { return &clock{time: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *clock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(by)
}

// reads tells how often certificates had to be decoded for a check, and what
// came of it.
func (r *rig) reads(c provision.Connection, want provision.Reason) int {
	r.t.Helper()
	n := 0
	if d := r.gate.Admit(r.t.Context(), sealed(c, &n)); d.Reason != want {
		r.t.Fatalf("reason %s (%s), want %s", d.Reason, d.Detail, want)
	}
	return n
}

// settle lets the change feed prove what the gate knows to be current.
func (r *rig) settle(c provision.Connection, want provision.Reason) {
	r.t.Helper()
	r.eventually("the connection is recognised", func() bool { return r.reads(c, want) == 0 })
}

func TestRecognised(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Acme")
	r.hub("factory", anchors(vendor.Certificate))
	device := leaf(t, vendor, "sensor-0001")
	c := over(device)
	if n := r.reads(c, provision.DeviceProvisioned); n == 0 {
		t.Fatal("a first connection was recognised")
	}
	r.settle(c, provision.DeviceKnown)

	// What is presented with a leaf that was seen can only help.
	bare := c
	bare.Presented = nil
	if n := r.reads(bare, provision.DeviceKnown); n != 0 {
		t.Error("a resumed session is not recognised")
	}
	// All else tells connections apart.
	for name, other := range map[string]provision.Connection{
		"another device": over(leaf(t, vendor, "sensor-0002")),
		"another key":    over(leaf(t, vendor, "sensor-0001")),
		"with SNI":       over(device, sni("factory.iot.example.com")),
		"other chain":    over(device, func(c *provision.Connection) { c.Attested = slices.Concat(c.Attested, c.Attested[:1]) }),
	} {
		n := 0
		r.gate.Admit(t.Context(), sealed(other, &n))
		if n == 0 {
			t.Errorf("%s is taken for the one that was seen", name)
		}
	}
	// Nothing is known of a chain that Envoy does not attest.
	unattested := over(device, func(c *provision.Connection) { c.Attested = nil })
	for range 2 {
		if n := r.reads(unattested, provision.DeviceKnown); n == 0 {
			t.Error("a chain that is not attested was recognised")
		}
	}
}

func TestRecognitionEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		named  bool // the device names its hub
		change func(t *testing.T, r *rig, h provision.Hub, vendor *pki.Authority, time *clock)
		want   provision.Reason
	}{
		{"the anchor is removed", true, func(t *testing.T, r *rig, h provision.Hub, _ *pki.Authority, _ *clock) {
			r.edit(h, func(h *provision.Hub) { h.Anchors = [][]byte{root(t, "other").Certificate.Raw} })
		}, provision.ChainIncomplete},
		{"the hub is disabled", true, func(_ *testing.T, r *rig, h provision.Hub, _ *pki.Authority, _ *clock) {
			r.edit(h, func(h *provision.Hub) { h.Disabled = true })
		}, provision.HubDisabled},
		{"the hub is deleted", true, func(t *testing.T, r *rig, h provision.Hub, _ *pki.Authority, _ *clock) {
			if err := r.store.DeleteHub(t.Context(), h.ID, provision.Deleted.OnHub(h, time.Now())); err != nil {
				t.Fatal(err)
			}
		}, provision.HubUnknown},
		{"the hub takes another name", true, func(_ *testing.T, r *rig, h provision.Hub, _ *pki.Authority, _ *clock) {
			r.edit(h, func(h *provision.Hub) { h.Name = "plant" })
		}, provision.HubUnknown},
		{"another hub has a claim", false, func(_ *testing.T, r *rig, _ provision.Hub, vendor *pki.Authority, _ *clock) {
			r.hub("plant", anchors(vendor.Certificate))
		}, provision.HubAmbiguous},
		{"the leaf expires", true, func(_ *testing.T, _ *rig, _ provision.Hub, _ *pki.Authority, time *clock) {
			time.advance(2 * hour)
		}, provision.CertificateExpired},
		{"the device is disabled", true, func(t *testing.T, r *rig, h provision.Hub, _ *pki.Authority, _ *clock) {
			_, err := r.store.UpdateDevice(t.Context(), provision.Update{
				Hub: h.ID, Device: provision.DeviceIDOf(h.ID, "sensor-0001"),
				Change: func(d *provision.Device) error { d.Disabled = true; return nil },
				Event:  func(d provision.Device) provision.Event { return provision.Disabled.OnDevice(d, time.Now()) },
			})
			if err != nil {
				t.Fatal(err)
			}
		}, provision.DeviceDisabled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			r := newRig(t, func(c *provision.GateConfig) { c.Now = clock.now })
			vendor := root(t, "Acme")
			h := r.hub("factory", anchors(vendor.Certificate))
			now := clock.now()
			c := over(leaf(t, vendor, "sensor-0001", pki.WithValidity(now.Add(-hour), now.Add(hour))))
			if tt.named {
				c.SNI = "factory.iot.example.com"
			}
			r.reads(c, provision.DeviceProvisioned)
			r.settle(c, provision.DeviceKnown)
			tt.change(t, r, h, vendor, clock)
			r.eventually("it is judged anew", func() bool {
				return r.gate.Admit(context.WithoutCancel(t.Context()), sealed(c, nil)).Reason == tt.want
			})
		})
	}
}

const hour = time.Hour

// TestRecognitionOutlivesAReload: a configuration that changes one hub leaves the
// devices of the others as they are.
func TestRecognitionOutlivesAReload(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, other := root(t, "Acme"), root(t, "Globex")
	declare := func(open bool) {
		t.Helper()
		hubs := []provision.Hub{
			{ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "hubgate.yaml", AutoProvisioning: true, Anchors: [][]byte{vendor.Certificate.Raw}},
			{ID: provision.DeclaredHubID("plant"), Name: "plant", Declared: "hubgate.yaml", AutoProvisioning: open, Anchors: [][]byte{other.Certificate.Raw}},
		}
		if err := r.gate.Declare(t.Context(), hubs); err != nil {
			t.Fatal(err)
		}
	}
	declare(true)
	c := over(leaf(t, vendor, "sensor-0001"), sni("factory.iot.example.com"))
	r.reads(c, provision.DeviceProvisioned)
	r.settle(c, provision.DeviceKnown)
	declare(false)
	if n := r.reads(c, provision.DeviceKnown); n != 0 {
		t.Error("a device was not recognised after a reload that changed another hub")
	}
	r.expect(over(leaf(t, other, "sensor-0002"), sni("plant.iot.example.com")), provision.DeviceUnknown)
}

func TestRefusalsRecognised(t *testing.T) {
	t.Parallel()
	clock := newClock()
	r := newRig(t, func(c *provision.GateConfig) { c.Now = clock.now })
	vendor, stranger := root(t, "Acme"), root(t, "Globex")
	r.hub("factory", anchors(vendor.Certificate))
	c := over(leaf(t, stranger, "sensor-0001"))
	if n := r.reads(c, provision.ChainIncomplete); n == 0 {
		t.Fatal("a chain never seen was recognised")
	}
	if n := r.reads(c, provision.ChainIncomplete); n != 0 {
		t.Error("the same chain is not recognised")
	}
	other := c
	other.Presented = slices.Concat(c.Presented, [][]byte{vendor.Certificate.Raw})
	if n := r.reads(other, provision.ChainIncomplete); n == 0 {
		t.Error("a refusal is recognised with another chain, which might have helped")
	}
	clock.advance(31 * time.Second)
	if n := r.reads(c, provision.ChainIncomplete); n == 0 {
		t.Error("a refusal is remembered for longer than it should be")
	}
	// A hub that trusts it makes it acceptable at once.
	r.hub("plant", anchors(stranger.Certificate))
	r.expect(c, provision.DeviceProvisioned)
}

// What is refused only for now is looked at each time.
func TestPassingRefusalsAreNotRemembered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Acme")
	r.hub("factory", anchors(vendor.Certificate))
	soon := over(leaf(t, vendor, "sensor-0001", pki.WithValidity(time.Now().Add(hour), time.Now().Add(2*hour))))
	for range 2 {
		if n := r.reads(soon, provision.CertificateNotYetValid); n == 0 {
			t.Error("a certificate that is about to become valid was recognised")
		}
	}
}

// edit changes a stored hub.
func (r *rig) edit(h provision.Hub, change func(*provision.Hub)) {
	r.t.Helper()
	_, err := r.store.UpdateHub(r.t.Context(), h.ID,
		func(h *provision.Hub) error { change(h); return nil },
		func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) })
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestRecognisedBounded: what is remembered is bounded by its size, as a
// certificate may have 60 KiB.
func TestRecognisedBounded(t *testing.T) {
	t.Parallel()
	const most = 64
	r := newRig(t, func(c *provision.GateConfig) { c.CachedVerdicts = most })
	vendor := root(t, "Acme")
	r.hub("factory", anchors(vendor.Certificate))
	large := make([]provision.Connection, most)
	for n := range large {
		device := leaf(t, vendor, fmt.Sprintf("sensor-%04d", n), pki.WithTemplate(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}, Value: make([]byte, 40<<10)})
		}))
		large[n] = over(device, sni("factory.iot.example.com"))
		r.reads(large[n], provision.DeviceProvisioned)
	}
	r.settle(large[most-1], provision.DeviceKnown)
	r.eventually("few are kept", func() bool { // what is over the bound goes a little later
		kept := 0
		for _, c := range large {
			if r.reads(c, provision.DeviceKnown) == 0 {
				kept++
			}
		}
		return kept <= most/8
	})
}

// TestAuthorityIsTheRequests: a device is recognised whatever host it asks for,
// and refused where that is another hub's.
func TestAuthorityIsTheRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Acme")
	r.hub("factory", anchors(vendor.Certificate))
	other := r.hub("plant", anchors(root(t, "Globex").Certificate))
	c := over(leaf(t, vendor, "sensor-0001"), sni("factory.iot.example.com"))
	r.reads(c, provision.DeviceProvisioned)
	r.settle(c, provision.DeviceKnown)
	for authority, want := range map[string]provision.Reason{
		"":                                     provision.DeviceKnown,
		"www.example.org":                      provision.DeviceKnown,
		"FACTORY.iot.example.com.":             provision.DeviceKnown,
		"factory.iot.example.com:8443":         provision.DeviceKnown,
		"[::1]:8443":                           provision.DeviceKnown,
		"plant.iot.example.com":                provision.AuthorityMismatch,
		"plant.iot.example.com:443":            provision.AuthorityMismatch,
		other.ID.String() + ".iot.example.com": provision.AuthorityMismatch,
		"nobody.iot.example.com":               provision.AuthorityMismatch,
	} {
		c.Authority = authority
		if n := r.reads(c, want); n != 0 {
			t.Errorf("the device is not recognised where it asks for %q", authority)
		}
	}
}

// TestRecognitionGoesByTheDirectory: who was recognised is refused once this
// process knows of the change that keeps him out, also while the store tells
// nothing: what was known last counts, not what he was recognised with.
func TestRecognitionGoesByTheDirectory(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(r *rig, h provision.Hub, device *x509.Certificate)
		want   provision.Reason
	}{
		"hub disabled": {func(r *rig, h provision.Hub, _ *x509.Certificate) {
			r.edit(h, func(h *provision.Hub) { h.Disabled = true })
		}, provision.HubDisabled},
		"key revoked": {func(r *rig, h provision.Hub, device *x509.Certificate) {
			r.revocations(h.ID, revoke(byKey(device)))
		}, provision.CertificateRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			r := newRig(t, func(c *provision.GateConfig) { c.Now = clock.now })
			vendor := root(t, "Vendor")
			h := r.hub("factory", anchors(vendor.Certificate))
			device := leaf(t, vendor, "SN-1")
			c := over(device)
			r.expect(c, provision.DeviceProvisioned)
			r.settle(c, provision.DeviceKnown)
			tt.change(r, h, device.Certificate)
			if err := r.gate.Refresh(t.Context(), h.ID); err != nil {
				t.Fatal(err)
			}
			r.becomes(c, tt.want)
			r.store.cut(true)
			clock.advance(3 * time.Second) // beyond what the feed has proved
			// If the feed has not told of it yet, it may still.
			if d := r.gate.Admit(t.Context(), sealed(c, nil)); d.Reason != tt.want && d.Reason != provision.StoreUnavailable {
				t.Errorf("%s (%s), want %s", d.Reason, d.Detail, tt.want)
			}
		})
	}
	t.Run("declared hub", func(t *testing.T) {
		t.Parallel()
		clock := newClock()
		r := newRig(t, func(c *provision.GateConfig) { c.Now = clock.now })
		vendor, next := root(t, "Vendor"), root(t, "Next")
		declare := func(certs ...*x509.Certificate) {
			t.Helper()
			h := provision.Hub{ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "hubgate.yaml", AutoProvisioning: true}
			anchors(certs...)(&h)
			if err := r.gate.Declare(t.Context(), []provision.Hub{h}); err != nil {
				t.Fatal(err)
			}
		}
		declare(vendor.Certificate, next.Certificate)
		c := over(leaf(t, vendor, "SN-1"), sni("factory.iot.example.com"))
		r.expect(c, provision.DeviceProvisioned)
		r.settle(c, provision.DeviceKnown)
		clock.advance(3 * time.Second)
		declare(next.Certificate)
		r.expect(c, provision.ChainIncomplete)
	})
}

// TestAChangeThatIsToldOf: of a hub that is known to have changed, nothing that
// was known counts while the store does not say how.
func TestAChangeThatIsToldOf(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	h := r.hub("factory", anchors(vendor.Certificate))
	c := over(leaf(t, vendor, "SN-1"))
	r.expect(c, provision.DeviceProvisioned)
	r.settle(c, provision.DeviceKnown)
	r.store.cut(true)
	r.edit(h, func(h *provision.Hub) { h.Disabled = true })
	r.expect(c, provision.StoreUnavailable)
	r.store.cut(false)
	r.becomes(c, provision.HubDisabled)
}
