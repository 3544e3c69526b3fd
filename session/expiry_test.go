package session_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

// TestSessionsEndInTheirTime: when their chains expire, or when they are too
// old, with nothing that changes.
func TestSessionsEndInTheirTime(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		age    time.Duration
		after  time.Duration
		reason provision.EndReason
		code   byte
	}{
		"chain expired": {0, chainLife, provision.EndChainExpired, link.NotAuthorized},
		"too old":       {5 * time.Hour, 5 * time.Hour, provision.EndTooOld, link.MaximumConnectTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSite(t)
			f := newFleet(r, "factory")
			d := f.device("SN-1")
			f.edit(func(h *provision.Hub) { h.Policy.MaxSessionAge = tt.age })
			eventually(t, "the policy is in force", func() bool {
				h, _ := r.gate.Hub("factory")
				return h.Policy.MaxSessionAge == tt.age
			})
			e := newEnvoy(t, r).link(r)
			s := e.mqtt(r, d)
			eventually(t, "it is open", d.confirmed(s.session))
			r.clock.forward(tt.after - time.Minute)
			never(t, "it was ended early", func() bool { return !s.open() })
			r.clock.forward(time.Minute)
			s.isEnded(tt.code)
			eventually(t, "it was logged", func() bool { return r.logged("session ended", "reason="+string(tt.reason), s.session) == 1 })
		})
	}
}

// TestTheChainIsOnRecord, for the replica that the Envoy is linked to next.
func TestTheChainIsOnRecord(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, d)
	eventually(t, "it is open", d.confirmed(s.session))
	if live := d.live(); len(live[0].Certificates) != 1 || live[0].Expires.IsZero() {
		t.Errorf("on record: %+v", live)
	}
}

// TestAForgottenChainEnds: of a connection that is on no record nobody knows with
// which chain it was let in: it ends within two hours.
func TestAForgottenChainEnds(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.tcp(e.next(), uuid.Must(uuid.NewV7()).String(), d)
	eventually(t, "it is open", d.confirmed(s.session))
	r.clock.forward(59 * time.Minute)
	never(t, "it was ended early", func() bool { return !s.open() })
	r.clock.forward(61*time.Minute + time.Second)
	s.isEnded(link.NotAuthorized)
}
