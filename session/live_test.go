package session_test

import (
	"testing"

	"github.com/hubgate/hubgate/provision"
)

func TestSessionsOfADevice(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	d, other := f.device("SN-1"), f.device("SN-2")
	ids := func() string {
		t.Helper()
		all := ""
		for _, s := range must(r.tracker.DeviceSessions(t.Context(), d.Hub, d.ID))(t) {
			all += s.ID
		}
		return all
	}
	if got := ids(); got != "" {
		t.Errorf("before it connects: %s", got)
	}
	// An Envoy that is not linked here: what is on record counts.
	afar := newEnvoy(t, r)
	id := afar.check(r, d, provision.TCP, afar.next())
	eventually(t, "the pending session is on record", func() bool { return ids() == id })
	// One that is: its word is enough, with a store that does not answer.
	near := newEnvoy(t, r).link(r)
	s := near.mqtt(r, d)
	eventually(t, "the open one is known", func() bool { return ids() == s.session })
	r.store.cut(true)
	if got := ids(); got != s.session {
		t.Errorf("while the store is cut off: %s, want %s", got, s.session)
	}
	if got, err := r.tracker.DeviceSessions(t.Context(), d.Hub, other.ID); err == nil {
		t.Errorf("of a device that is not here: %v", got)
	}
	r.store.cut(false)
	d.disable()
	eventually(t, "one that is being ended does not count", func() bool { return ids() != s.session })
}
