package provision_test

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hubgate/hubgate/provision"
)

func from(address string) func(*provision.Connection) {
	return func(c *provision.Connection) { c.Source = netip.MustParseAddr(address) }
}

// TestFailuresOfANetwork: a network whose certificates were refused too often is
// not looked at for a while; who is known, and every other network, is.
func TestFailuresOfANetwork(t *testing.T) {
	t.Parallel()
	const perMinute = 6
	var ahead atomic.Int64
	r := newRig(t, func(c *provision.GateConfig) {
		c.FailuresPerMinute = perMinute
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	vendor, stranger := root(t, "Vendor"), root(t, "Stranger")
	r.hub("factory", anchors(vendor.Certificate), func(h *provision.Hub) {
		h.Policy.Admission = []provision.AdmissionRule{{NamePattern: "SN-.*"}}
	})
	known := leaf(t, vendor, "SN-1")
	r.expect(over(known), provision.DeviceProvisioned)
	foreign := func(n int) provision.Connection {
		return over(leaf(t, stranger, fmt.Sprint("X-", n)), from(fmt.Sprintf("192.0.2.%d", n)))
	}
	// Neither a certificate that verifies nor one that was refused before counts.
	for n := range 2 * perMinute {
		r.expect(over(leaf(t, vendor, fmt.Sprint("NO-", n))), provision.DeviceNotAllowed)
	}
	again := foreign(201)
	for range 2 * perMinute {
		r.expect(again, provision.ChainIncomplete)
	}
	for n := 0; ; n++ {
		if n > 3*perMinute {
			t.Fatal("never limited")
		}
		if d := r.gate.Admit(t.Context(), foreign(n)); d.Reason == provision.RateLimited {
			if d.RetryAfter <= 0 || d.RetryAfter > time.Minute/perMinute {
				t.Errorf("try again in %s", d.RetryAfter)
			}
			break
		}
	}
	read := 0
	if d := r.gate.Admit(t.Context(), sealed(foreign(7), &read)); d.Reason != provision.RateLimited || read != 0 {
		t.Errorf("%s, read %d times", d.Reason, read)
	}
	r.expect(over(known), provision.DeviceKnown)
	r.expect(again, provision.ChainIncomplete)                                                // which costs nothing
	r.expect(over(leaf(t, vendor, "SN-2")), provision.RateLimited)                            // nobody has seen it
	r.expect(over(leaf(t, vendor, "SN-2"), from("192.0.3.7")), provision.DeviceProvisioned)   // another network
	r.expect(over(leaf(t, vendor, "SN-3"), from("2001:db8::1")), provision.DeviceProvisioned) // and another
	r.expect(over(leaf(t, vendor, "SN-4"), from("::ffff:192.0.2.9")), provision.RateLimited)  // the same, written otherwise
	dry := over(leaf(t, vendor, "SN-4"))
	dry.DryRun = true
	r.expect(dry, provision.DeviceProvisioned)
	if n := testutil.ToFloat64(mustMetric(t, r.reg, "hubgate_source_network_refusals_total")); n < 4 {
		t.Errorf("%v refusals are counted", n)
	}
	ahead.Store(int64(time.Minute / perMinute))
	r.expect(over(leaf(t, vendor, "SN-2")), provision.DeviceKnown)
}
