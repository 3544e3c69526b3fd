package session_test

import (
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// logs is what the access log of an Envoy without the library says.
func logs(r *replica, d *chip, id string, received uint64, closed bool) {
	r.tracker.Logged(provision.Session{
		ID: id, Hub: d.Hub, Device: d.ID, DeviceName: d.Name, Envoy: provision.EnvoyID{Node: "edge"}, Connection: 7, Source: source,
	}, received, closed)
}

func TestAnAccessLogKeepsASession(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r)
	e.id.Epoch = ""
	id := e.check(r, d, provision.TCP, 7)
	eventually(t, "it is pending", func() bool { return len(d.live()) == 1 })
	logs(r, d, id, 100, false)
	eventually(t, "it is confirmed", d.confirmed(id))
	eventually(t, "it is counted", func() bool { return r.metric("hubgate_sessions", "hub", "factory") == 1 })
	first := d.live()[0].LastActivity

	time.Sleep(2 * time.Millisecond)
	logs(r, d, id, 100, false)
	never(t, "silence is activity", func() bool { return !d.live()[0].LastActivity.Equal(first) })
	logs(r, d, id, 200, false)
	eventually(t, "bytes are activity", func() bool { return d.live()[0].LastActivity.After(first) })
	logs(r, d, id, 200, true)
	eventually(t, "it is gone", d.gone)
}

func TestASessionThatNoAccessLogMentionsIsGone(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	id := newSessionID()
	logs(r, d, id, 0, false) // of a check before this process began
	eventually(t, "it is confirmed", d.confirmed(id))
	r.clock.forward(2 * time.Minute)
	logs(r, d, id, 0, false)
	r.clock.forward(2 * time.Minute)
	never(t, "it is gone too early", func() bool { return r.metric("hubgate_sessions") == 0 })
	r.clock.forward(2 * time.Minute)
	eventually(t, "it is gone", func() bool { return r.metric("hubgate_sessions") == 0 })
}

func TestWithoutTheLibraryNothingEnds(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	id := newSessionID()
	logs(r, d, id, 0, false)
	eventually(t, "it is confirmed", d.confirmed(id))
	orders := func() int {
		return r.logged("session cannot be ended: Envoy without the module", "device=SN-1", "reason=device_disabled")
	}
	d.disable()
	eventually(t, "the order is logged", func() bool { return orders() == 1 })
	logs(r, d, id, 10, false)
	never(t, "it is logged again", func() bool { return orders() > 1 })
	// Changes that follow each other closely are judged as one.
	eventually(t, "a new order is logged", func() bool {
		d.edit(func(d *provision.Device) { d.Disabled = false })
		time.Sleep(20 * time.Millisecond)
		d.disable()
		return orders() > 1
	})
	if !d.confirmed(id)() || r.metric("hubgate_sessions_ended_total") != 0 {
		t.Errorf("it counts as ended")
	}
}

func TestALogOfNoSession(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	logs(r, d, "", 0, false)
	logs(r, d, "none", 0, false)
	logs(r, d, newSessionID(), 0, true)
	never(t, "something is on record", func() bool { return !d.gone() || r.metric("hubgate_sessions") != 0 })
}

func TestAnAccessLogSaysNothingOfALinkedEnvoy(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	here, afar := f.device("here"), f.device("afar")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, here)
	eventually(t, "it is open", here.confirmed(s.session))
	logs(r, here, s.session, 10, false)
	logs(r, here, s.session, 10, true)

	other := newEnvoy(t, r) // linked to another replica, if at all
	on := provision.Session{
		ID: newSessionID(), Hub: afar.Hub, Device: afar.ID, DeviceName: afar.Name, Protocol: provision.TCP, Envoy: other.id,
		Connection: 7, Since: time.Now(), Confirmed: true,
	}
	if _, _, err := r.store.PutSession(t.Context(), on); err != nil {
		t.Fatal(err)
	}
	if err := r.store.RenewEnvoy(t.Context(), other.id, time.Minute); err != nil {
		t.Fatal(err)
	}
	logs(r, afar, on.ID, 10, false)
	never(t, "the record was touched", func() bool {
		return !here.confirmed(s.session)() || here.live()[0].Envoy != e.id || !afar.confirmed(on.ID)() || afar.live()[0].Envoy != other.id
	})
	eventually(t, "the link's is counted", func() bool { return r.metric("hubgate_sessions") == 1 })
}
