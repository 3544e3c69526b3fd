package provision_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hubgate/hubgate/provision"
)

// denials lets the rig's gate tell of refusals.
func denials(window time.Duration, networks int, clock func() time.Time) func(*provision.GateConfig) {
	return func(c *provision.GateConfig) {
		c.Denials, c.FoldWindow, c.FoldNetworks = c.Store.(*flakyStore).Store, window, networks
		if clock != nil {
			c.Now = clock
		}
	}
}

// told are the events of refusals that are stored for a hub, zero for none.
func (r *rig) told(hub provision.HubID) []provision.Event {
	r.t.Helper()
	if err := r.gate.FlushDenials(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	var all []provision.Event
	for _, s := range must[[]provision.Stored](r.t)(r.store.Events(r.t.Context(), hub.Partition(r.store.Partitions()), 0, 1<<20)) {
		if s.Event.Hub == hub && s.Event.Severity == provision.SeverityError {
			all = append(all, s.Event)
		}
	}
	return all
}

// TestDenialEvents: each refusal that concerns a hub is told to it, what
// concerns none to the platform.
func TestDenialEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, denials(time.Hour, 64, nil))
	vendor, stranger := root(t, "Vendor"), root(t, "Stranger")
	h := r.hub("factory", anchors(vendor.Certificate))
	chip := leaf(t, vendor, "chip-1")
	r.expect(over(chip), provision.DeviceProvisioned)
	disable := func(disabled bool) {
		_, err := r.store.UpdateDevice(t.Context(), provision.Update{Hub: h.ID, Device: provision.DeviceIDOf(h.ID, "chip-1"),
			Change: func(d *provision.Device) error { d.Disabled = disabled; return nil },
			Event:  func(d provision.Device) provision.Event { return provision.Disabled.OnDevice(d, time.Now()) }})
		if err != nil {
			t.Fatal(err)
		}
	}
	disable(true)
	var refused provision.Decision
	r.eventually("the ban is known", func() bool {
		refused = r.gate.Admit(t.Context(), over(chip))
		return refused.Reason == provision.DeviceDisabled
	})
	none := func(c *provision.Connection) { c.Leaf, c.Presented, c.Attested = nil, nil, nil }
	foreign := leaf(t, stranger, "chip-2")
	r.expect(over(foreign, sni("factory.iot.example.com")), provision.ChainIncomplete)
	r.expect(over(chip, none, sni("factory.iot.example.com")), provision.NoCertificate)
	r.expect(over(leaf(t, vendor, "a/b")), provision.NameInvalid)
	r.expect(over(foreign), provision.ChainIncomplete)
	r.expect(over(chip, none), provision.NoCertificate)
	r.expect(over(chip, func(c *provision.Connection) { c.DryRun = true }), provision.DeviceDisabled)

	byReason := map[string]provision.Event{}
	for _, e := range r.told(h.ID) {
		byReason[e.Reason] = e
	}
	if len(byReason) != 4 {
		t.Fatalf("the hub was told %+v", byReason)
	}
	e := byReason["device_disabled"]
	if e.Message != "device is not enabled" || e.ObjectType != provision.ObjectDevice || e.ObjectName != "chip-1" ||
		e.ObjectID != provision.DeviceIDOf(h.ID, "chip-1").String() || e.SourceAddress != "192.0.2.7" || e.Decision != refused.ID || e.Count != 1 {
		t.Errorf("a banned device: %+v", e)
	}
	e = byReason["chain_incomplete"]
	if !strings.HasPrefix(e.Message, "invalid device certificate: ") || e.ObjectType != provision.ObjectHub || e.ObjectName != "factory" || e.ObjectID != h.ID.String() {
		t.Errorf("a stranger: %+v", e)
	}
	if e := byReason["no_certificate"]; e.Message != "mutual TLS authentication is required" {
		t.Errorf("no certificate: %+v", e)
	}
	if e := byReason["name_invalid"]; e.Message != "could not identify device" {
		t.Errorf("a name that is none: %+v", e)
	}
	platform := r.told(provision.HubID{})
	if len(platform) != 2 || platform[0].Reason != "chain_incomplete" || platform[1].Reason != "no_certificate" || platform[0].ObjectID != (provision.HubID{}).String() {
		t.Errorf("the platform was told %+v", platform)
	}
}

// TestFolding holds floods to their bounds: one event at once and one per
// window, for each of so many networks, and one for all others; no refusal goes
// uncounted.
func TestFolding(t *testing.T) {
	t.Parallel()
	const networks, checks = 8, 5_000
	r := newRig(t, denials(time.Hour, networks, nil))
	h := r.hub("factory")
	from := func(i int) func(*provision.Connection) {
		return func(c *provision.Connection) {
			c.Source = netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(i % 7)})
		}
	}
	flood := func() {
		for i := range checks {
			r.gate.Admit(t.Context(), provision.Connection{Protocol: provision.HTTP, TLS: true, SNI: "factory.iot.example.com", Source: source})
			c := provision.Connection{Protocol: provision.HTTP, TLS: true, SNI: "factory.iot.example.com"}
			from(i)(&c)
			r.gate.Admit(t.Context(), c)
		}
	}
	flood()
	all := r.told(h.ID)
	sum := 0
	sources := map[string]int{}
	for _, e := range all {
		sum += e.Count
		sources[e.SourceAddress] += e.Count
	}
	// The first of each network and of all others, and the sum of what followed.
	if most := 2 * (networks + 1); len(all) > most || sum != 2*checks {
		t.Errorf("%d events of %d refusals, want at most %d of %d", len(all), sum, most, 2*checks)
	}
	if sources["192.0.2.7"] != checks {
		t.Errorf("one address was refused %d times, told are %v", checks, sources)
	}
}

// TestFoldWindow: a flood that lasts is told once per window, and forgotten when
// it is over.
func TestFoldWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t, denials(time.Second, 64, nil))
	h := r.hub("factory")
	c := provision.Connection{Protocol: provision.HTTP, TLS: true, SNI: "factory.iot.example.com", Source: netip.MustParseAddr("2001:db8::1")}
	other := c
	other.Source = netip.MustParseAddr("2001:db8::2") // in the same /64
	stored := func() (all []provision.Event) {
		for _, s := range must[[]provision.Stored](t)(r.store.Events(t.Context(), h.ID.Partition(r.store.Partitions()), 0, 1000)) {
			if s.Event.Reason == "no_certificate" {
				all = append(all, s.Event)
			}
		}
		return all
	}
	r.expect(c, provision.NoCertificate)
	r.eventually("the first is told at once", func() bool { return len(stored()) == 1 })
	for range 9 {
		r.expect(c, provision.NoCertificate)
		r.expect(other, provision.NoCertificate)
	}
	r.eventually("the others are told together", func() bool { return len(stored()) == 2 })
	if e := stored()[1]; e.Count != 18 || e.SourceAddress != "2001:db8::/64" {
		t.Errorf("folded into %+v", e)
	}
}

// TestDenialsWithoutStore: refusals cost checks nothing while the store is away,
// what waits is bounded, and what is dropped is counted.
func TestDenialsWithoutStore(t *testing.T) {
	t.Parallel()
	broken := brokenAnnouncer{}
	r := newRig(t, func(c *provision.GateConfig) { c.Denials, c.FoldNetworks = broken, 4096 })
	for n := range 40 { // more hubs than a window's events have room for
		r.hub(fmt.Sprintf("hub-%d", n))
	}
	for n := range 40 {
		for i := range 200 {
			r.gate.Admit(t.Context(), provision.Connection{Protocol: provision.HTTP, TLS: true, SNI: fmt.Sprintf("hub-%d.iot.example.com", n),
				Source: netip.AddrFrom4([4]byte{10, byte(n), byte(i), 1})})
		}
	}
	r.eventually("a drop is counted", func() bool {
		return testutil.ToFloat64(mustMetric(t, r.reg, "hubgate_denial_events_dropped_total")) > 0
	})
	if err := r.gate.FlushDenials(t.Context()); err == nil {
		t.Error("a flush that stored nothing reports none")
	}
}

// brokenAnnouncer is a store that does not take events.
type brokenAnnouncer struct{}

func (brokenAnnouncer) AppendEvents(context.Context, int, []provision.Event) error {
	return provision.ErrUnavailable
}

// TestFloodMemory: the state of folding does not grow with the flood.
//
// It does not run beside others, whose memory would count.
func TestFloodMemory(t *testing.T) {
	r := newRig(t, denials(time.Hour, 64, nil))
	r.hub("factory")
	admit := func(from, n int) {
		for i := from; i < from+n; i++ {
			r.gate.Admit(t.Context(), provision.Connection{Protocol: provision.HTTP, TLS: true, SNI: "factory.iot.example.com",
				Source: netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1})})
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n = 20_000
	admit(0, n)
	r.log.reset() // of no interest here
	before := heap()
	admit(n, n)
	r.log.reset() // of no interest here
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d bytes on the heap after %d refusals, %d before", after, n, before)
	}
}
