package session_test

import (
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

// web opens a connection of HTTP, of which the Envoy knows the number alone.
func (e *envoy) web() *socket {
	return e.open(link.Open{Connection: e.next(), Protocol: link.HTTP})
}

func TestRequestsOnAConnectionShareItsSession(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.web()
	id := e.check(r, d, provision.HTTP, s.number)
	if id == "" || e.check(r, d, provision.HTTP, s.number) != id {
		t.Errorf("the second request is not in session %q", id)
	}
	eventually(t, "the session is confirmed", d.confirmed(id))
	another := e.web()
	if e.check(r, d, provision.HTTP, another.number) == id {
		t.Error("two connections share a session")
	}
	eventually(t, "both are on record", func() bool { return len(d.live()) == 2 })
	never(t, "one was ended", func() bool { return !s.open() || !another.open() })
	s.entry.Close()
	eventually(t, "one is gone", func() bool { return len(d.live()) == 1 })
	d.disable()
	another.isEnded(link.AdministrativeAction)
	eventually(t, "both are gone", d.gone)
}

func TestAConnectionOfHTTPThatCannotBeFollowed(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	bare := newEnvoy(t, r)
	bare.id.Epoch = ""
	if id := bare.check(r, d, provision.HTTP, 7); id != "" {
		t.Errorf("session %q without the library", id)
	}
	if id := newEnvoy(t, r).check(r, d, provision.HTTP, 0); id != "" {
		t.Errorf("session %q of a connection without a number", id)
	}
}

func TestTheCheckMayComeBeforeItsConnectionIsTold(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	n := e.next()
	id := e.check(r, d, provision.HTTP, n)
	eventually(t, "it is on record", d.confirmed(id))
	s := e.open(link.Open{Connection: n, Protocol: link.HTTP})
	e.check(r, d, provision.HTTP, n)
	time.Sleep(heartbeat)
	r.clock.forward(provision.PendingSession)
	never(t, "it was forgotten", d.gone)
	s.entry.Close()
	eventually(t, "it is gone", d.gone)

	never2 := e.next()
	e.check(r, d, provision.HTTP, never2)
	eventually(t, "another is on record", func() bool { return !d.gone() })
	r.clock.forward(provision.PendingSession)
	eventually(t, "what never opened is gone", d.gone)
}

func TestAConnectionOfHTTPKeepsItsSessionOverACutLink(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.web()
	id := e.check(r, d, provision.HTTP, s.number)
	eventually(t, "it is open", d.confirmed(id))
	e.cut()
	eventually(t, "its Envoy is lost", d.gone)
	e.link(r)
	eventually(t, "it is back", func() bool { return d.confirmed(id)() && r.metric("hubgate_sessions") == 1 })
	if got := e.check(r, d, provision.HTTP, s.number); got != id {
		t.Errorf("session %s, was %s", got, id)
	}
	e.cut()
	d.disable()
	e.link(r)
	s.isEnded(link.AdministrativeAction)
}

// TestAConnectionChangesItsDevice as one does that was deleted and provisioned
// itself again under another hub.
func TestAConnectionChangesItsDevice(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	before, after := newFleet(r, "one").device("SN-1"), newFleet(r, "two").device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.web()
	first := e.check(r, before, provision.HTTP, s.number)
	eventually(t, "it is open", before.confirmed(first))
	second := e.check(r, after, provision.HTTP, s.number)
	eventually(t, "it is the other's", func() bool { return before.gone() && after.confirmed(second)() })
	before.disable()
	never(t, "it was ended", func() bool { return !s.open() })
	after.disable()
	s.isEnded(link.AdministrativeAction)
}
