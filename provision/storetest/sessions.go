package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hubgate/hubgate/provision"
)

// NewSession returns a confirmed session of the device, on a connection of an
// Envoy process.
func NewSession(d provision.Device, envoy provision.EnvoyID) provision.Session {
	now := time.Now().UTC().Round(0)
	return provision.Session{
		ID: uuid.Must(uuid.NewV7()).String(), Hub: d.Hub, Device: d.ID, DeviceName: d.Name, Protocol: provision.TCP,
		Envoy: envoy, Connection: 4711, Source: netip.MustParseAddr("2001:db8::7"),
		Since: now, Confirmed: true, LastActivity: now,
	}
}

// NewEnvoy returns an Envoy process that nothing is known of.
func NewEnvoy() provision.EnvoyID {
	return provision.EnvoyID{Node: "edge-" + randomHex(4), Epoch: randomHex(8)}
}

// lease is longer than any test takes.
const lease = time.Hour

// sessionsFixture returns a hub with devices, and an Envoy whose lease holds.
func sessionsFixture(ctx context.Context, t *testing.T, s Store, devices int) (provision.Hub, []provision.Device, provision.EnvoyID) {
	t.Helper()
	hub := got(CreateHub(ctx, s))(t)
	must(t, CreateDevices(ctx, s, hub, devices))
	envoy := NewEnvoy()
	must(t, s.RenewEnvoy(ctx, envoy, lease))
	return hub, got(allDevices(ctx, s, hub.ID, provision.ByName, 1000))(t), envoy
}

// put puts a session and wants to hear of its device.
func put(ctx context.Context, t *testing.T, s Store, session provision.Session, alone bool) {
	t.Helper()
	d, only, err := s.PutSession(ctx, session)
	must(t, err)
	wantEqual(t, "name of the session's device", d.Name, session.DeviceName)
	wantEqual(t, "session is alone", only, alone)
}

// allHubSessions lists the hub's sessions page by page.
func allHubSessions(ctx context.Context, s Store, hub provision.HubID, limit int) ([]provision.Session, error) {
	var all []provision.Session
	for cursor := ""; ; {
		page, next, err := s.HubSessions(ctx, hub, cursor, limit)
		if err != nil {
			return nil, err
		}
		if len(page) > limit {
			return nil, fmt.Errorf("a page of %d sessions, limit %d", len(page), limit)
		}
		all = append(all, page...)
		if next == "" {
			return all, nil
		}
		if next <= cursor {
			return nil, fmt.Errorf("cursor %q leads back to %q", cursor, next)
		}
		cursor = next
	}
}

func byID(sessions []provision.Session) []provision.Session {
	return slices.SortedFunc(slices.Values(sessions), func(a, b provision.Session) int { return cmp.Compare(a.ID, b.ID) })
}

// wantSessions wants these to be the live sessions of the device and its hub,
// oldest first, on every handle.
func wantSessions(ctx context.Context, t *testing.T, f Fixture, what string, d provision.Device, want ...provision.Session) {
	t.Helper()
	for _, s := range []Store{f.Store, f.replica(t)} {
		wantEqual(t, what+": of the device", got(s.DeviceSessions(ctx, d.Hub, d.ID))(t), want)
		wantEqual(t, what+": of the hub", got(allHubSessions(ctx, s, d.Hub, 2))(t), byID(want))
	}
}

// wantRecorded wants these to be on record of the Envoy, live or not.
func wantRecorded(ctx context.Context, t *testing.T, f Fixture, what string, e provision.EnvoyID, want ...provision.Session) {
	t.Helper()
	for _, s := range []Store{f.Store, f.replica(t)} {
		wantEqual(t, what+": of the Envoy", byID(got(s.EnvoySessions(ctx, e))(t)), byID(want))
	}
}

func testSessionPut(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub, devices, envoy := sessionsFixture(ctx, t, s, 1)
	d := devices[0]
	wantSessions(ctx, t, f, "nothing put", d)
	wantRecorded(ctx, t, f, "nothing put", envoy)

	confirmed := NewSession(d, envoy)
	confirmed.LastActivity = confirmed.Since.Add(time.Minute)
	future := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "from the future")
	pending := confirmed
	pending.Confirmed, pending.Protocol, pending.LastActivity, pending.Unknown = false, provision.HTTP, pending.Since, future
	have, alone, err := s.PutSession(ctx, pending)
	must(t, err)
	wantEqual(t, "the session's device", have, d)
	wantEqual(t, "the only session is alone", alone, true)
	wantSessions(ctx, t, f, "pending", d, pending)
	wantRecorded(ctx, t, f, "pending", envoy, pending)

	other := pending
	other.Connection = 1
	put(ctx, t, f.replica(t), other, true)
	wantSessions(ctx, t, f, "pending session put again", d, pending)
	put(ctx, t, f.replica(t), confirmed, true)
	wantSessions(ctx, t, f, "confirmed", d, confirmed)
	put(ctx, t, s, pending, true)
	wantSessions(ctx, t, f, "pending session put after it was confirmed", d, confirmed)
	active := confirmed
	active.LastActivity = confirmed.Since.Add(time.Hour)
	put(ctx, t, s, active, true)
	wantSessions(ctx, t, f, "active", d, active)

	older := NewSession(d, envoy)
	older.Since, older.LastActivity, older.Source = older.Since.Add(-time.Hour), older.Since, netip.Addr{}
	put(ctx, t, f.replica(t), older, false)
	put(ctx, t, s, active, false)
	wantSessions(ctx, t, f, "two of one device", d, older, active)
	wantRecorded(ctx, t, f, "two of one device", envoy, older, active)
	wantRecorded(ctx, t, f, "of another Envoy", NewEnvoy())
	wantEqual(t, "sessions of another hub", len(got(s.DeviceSessions(ctx, got(CreateHub(ctx, s))(t).ID, d.ID))(t)), 0)
	wantEqual(t, "events", len(got(hubEvents(ctx, s, hub.ID))(t)), 2) // hub and device
}

// testSessionRefused: what is no session of a device is not recorded.
func testSessionRefused(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub, devices, envoy := sessionsFixture(ctx, t, s, 1)
	_, _, err := s.PutSession(ctx, NewSession(NewDevice(hub.ID, "unknown"), envoy))
	wantErr(t, "session of an unknown device", err, provision.ErrNotFound)
	elsewhere := devices[0]
	elsewhere.Hub = got(CreateHub(ctx, s))(t).ID
	_, _, err = s.PutSession(ctx, NewSession(elsewhere, envoy))
	wantErr(t, "session of another hub's device", err, provision.ErrNotFound)
	misnamed := NewSession(devices[0], envoy)
	misnamed.DeviceName = "bulk"
	_, _, err = s.PutSession(ctx, misnamed)
	wantErr(t, "session of a device of another name", err, provision.ErrNotFound)
	for _, id := range []string{"", "session-1", strings.ToUpper(uuid.NewString())} {
		nameless := NewSession(devices[0], envoy)
		nameless.ID = id
		if _, _, err := s.PutSession(ctx, nameless); err == nil || errors.Is(err, provision.ErrUnavailable) {
			t.Errorf("session of ID %q is put with error %v", id, err)
		}
		if err := s.RemoveSession(ctx, nameless); err == nil {
			t.Errorf("session of ID %q is removed", id)
		}
	}
	if _, _, err := s.HubSessions(ctx, hub.ID, "", 0); err == nil {
		t.Error("a page of none is no error")
	}
	if _, _, err := s.HubSessions(ctx, hub.ID, "no cursor", 10); err == nil {
		t.Error("a cursor that is none is no error")
	}
	wantSessions(ctx, t, f, "nothing put", devices[0])
	wantRecorded(ctx, t, f, "nothing put", envoy)
}

// testSessionOfDeleted: whoever ends the connections of what was deleted still
// finds them, and nobody adds any.
func testSessionOfDeleted(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub, devices, envoy := sessionsFixture(ctx, t, s, 2)
	device, withHub := NewSession(devices[0], envoy), NewSession(devices[1], envoy)
	put(ctx, t, s, device, true)
	put(ctx, t, s, withHub, true)

	for _, step := range []struct {
		what    string
		delete  func() error
		session provision.Session
	}{
		{"device", func() error { return deleteDevice(ctx, s, devices[0]) }, device},
		{"hub", func() error { return s.DeleteHub(ctx, hub.ID, HubEvent(hub, "hub was deleted")) }, withHub},
	} {
		must(t, step.delete())
		active := step.session
		active.LastActivity = active.Since.Add(time.Hour)
		late := active
		late.ID = uuid.Must(uuid.NewV7()).String()
		for _, gone := range []provision.Session{active, late} {
			_, _, err := f.replica(t).PutSession(ctx, gone)
			wantErr(t, "put after the deletion of the "+step.what, err, provision.ErrNotFound)
		}
		for _, d := range []provision.Session{device, withHub} {
			wantEqual(t, "sessions after the deletion of the "+step.what,
				got(s.DeviceSessions(ctx, d.Hub, d.Device))(t), []provision.Session{d})
		}
		wantEqual(t, "sessions of the hub", got(allHubSessions(ctx, s, hub.ID, 10))(t), []provision.Session{device, withHub})
		wantRecorded(ctx, t, f, "deletion of the "+step.what, envoy, device, withHub)
	}
	must(t, s.RemoveSession(ctx, device))
	must(t, s.RemoveSession(ctx, withHub))
	wantSessions(ctx, t, f, "removed", devices[0])
	wantSessions(ctx, t, f, "removed", devices[1])
}

func testSessionRemoved(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	_, devices, envoy := sessionsFixture(ctx, t, s, 1)
	first, second := NewSession(devices[0], envoy), NewSession(devices[0], envoy)
	must(t, s.RemoveSession(ctx, first))
	put(ctx, t, s, first, true)
	put(ctx, t, s, second, false)
	must(t, f.replica(t).RemoveSession(ctx, first))
	must(t, s.RemoveSession(ctx, first))
	wantSessions(ctx, t, f, "one of two removed", devices[0], second)
	wantRecorded(ctx, t, f, "one of two removed", envoy, second)
	must(t, s.RemoveSession(ctx, second))
	wantSessions(ctx, t, f, "both removed", devices[0])
	wantRecorded(ctx, t, f, "both removed", envoy)
	put(ctx, t, s, first, true)
	wantSessions(ctx, t, f, "put again", devices[0], first)
}

// testSessionPending: a session that its Envoy does not confirm stops counting
// after PendingSession, and is there for its Envoy for some time more.
func testSessionPending(t *testing.T, f Fixture) {
	ctx, s, now := testContextOf(t), f.Store, f.Clock.freeze()
	_, devices, envoy := sessionsFixture(ctx, t, s, 1)
	nobodys := NewSession(devices[0], provision.EnvoyID{Node: envoy.Node})
	late, never := NewSession(devices[0], envoy), NewSession(devices[0], envoy)
	for _, session := range []*provision.Session{&late, &never, &nobodys} {
		session.Since, session.LastActivity, session.Confirmed = now, now, false
	}
	put(ctx, t, s, nobodys, true)
	put(ctx, t, s, late, false)
	put(ctx, t, s, never, false)
	f.Clock.Advance(provision.PendingSession - time.Nanosecond)
	wantSessions(ctx, t, f, "at the last moment", devices[0], nobodys, late, never)
	f.Clock.Advance(time.Nanosecond)
	wantSessions(ctx, t, f, "after it", devices[0])
	wantRecorded(ctx, t, f, "no more pending", envoy, late, never)
	wantRecorded(ctx, t, f, "of an Envoy that never asks", nobodys.Envoy)

	late.Confirmed = true
	put(ctx, t, s, late, false)
	wantSessions(ctx, t, f, "one confirmed late", devices[0], late)
	f.Clock.Advance(provision.LostEnvoyKept)
	must(t, s.RenewEnvoy(ctx, envoy, lease))
	wantSessions(ctx, t, f, "much later", devices[0], late)
	wantRecorded(ctx, t, f, "much later", envoy, late)
	// What was looked at and found dead is not on record any more.
	put(ctx, t, s, late, true)
}

// testSessionLease: the sessions of an Envoy count while its lease holds.
func testSessionLease(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	_, devices, envoy := sessionsFixture(ctx, t, s, 1)
	d, unknown := devices[0], NewEnvoy()
	first, other := NewSession(d, envoy), NewSession(d, unknown)
	put(ctx, t, s, first, true)
	put(ctx, t, s, other, false)
	wantSessions(ctx, t, f, "one lease of two", d, first)
	wantRecorded(ctx, t, f, "before the first lease", unknown, other)
	must(t, f.replica(t).RenewEnvoy(ctx, unknown, lease))
	wantSessions(ctx, t, f, "two leases", d, first, other)

	must(t, s.RenewEnvoy(ctx, envoy, time.Millisecond))
	gone := func(s Store) func() bool {
		return func() bool {
			f.Clock.Advance(2 * time.Second) // a handle may remember the lease for one
			left := got(s.DeviceSessions(ctx, d.Hub, d.ID))(t)
			return len(left) == 1 && left[0].ID == other.ID
		}
	}
	eventually(t, "the end of a lease of a millisecond", promptness, gone(s))
	eventually(t, "the same elsewhere", promptness, gone(f.replica(t)))
	wantSessions(ctx, t, f, "a lease that ran out", d, other)
	wantRecorded(ctx, t, f, "a lease that ran out", envoy, first)
	must(t, s.RenewEnvoy(ctx, envoy, lease))
	wantSessions(ctx, t, f, "the lease renewed", d, first, other)

	must(t, s.RenewEnvoy(ctx, envoy, 0))
	wantEqual(t, "a lease ended", got(s.DeviceSessions(ctx, d.Hub, d.ID))(t), []provision.Session{other})
	wantEqual(t, "a lease ended: of the hub", got(allHubSessions(ctx, s, d.Hub, 10))(t), []provision.Session{other})
	wantRecorded(ctx, t, f, "a lease ended", envoy, first)
}

// testSessionClaimed: a claim is granted where the device has no other live
// session of TCP.
func testSessionClaimed(t *testing.T, f Fixture) {
	ctx, s, now := testContextOf(t), f.Store, f.Clock.freeze()
	hub, devices, envoy := sessionsFixture(ctx, t, s, 1)
	d := devices[0]
	pending := func(envoy provision.EnvoyID) provision.Session {
		session := NewSession(d, envoy)
		session.Since, session.LastActivity, session.Confirmed = now, now, false
		return session
	}
	claim := func(what string, session provision.Session, other string) {
		t.Helper()
		for i, s := range []Store{f.replica(t), s} { // who asks twice has not lost it
			found := got(s.ClaimSession(ctx, session))(t)
			if (found == nil) != (other == "") || found != nil && found.ID != other {
				t.Errorf("%s, %d: it meets %+v, want session %q", what, i, found, other)
			}
		}
	}
	web := NewSession(d, envoy)
	web.Protocol = provision.HTTP
	put(ctx, t, s, web, true)
	first, second := pending(envoy), pending(envoy)
	claim("beside HTTP", first, "")
	claim("beside a pending one", second, first.ID)
	f.Clock.Advance(provision.PendingSession)
	now = now.Add(provision.PendingSession)
	second = pending(envoy)
	claim("after one that was not confirmed", second, "")
	second.Confirmed = true
	put(ctx, t, s, second, false)
	f.Clock.Advance(provision.LostEnvoyKept)
	now = now.Add(provision.LostEnvoyKept)
	must(t, s.RenewEnvoy(ctx, envoy, lease))
	third := pending(NewEnvoy())
	claim("beside a confirmed one", third, second.ID)
	must(t, s.RenewEnvoy(ctx, envoy, 0))
	f.Clock.Advance(2 * time.Second) // a handle may remember the lease for one
	claim("after an Envoy that is lost", third, "")
	must(t, s.RenewEnvoy(ctx, envoy, lease))
	claim("beside one that came back", third, second.ID)
	must(t, s.RemoveSession(ctx, third))
	must(t, s.RemoveSession(ctx, second))
	fourth := pending(envoy)
	claim("after one that was closed", fourth, "")
	must(t, s.RemoveSession(ctx, web))
	wantSessions(ctx, t, f, "at last", d, fourth)
	wantRecorded(ctx, t, f, "at last", envoy, fourth)

	stranger := NewSession(NewDevice(hub.ID, "unknown"), envoy)
	_, err := s.ClaimSession(ctx, stranger)
	wantErr(t, "claim of an unknown device", err, provision.ErrNotFound)
	nameless := pending(envoy)
	nameless.ID = "session-1"
	if _, err := s.ClaimSession(ctx, nameless); err == nil || errors.Is(err, provision.ErrUnavailable) {
		t.Errorf("claim of a session that has no ID: %v", err)
	}
}

// testSessionLogged: a session of an Envoy without the library has a lease of its
// own, and may become that of an Envoy with it.
func testSessionLogged(t *testing.T, f Fixture) {
	ctx, s, now := testContextOf(t), f.Store, f.Clock.freeze()
	_, devices, envoy := sessionsFixture(ctx, t, s, 1)
	d := devices[0]
	session := NewSession(d, provision.EnvoyID{Node: envoy.Node})
	session.Since, session.LastActivity = now, now
	logged := session
	session.Confirmed, logged.Envoy.Epoch = false, provision.LoggedEpoch+session.ID
	put(ctx, t, s, session, true)
	wantSessions(ctx, t, f, "pending", d, session)
	must(t, s.RenewEnvoy(ctx, logged.Envoy, lease))
	put(ctx, t, s, logged, true)
	f.Clock.Advance(provision.LostEnvoyKept)
	wantSessions(ctx, t, f, "logged", d, logged)

	must(t, s.RenewEnvoy(ctx, logged.Envoy, 0))
	wantEqual(t, "its lease ended", len(got(s.DeviceSessions(ctx, d.Hub, d.ID))(t)), 0)
	must(t, s.RenewEnvoy(ctx, envoy, lease))
	linked := logged
	linked.Envoy = envoy
	put(ctx, t, s, linked, true)
	wantSessions(ctx, t, f, "of a link", d, linked)
	wantRecorded(ctx, t, f, "of a link", envoy, linked)
	must(t, s.RemoveSession(ctx, linked))
	wantSessions(ctx, t, f, "removed", d)
	wantRecorded(ctx, t, f, "removed", envoy)
}

// testSessionsOfEnvoy: an Envoy's sessions are found in every hub.
func testSessionsOfEnvoy(t *testing.T, f Fixture) {
	const hubs = 16
	ctx, s := testContextOf(t), f.Store
	envoy := NewEnvoy()
	must(t, s.RenewEnvoy(ctx, envoy, lease))
	var all []provision.Session
	for i := range hubs {
		_, devices, other := sessionsFixture(ctx, t, s, 1)
		all = append(all, NewSession(devices[0], envoy))
		all[i].Connection = uint64(i)
		put(ctx, t, s, all[i], true)
		put(ctx, t, s, NewSession(devices[0], other), false)
	}
	wantRecorded(ctx, t, f, "in many hubs", envoy, all...)
	sameNode := NewSession(provision.Device{ID: all[0].Device, Hub: all[0].Hub, Name: all[0].DeviceName}, NewEnvoy())
	sameNode.Envoy.Node = envoy.Node
	put(ctx, t, s, sameNode, false)
	wantRecorded(ctx, t, f, "of another process of the node", sameNode.Envoy, sameNode)
	wantRecorded(ctx, t, f, "besides another process of the node", envoy, all...)
}

func testSessionsAnnounced(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub, devices, _ := sessionsFixture(ctx, t, s, 1)
	journals := []*journal{watch(t, s, hub.ID), watch(t, f.replica(t), hub.ID)}
	for i := range 2 {
		must(t, s.AnnounceSessions(ctx, hub.ID, devices[0].ID))
		want := slices.Repeat([]provision.Change{{Kind: provision.SessionsChanged, Hub: hub.ID, Device: devices[0].ID}}, i+1)
		for _, j := range journals {
			eventually(t, "the announcement", promptness, func() bool { _, c := j.state(); return slices.Equal(c, want) })
		}
	}
	wantEqual(t, "events", len(got(hubEvents(ctx, s, hub.ID))(t)), 2) // hub and device
}

// testSessionPaging: sessions that live from first page to last are listed
// exactly once, whatever comes and goes around them.
func testSessionPaging(t *testing.T, f Fixture) {
	const devices, each, churners = 100, 10, 4
	ctx, s := testContextOf(t), f.Store
	hub, all, envoy := sessionsFixture(ctx, t, s, devices)
	dead := NewEnvoy()
	churn, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, churners)
	for c := range churners {
		replica := f.replica(t)
		wg.Go(func() {
			for i := 0; churn.Err() == nil && errs[c] == nil; i++ {
				session := NewSession(all[i%devices], envoy)
				if i%3 == 0 {
					session.Envoy = dead
				}
				_, _, err := replica.PutSession(ctx, session)
				errs[c] = errors.Join(err, replica.RemoveSession(ctx, session))
			}
		})
	}
	stable := map[string]bool{}
	for i := range devices * each {
		session := NewSession(all[i%devices], envoy)
		if i%5 == 0 { // a page full of dead ones is not the end
			session.Envoy = dead
		} else {
			stable[session.ID] = true
		}
		_, _, err := f.Store.PutSession(ctx, session)
		must(t, err)
	}
	for _, limit := range []int{7, 100, devices * each, 1 << 20} {
		listed := got(allHubSessions(ctx, s, hub.ID, limit))(t)
		wantEqual(t, "sessions are in order", slices.IsSortedFunc(listed, func(a, b provision.Session) int { return cmp.Compare(a.ID, b.ID) }), true)
		seen := map[string]int{}
		for _, session := range listed {
			seen[session.ID]++
		}
		for id := range stable {
			if seen[id] != 1 {
				t.Errorf("pages of %d: session %s is listed %d times", limit, id, seen[id])
			}
		}
	}
	stop()
	wg.Wait()
	must(t, errors.Join(errs...))
	wantEqual(t, "sessions at last", len(got(allHubSessions(ctx, s, hub.ID, 100))(t)), len(stable))

	// A cursor is a place, not a session: it works when its session is gone.
	page, next, err := s.HubSessions(ctx, hub.ID, "", 10)
	must(t, err)
	must(t, s.RemoveSession(ctx, page[len(page)-1]))
	rest, _, err := f.replica(t).HubSessions(ctx, hub.ID, next, 1<<20)
	must(t, err)
	wantEqual(t, "sessions around one that was removed", len(page)+len(rest), len(stable))
}
