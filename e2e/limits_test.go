package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

func policy(p provision.Policy) func(*provision.Hub) {
	return func(h *provision.Hub) { h.Policy = p }
}

// refused finds an event of a refusal among the hub's.
func (w *world) refused(t *testing.T, hub provision.HubID, reason provision.Reason) error {
	t.Helper()
	events, err := w.store.Events(t.Context(), hub.Partition(w.store.Partitions()), 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Event.Hub == hub && e.Event.Reason == string(reason) && e.Event.Severity == provision.SeverityError {
			return nil
		}
	}
	return fmt.Errorf("no event tells of %s", reason)
}

// quota: a full hub refuses unseen devices over both protocols, lets known ones
// in, and takes another when there is room.
func quota(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate), policy(provision.Policy{MaxDevices: 2}))
	first := w.expect(t, provision.HTTP, as(v.device(t, "SN-1")), provision.DeviceProvisioned)
	w.expect(t, provision.TCP, as(v.device(t, "SN-2")), provision.DeviceProvisioned)
	late := as(v.device(t, "SN-3"))
	for _, p := range protocols {
		w.expect(t, p, late, provision.QuotaExceeded)
		w.expect(t, p, as(v.device(t, "SN-1")), provision.DeviceKnown)
	}
	if n := len(w.devices(t, hub.ID)); n != 2 {
		t.Errorf("%d devices", n)
	}
	eventually(t, "an event of the full hub", func() error { return w.refused(t, hub.ID, provision.QuotaExceeded) })
	err := w.store.DeleteDevice(t.Context(), hub.ID, first.Device, func(d provision.Device) provision.Event {
		return provision.Deleted.OnDevice(d, time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
	w.expect(t, provision.HTTP, late, provision.DeviceProvisioned)
}

// rate: first connections that come too fast are told when to come back, and
// get in then; known devices never wait.
func rate(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate), policy(provision.Policy{FirstConnectionsPerSecond: 1}))
	known := as(v.device(t, "SN-0"))
	w.expect(t, provision.HTTP, known, provision.DeviceProvisioned)
	for _, p := range protocols {
		var refused dial
		for n := 1; ; n++ {
			refused = as(v.device(t, fmt.Sprintf("%s-%d", p, n)))
			if w.connect(t, p, refused).Reason == provision.RateLimited {
				break
			}
			if n > 100 {
				t.Fatalf("%s: none was refused", p)
			}
		}
		w.expect(t, p, known, provision.DeviceKnown)
		eventually(t, "the refused device gets in", func() error {
			if d := w.connect(t, p, refused); d.Reason != provision.DeviceProvisioned {
				return fmt.Errorf("%s, try again after %s", d.Reason, d.RetryAfter)
			}
			return nil
		})
	}
	eventually(t, "an event of the refusals", func() error { return w.refused(t, hub.ID, provision.RateLimited) })
}

// claimList: of a shared vendor's chips those on the list get in, each once.
func claimList(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate),
		policy(provision.Policy{Admission: []provision.AdmissionRule{{Claims: provision.ClaimOnce}}}))
	if _, err := w.store.PutClaims(t.Context(), hub.ID, []string{"SN-http", "SN-tcp"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range protocols {
		mine := as(v.device(t, "SN-"+string(p)))
		w.expect(t, p, as(v.device(t, "other-"+string(p))), provision.DeviceNotAllowed)
		d := w.expect(t, p, mine, provision.DeviceProvisioned)
		w.expect(t, p, mine, provision.DeviceKnown)
		err := w.store.DeleteDevice(t.Context(), hub.ID, d.Device, func(d provision.Device) provision.Event {
			return provision.Deleted.OnDevice(d, time.Now())
		})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the claim is used", func() error {
			if d := w.connect(t, p, mine); d.Reason != provision.DeviceNotAllowed {
				return fmt.Errorf("%s", d.Reason)
			}
			return nil
		})
	}
	eventually(t, "an event of the strangers", func() error { return w.refused(t, hub.ID, provision.DeviceNotAllowed) })
}
