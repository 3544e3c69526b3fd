package provision_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hubgate/hubgate/provision"
)

func TestChangesAreInForceOnceAcknowledged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	next := root(t, "Vendor 2")
	hub := r.hub("factory", anchors(vendor.Certificate))
	dev := leaf(t, vendor, "SN-1")
	r.expect(over(dev), provision.DeviceProvisioned)
	r.expect(over(dev), provision.DeviceKnown)
	id := provision.DeviceIDOf(hub.ID, "SN-1")

	set := func(disabled bool) {
		t.Helper()
		act := provision.Enabled
		if disabled {
			act = provision.Disabled
		}
		if _, err := r.store.UpdateDevice(t.Context(), provision.Update{
			Hub: hub.ID, Device: id,
			Change: func(d *provision.Device) error { d.Disabled = disabled; return nil },
			Event:  func(d provision.Device) provision.Event { return act.OnDevice(d, time.Now()) },
		}); err != nil {
			t.Fatal(err)
		}
	}
	becomes := func(c provision.Connection, want provision.Reason) {
		t.Helper()
		r.eventually(string(want), func() bool { return r.gate.Admit(t.Context(), c).Reason == want })
	}
	set(true)
	becomes(over(dev), provision.DeviceDisabled)
	set(false)
	becomes(over(dev), provision.DeviceKnown)
	if err := r.store.DeleteDevice(t.Context(), hub.ID, id, func(d provision.Device) provision.Event { return provision.Deleted.OnDevice(d, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	becomes(over(dev), provision.DeviceProvisioned)

	update := func(change func(*provision.Hub)) {
		t.Helper()
		if _, err := r.store.UpdateHub(t.Context(), hub.ID,
			func(h *provision.Hub) error { change(h); return nil },
			func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }); err != nil {
			t.Fatal(err)
		}
	}
	// Another anchor than the one that admitted the device, on the same hub.
	update(func(h *provision.Hub) { h.Anchors = append(h.Anchors, next.Certificate.Raw) })
	becomes(over(leaf(t, next, "SN-2")), provision.DeviceProvisioned)
	r.expect(over(leaf(t, next, "SN-1")), provision.DeviceIssuerChanged)

	update(func(h *provision.Hub) { h.Anchors = h.Anchors[1:] })
	becomes(over(dev, sni("factory.iot.example.com")), provision.ChainIncomplete)
	update(func(h *provision.Hub) { h.Disabled = true })
	becomes(over(leaf(t, next, "SN-2")), provision.HubDisabled)
	if err := r.store.DeleteHub(t.Context(), hub.ID, provision.Deleted.OnHub(hub, time.Now())); err != nil {
		t.Fatal(err)
	}
	becomes(over(leaf(t, next, "SN-2"), sni("factory.iot.example.com")), provision.HubUnknown)
}

func TestNothingIsCreatedAfterAHubWasDisabled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	devices := make([]provision.Connection, 200)
	for i := range devices {
		devices[i] = over(leaf(t, vendor, fmt.Sprintf("SN-%03d", i)))
	}
	var creators sync.WaitGroup
	for worker := range 8 {
		creators.Go(func() {
			for i := worker; i < len(devices); i += 8 {
				r.gate.Admit(t.Context(), devices[i])
			}
		})
	}
	if _, err := r.store.UpdateHub(t.Context(), hub.ID,
		func(h *provision.Hub) error { h.Disabled = true; return nil },
		func(h provision.Hub) provision.Event { return provision.Disabled.OnHub(h, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	before := len(r.devices(hub))
	creators.Wait()
	if after := len(r.devices(hub)); after != before {
		t.Errorf("%d devices were created after the hub's disabling was acknowledged", after-before)
	}
}

func TestSimultaneousFirstConnectionsCreateOneDevice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	conn := over(leaf(t, vendor, "SN-1"))
	reasons := make(chan provision.Reason, 200)
	var all sync.WaitGroup
	for range cap(reasons) {
		all.Go(func() { reasons <- r.gate.Admit(t.Context(), conn).Reason })
	}
	all.Wait()
	close(reasons)
	count := map[provision.Reason]int{}
	for reason := range reasons {
		count[reason]++
	}
	if count[provision.DeviceProvisioned] != 1 || count[provision.DeviceKnown] != 199 {
		t.Errorf("outcomes %v, want one device_provisioned and 199 device_known", count)
	}
	if n := len(r.devices(hub)); n != 1 {
		t.Errorf("%d devices, want 1", n)
	}
}

func TestKnownDevicesOutliveAStoreOutage(t *testing.T) {
	t.Parallel()
	var clock sync.Mutex
	var ahead time.Duration
	r := newRig(t, func(c *provision.GateConfig) {
		c.OutageWindow = time.Minute
		c.Now = func() time.Time {
			clock.Lock()
			defer clock.Unlock()
			return time.Now().Add(ahead)
		}
	})
	vendor := root(t, "Vendor")
	r.hub("factory", anchors(vendor.Certificate))
	known, unseen := over(leaf(t, vendor, "SN-1")), over(leaf(t, vendor, "SN-2"))
	r.expect(known, provision.DeviceProvisioned)
	r.expect(known, provision.DeviceKnown)
	// Hubs that are not served from memory.
	strict := make(map[string]provision.Connection)
	for name, policy := range map[string]provision.Policy{"no-outage": {NoOutage: true}, "one-each": {Connections: provision.Reject}} {
		ca := root(t, "Vendor of "+name)
		r.hub(name, anchors(ca.Certificate), func(h *provision.Hub) { h.Policy = policy })
		strict[name] = over(leaf(t, ca, "SN-1"))
		r.expect(strict[name], provision.DeviceProvisioned)
		r.expect(strict[name], provision.DeviceKnown)
	}

	r.store.cut(true)
	pass := func(d time.Duration) {
		clock.Lock()
		defer clock.Unlock()
		ahead += d
	}
	pass(10 * time.Second) // the feed's proof is too old now: checks read through
	if d := r.expect(known, provision.DeviceKnown); !d.Outage {
		t.Error("the decision does not tell that the store was not asked")
	}
	if n := testutil.ToFloat64(mustMetric(t, r.reg, "hubgate_outage_admissions_total")); n != 1 {
		t.Errorf("%v admissions from memory are counted, want 1", n)
	}
	if age := testutil.ToFloat64(mustMetric(t, r.reg, "hubgate_store_proof_age_seconds")); age < 10 {
		t.Errorf("the last proof is %v s old, want 10 at least", age)
	}
	for name, dev := range strict {
		if d := r.expect(dev, provision.StoreUnavailable); d.Outage {
			t.Errorf("hub %s: served from memory", name)
		}
	}
	if d := r.expect(unseen, provision.StoreUnavailable); d.RetryAfter == 0 {
		t.Error("a fault without Retry-After")
	}
	pass(time.Minute) // beyond the window
	r.expect(known, provision.StoreUnavailable)
	if n := testutil.ToFloat64(mustMetric(t, r.reg, "hubgate_store_up")); n != 0 {
		t.Errorf("hubgate_store_up = %v", n)
	}
	if err := r.gate.Ready(); err != nil {
		t.Errorf("a store that does not answer makes the gate unready: %v", err)
	}

	r.store.cut(false)
	clock.Lock()
	ahead = 0
	clock.Unlock()
	r.expect(known, provision.DeviceKnown)
	r.expect(unseen, provision.DeviceProvisioned)
}

func TestDeclaredHubs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, next := root(t, "Vendor"), root(t, "Vendor 2")
	declared := func(edit ...func(*provision.Hub)) provision.Hub {
		h := provision.Hub{ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "hubgate.yaml", AutoProvisioning: true}
		for _, e := range edit {
			e(&h)
		}
		return h
	}
	declare := func(hubs ...provision.Hub) {
		t.Helper()
		if err := r.gate.Declare(t.Context(), hubs); err != nil {
			t.Fatal(err)
		}
	}
	declare(declared(anchors(vendor.Certificate)))
	dev := over(leaf(t, vendor, "SN-1"))
	r.expect(dev, provision.DeviceProvisioned)

	// In force when Declare returns, without waiting for anything.
	declare(declared(anchors(next.Certificate)))
	r.expect(over(leaf(t, vendor, "SN-1"), sni("factory.iot.example.com")), provision.ChainIncomplete)
	r.expect(over(leaf(t, next, "SN-2")), provision.DeviceProvisioned)
	declare(declared(anchors(next.Certificate), func(h *provision.Hub) { h.Disabled = true }))
	r.expect(over(leaf(t, next, "SN-2")), provision.HubDisabled)
	declare()
	r.expect(over(leaf(t, next, "SN-2"), sni("factory.iot.example.com")), provision.HubUnknown)
	declare(declared(anchors(vendor.Certificate)))
	r.expect(dev, provision.DeviceKnown)

	// Settings change in a file while the store is down.
	r.store.cut(true)
	declare(declared(anchors(next.Certificate)))
	r.expect(over(leaf(t, vendor, "SN-1"), sni("factory.iot.example.com")), provision.ChainIncomplete)
	declare(declared(anchors(vendor.Certificate)))
	r.store.cut(false)

	// A name that a stored hub has cannot be declared, and what was stays.
	other := root(t, "Vendor 3")
	r.hub("stored", anchors(other.Certificate))
	taken := provision.Hub{ID: provision.DeclaredHubID("stored"), Name: "stored", Declared: "hubgate.yaml"}
	if err := r.gate.Declare(t.Context(), []provision.Hub{taken}); err == nil {
		t.Error("declared a hub whose name is taken")
	}
	r.expect(dev, provision.DeviceKnown)

	// An anchor that a stored hub trusts cannot be declared on another hub.
	same := declared(anchors(other.Certificate))
	var problem *provision.HubError
	if err := r.gate.Declare(t.Context(), []provision.Hub{same}); !errors.As(err, &problem) || problem.Field != "trust_anchors" {
		t.Errorf("declared an anchor of another hub: %v", err)
	}
}
