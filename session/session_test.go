package session_test

import (
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/session"
)

func TestASessionIsOnRecordWhileItsConnectionIsOpen(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	d := f.device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, d)
	eventually(t, "the session is confirmed", d.confirmed(s.session))
	got := d.live()[0]
	if got.Source != source || got.DeviceName != "SN-1" || got.Envoy != e.id || got.Connection != s.number || got.Protocol != provision.TCP {
		t.Errorf("on record: %+v", got)
	}
	eventually(t, "it is counted", func() bool { return r.metric("hubgate_sessions", "hub", "factory") == 1 })
	if n := r.metric("hubgate_links"); n != 1 {
		t.Errorf("%v links", n)
	}
	s.entry.Close()
	eventually(t, "the session is gone", d.gone)
	if n := r.metric("hubgate_sessions"); n != 0 || r.logged("session ended") != 0 {
		t.Errorf("%v sessions left\n%s", n, r.log)
	}
}

func TestACheckAloneIsPending(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r)
	id := e.check(r, d, provision.TCP, e.next())
	eventually(t, "it is on record", func() bool { return len(d.live()) == 1 })
	if s := d.live()[0]; s.ID != id || s.Confirmed {
		t.Errorf("on record: %+v", s)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason provision.EndReason
		code   byte
		act    func(*fleet, *chip)
	}{
		{provision.EndDeviceDisabled, link.AdministrativeAction, func(_ *fleet, d *chip) { d.disable() }},
		{provision.EndOrdered, link.AdministrativeAction, func(_ *fleet, d *chip) {
			d.edit(func(d *provision.Device) { d.SessionsEndBefore = time.Now() })
		}},
		{provision.EndDeviceGone, link.NotAuthorized, func(f *fleet, d *chip) {
			err := f.r.store.DeleteDevice(t.Context(), d.Hub, d.ID, func(d provision.Device) provision.Event {
				return provision.Deleted.OnDevice(d, time.Now())
			})
			if err != nil {
				t.Error(err)
			}
		}},
		{provision.EndHubDisabled, link.AdministrativeAction, func(f *fleet, _ *chip) {
			f.edit(func(h *provision.Hub) { h.Disabled = true })
		}},
		{provision.EndAnchorRemoved, link.NotAuthorized, func(f *fleet, _ *chip) {
			f.edit(func(h *provision.Hub) { h.Anchors, h.AutoProvisioning = nil, false })
		}},
		{provision.EndRevoked, link.NotAuthorized, func(f *fleet, d *chip) {
			err := f.r.store.UpdateRevocations(t.Context(), d.Hub, func(r *provision.Revocations) error {
				return r.Revoke(provision.Revocation{Key: leafKey})
			}, func(h provision.Hub) provision.Event { return provision.Revoked.OnHub(h, time.Now()) })
			if err != nil {
				t.Error(err)
			}
		}},
		{provision.EndTooOld, link.MaximumConnectTime, func(f *fleet, _ *chip) {
			f.r.clock.forward(2 * time.Minute)
			f.edit(func(h *provision.Hub) { h.Policy.MaxSessionAge = time.Minute })
		}},
		{provision.EndHubGone, link.NotAuthorized, func(f *fleet, _ *chip) {
			if err := f.r.store.DeleteHub(t.Context(), f.hub.ID, provision.Deleted.OnHub(f.hub, time.Now())); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(string(tt.reason), func(t *testing.T) {
			t.Parallel()
			r := newSite(t)
			f := newFleet(r, "factory")
			d := f.device("SN-1")
			other := newFleet(r, "other").device("SN-1")
			e := newEnvoy(t, r).link(r)
			s, untouched := e.mqtt(r, d), e.mqtt(r, other)
			eventually(t, "both are open", func() bool { return d.confirmed(s.session)() && other.confirmed(untouched.session)() })

			tt.act(f, d)
			s.isEnded(tt.code)
			eventually(t, "the session is gone", d.gone)
			eventually(t, "it was logged once", func() bool {
				return r.logged("session ended", "reason="+string(tt.reason), "device=SN-1", s.session) == 1
			})
			if n := r.metric("hubgate_sessions_ended_total", "reason", string(tt.reason)); n != 1 || r.metric("hubgate_session_end_duration_seconds") != 1 {
				t.Errorf("counted %v", n)
			}
			never(t, "another hub's connection was ended", func() bool { return !untouched.open() })
		})
	}
}

func TestChangesThatConcernNobodyEndNothing(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	d := f.device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, d)
	eventually(t, "it is open", d.confirmed(s.session))
	d.edit(func(d *provision.Device) { d.Description = "pump" })
	d.edit(func(d *provision.Device) { d.SessionsEndBefore = time.Now().Add(-time.Minute) })
	f.edit(func(h *provision.Hub) { h.AutoProvisioning = false })
	never(t, "the connection was ended", func() bool { return !s.open() })
}

func TestDisabledBetweenCheckAndOpen(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	n := e.next()
	id := e.check(r, d, provision.TCP, n)
	d.disable()
	e.tcp(n, id, d).isEnded(link.AdministrativeAction)
	eventually(t, "the session is gone", d.gone)
}

func TestAnOrderStandsUntilItIsCarriedOut(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, d)
	s.keep.Store(true)
	eventually(t, "it is open", d.confirmed(s.session))
	d.disable()
	s.isEnded(link.AdministrativeAction)
	never(t, "it is told twice on one link", func() bool { return !s.open() })
	if d.gone() {
		t.Error("the session is off the record while its connection is open")
	}
	e.cut()
	e.link(r)
	s.isEnded(link.AdministrativeAction)
	s.entry.Close()
	eventually(t, "the session is gone", d.gone)
}

func TestAnOrderDuringAnOutageOfTheLinkHappens(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	disabled, ordered, untouched, left := f.device("disabled"), f.device("ordered"), f.device("untouched"), f.device("left")
	e := newEnvoy(t, r).link(r)
	a, b, c, d := e.mqtt(r, disabled), e.mqtt(r, ordered), e.mqtt(r, untouched), e.mqtt(r, left)
	eventually(t, "all are open", func() bool {
		return disabled.confirmed(a.session)() && ordered.confirmed(b.session)() && untouched.confirmed(c.session)() && left.confirmed(d.session)()
	})
	e.cut()
	disabled.disable()
	ordered.edit(func(d *provision.Device) { d.SessionsEndBefore = time.Now() })
	ordered.edit(func(d *provision.Device) { d.Description = "may come back" })
	d.entry.Close()
	e.link(r)
	a.isEnded(link.AdministrativeAction)
	b.isEnded(link.AdministrativeAction)
	eventually(t, "what closed meanwhile is gone", func() bool { return left.gone() && disabled.gone() && ordered.gone() })
	eventually(t, "the other is still there", untouched.confirmed(c.session))
	never(t, "the other was ended", func() bool { return !c.open() })

	back := e.mqtt(r, ordered)
	eventually(t, "the device is back", ordered.confirmed(back.session))
	never(t, "it was ended again", func() bool { return !back.open() })
}

// TestWhatASnapshotLacksIsGone: another replica, or a process that was here
// before, had recorded what the Envoy no longer has open.
func TestWhatASnapshotLacksIsGone(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r)
	for _, confirmed := range []bool{true, false} {
		_, _, err := r.store.PutSession(t.Context(), provision.Session{
			ID: newSessionID(), Hub: d.Hub, Device: d.ID, DeviceName: d.Name, Protocol: provision.TCP, Envoy: e.id,
			Connection: 77, Since: time.Now().Add(-time.Minute), Confirmed: confirmed,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	e.link(r)
	eventually(t, "it is gone", func() bool { return len(must(r.store.EnvoySessions(t.Context(), e.id))(t)) == 0 })
}

func TestARestartedHubgateLearnsAllAnew(t *testing.T) {
	t.Parallel()
	before := newSite(t)
	d := newFleet(before, "factory").device("SN-1")
	e := newEnvoy(t, before).link(before)
	s := e.mqtt(before, d)
	eventually(t, "it is open", d.confirmed(s.session))
	if err := before.store.RemoveSession(t.Context(), d.live()[0]); err != nil {
		t.Fatal(err) // sessions of an embedded store are in memory
	}
	before.drain()
	e.cut()

	after := newReplica(t, before.store.backend)
	e2 := newEnvoy(t, after)
	e2.id, e2.client = e.id, must(link.NewClient(link.ClientConfig{
		Addresses: []string{after.address}, Hello: link.Hello{Node: e.id.Node, Epoch: e.id.Epoch}, Log: discard,
	}))(t)
	again := e2.tcp(s.number, s.session, d)
	e2.link(after)
	eventually(t, "it is on record again", d.confirmed(s.session))
	if got := d.live()[0]; got.DeviceName != "SN-1" || time.Since(got.Since) > time.Minute {
		t.Errorf("on record: %+v", got)
	}
	d.disable()
	again.isEnded(link.AdministrativeAction)
}

func TestANewerLinkReplacesTheOlder(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	first := newEnvoy(t, r).link(r)
	s := first.mqtt(r, d)
	eventually(t, "it is open", d.confirmed(s.session))

	second := newEnvoy(t, r)
	second.id = first.id
	second.client = must(link.NewClient(link.ClientConfig{
		Addresses: []string{r.address}, Hello: link.Hello{Node: first.id.Node, Epoch: first.id.Epoch}, Log: discard,
	}))(t)
	over := second.tcp(s.number, s.session, d)
	first.cut() // or it would replace the newer one in turn
	second.link(r)
	eventually(t, "there is one link", func() bool { return r.metric("hubgate_links") == 1 })
	eventually(t, "the session is still there", d.confirmed(s.session))
	d.disable()
	over.isEnded(link.AdministrativeAction)
}

func TestTheSessionsOfALostEnvoyGoWithItsLease(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, d)
	eventually(t, "it is open", d.confirmed(s.session))
	time.Sleep(4 * heartbeat)
	if d.gone() {
		t.Error("the session is gone though its Envoy lives")
	}
	e.cut()
	eventually(t, "the session is gone", d.gone)
	e.link(r)
	eventually(t, "it is back", d.confirmed(s.session))
}

func TestOneConnectionAtATime(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	single, several := f.device("single"), f.device("several")
	several.edit(func(d *provision.Device) { d.AllowMultipleConnections = true })
	here, there := newEnvoy(t, r).link(r), newEnvoy(t, r).link(r)
	a, b := here.mqtt(r, single), here.mqtt(r, several)
	eventually(t, "both are open", func() bool { return single.confirmed(a.session)() && several.confirmed(b.session)() })
	c, d := there.mqtt(r, single), there.mqtt(r, several)
	a.isEnded(link.SessionTakenOver)
	eventually(t, "the newer one is there", single.confirmed(c.session))
	eventually(t, "the other device has two", func() bool { return len(several.live()) == 2 })
	never(t, "one of them was ended", func() bool { return !b.open() || !c.open() || !d.open() })
}

// TestTheNewerCheckWins whichever connection is confirmed first.
func TestTheNewerCheckWins(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	older, newer := e.next(), e.next()
	olderID := e.check(r, d, provision.TCP, older)
	time.Sleep(5 * time.Millisecond)
	newerID := e.check(r, d, provision.TCP, newer)
	b := e.tcp(newer, newerID, d)
	eventually(t, "the newer is open", func() bool { return r.metric("hubgate_sessions") == 1 })
	e.tcp(older, olderID, d).isEnded(link.SessionTakenOver)
	eventually(t, "the newer stays", d.confirmed(newerID))
	never(t, "the newer was ended", func() bool { return !b.open() })
}

func TestActivityIsRecordedNowAndThen(t *testing.T) {
	t.Parallel()
	// A lease that lapsed would have everything written again.
	r := newSite(t, func(c *session.Config) { c.Heartbeat = 5 * time.Second })
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	n := e.web().number
	marker := newFleet(r, "other").device("SN-1")
	eventually(t, "what was opened is known", marker.confirmed(e.mqtt(r, marker).session))
	id := e.check(r, d, provision.HTTP, n)
	eventually(t, "it is open", d.confirmed(id))
	first := d.live()[0].LastActivity
	e.checkAt(r, d, provision.HTTP, n, time.Now().Add(30*time.Second))
	never(t, "it is written again", func() bool { return !d.live()[0].LastActivity.Equal(first) })
	e.checkAt(r, d, provision.HTTP, n, time.Now().Add(time.Minute))
	eventually(t, "it is written again", func() bool { return d.live()[0].LastActivity.Sub(first) >= time.Minute })
}
