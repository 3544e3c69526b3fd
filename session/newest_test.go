package session_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

func TestANewConnectionWaitsUntilTheOlderIsClosed(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	old := e.mqtt(r, d)
	eventually(t, "one alone is released", old.atBroker)
	old.keep.Store(true)
	waits := e.mqtt(r, d)
	old.isEnded(link.SessionTakenOver)
	if r.metric("hubgate_sessions_held") != 1 {
		t.Error("it is not counted as one that waits")
	}
	never(t, "released while the older one is open", waits.atBroker)
	newest := e.mqtt(r, d)
	waits.isEnded(link.SessionTakenOver)
	never(t, "released while the oldest is open", newest.atBroker)
	old.close()
	eventually(t, "released", newest.atBroker)
	eventually(t, "the others are gone", d.confirmed(newest.session))
	if waits.let || r.metric("hubgate_sessions_held") != 0 {
		t.Error("what waited was released, or waits on")
	}

	d.edit(func(d *provision.Device) { d.AllowMultipleConnections = true })
	second := e.mqtt(r, d)
	eventually(t, "the second of several is released", second.atBroker)
	never(t, "the first of several is ended", func() bool { return !newest.open() })
}

func TestWhatWaitsIsReleasedOverAnotherLink(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before the older one is closed", "after it", "when a replica stops"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			r, other := newReplicas(t)
			d := newFleet(r, "factory").device("SN-1")
			eventually(t, "both know the hub", func() bool { _, ok := other.gate.Hub("factory"); return ok })
			here, there := newEnvoy(t, r, other).link(r), newEnvoy(t, r, other).link(r)
			old := here.mqtt(r, d)
			eventually(t, "the older one is open", old.atBroker)
			old.keep.Store(true)
			waits := there.mqtt(r, d)
			old.isEnded(link.SessionTakenOver)
			switch when {
			case "before the older one is closed":
				there.cut()
				there.link(r)
				never(t, "released while the older one is open", waits.atBroker)
				old.close()
			case "after it":
				there.cut()
				old.close()
				eventually(t, "the older one is gone", d.confirmed(waits.session))
				there.link(r)
			default:
				r.drain()
				old.isEnded(link.SessionTakenOver) // the other replica says so, too
				never(t, "released while the older one is open", waits.atBroker)
				old.close()
			}
			eventually(t, "released", waits.atBroker)
		})
	}
}

func TestALostEnvoyIsNotWaitedForLonger(t *testing.T) {
	t.Parallel()
	a, b := newReplicas(t)
	d := newFleet(a, "factory").device("SN-1")
	eventually(t, "both know the hub", func() bool { _, ok := b.gate.Hub("factory"); return ok })
	here, there := newEnvoy(t, a).link(a), newEnvoy(t, b).link(b)
	old := here.mqtt(a, d)
	eventually(t, "the older one is open", old.atBroker)
	old.keep.Store(true)
	waits := there.mqtt(b, d)
	old.isEnded(link.SessionTakenOver)
	here.cut()
	eventually(t, "released when the lease is over", waits.atBroker)
}

func TestNothingWaitsForAStoreThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	old := e.mqtt(r, d)
	eventually(t, "the older one is open", func() bool { return old.atBroker() && d.confirmed(old.session)() })
	r.store.cut(true)
	next := e.mqtt(r, d)
	eventually(t, "released", next.atBroker)
	if !old.open() {
		t.Error("the older one was ended by who cannot know of the device")
	}
	r.store.cut(false)
	old.isEnded(link.SessionTakenOver)
}

func TestManyDoNotWaitForAStoreThatHangs(t *testing.T) {
	t.Parallel()
	const many = 800 // one after the other, they would take longer than eventually waits
	r := newSite(t)
	f := newFleet(r, "factory")
	e := newEnvoy(t, r).link(r)
	var devices []*chip
	for i := range many {
		devices = append(devices, f.device(fmt.Sprint("SN-", i)))
	}
	r.store.hang()
	var sockets []*socket
	for _, d := range devices {
		sockets = append(sockets, e.mqtt(r, d))
	}
	eventually(t, "all are released", func() bool {
		return !slices.ContainsFunc(sockets, func(s *socket) bool { return !s.atBroker() })
	})
}

// TestManyAtOnce: of fifty connections of a device at once, by two Envoys at two
// replicas, the newest stays, and at no time the broker has two.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const many = 50
	a, b := newReplicas(t)
	f := newFleet(a, "factory")
	d := f.device("SN-1")
	eventually(t, "both know the hub", func() bool { _, ok := b.gate.Hub("factory"); return ok })
	sides := []struct {
		e *envoy
		r *replica
	}{{newEnvoy(t, a).link(a), a}, {newEnvoy(t, b).link(b), b}}
	sockets := make([]*socket, many)
	began := time.Now()
	var connecting sync.WaitGroup
	for i := range sockets {
		side := sides[i%2]
		connecting.Go(func() {
			n := side.e.next()
			id := side.e.checkAt(side.r, d, provision.TCP, n, began.Add(time.Duration(i)))
			sockets[i] = side.e.tcp(n, id, d)
		})
	}
	connecting.Wait()
	var most, looks atomic.Int64
	newest := sockets[many-1]
	eventually(t, "the newest alone is left", func() bool {
		looks.Add(1)
		at := int64(0)
		for _, s := range sockets {
			// Two that change places while they are looked at are no two.
			if s.atBroker() && slices.ContainsFunc(sockets, func(o *socket) bool { return o != s && o.atBroker() }) && s.atBroker() {
				at++
			}
		}
		most.Store(max(most.Load(), at))
		return d.confirmed(newest.session)() && newest.atBroker()
	})
	if most.Load() > 1 {
		t.Errorf("%d were at the broker at once", most.Load())
	}
	for i, s := range sockets[:many-1] {
		s.isEnded(link.SessionTakenOver)
		if s.atBroker() {
			t.Errorf("connection %d is open", i)
		}
	}
	never(t, "the newest was ended", func() bool { return !newest.open() })
}

func TestClaim(t *testing.T) {
	t.Parallel()
	a, b := newReplicas(t)
	d := newFleet(a, "factory").device("SN-1")
	eventually(t, "both know the hub", func() bool { _, ok := b.gate.Hub("factory"); return ok })
	e := newEnvoy(t, a, b).link(a)
	claim := func(r *replica) (provision.Session, *provision.Session) {
		t.Helper()
		now := time.Now()
		s := provision.Session{
			ID: newSessionID(), Hub: d.Hub, Device: d.ID, DeviceName: d.Name, Protocol: provision.TCP,
			Envoy: e.id, Connection: e.next(), Source: source, Since: now, LastActivity: now,
		}
		return s, must(r.tracker.Claim(t.Context(), s))(t)
	}
	first, other := claim(a)
	if other != nil {
		t.Fatalf("it meets %+v", other)
	}
	if connected := must(b.tracker.Connected(t.Context(), d.Hub, d.ID))(t); connected == nil || connected.ID != first.ID {
		t.Errorf("connected is %+v", connected)
	}
	for _, r := range []*replica{a, b} {
		if _, other := claim(r); other == nil || other.ID != first.ID {
			t.Errorf("a second one meets %+v", other)
		}
	}
	open := e.tcp(first.Connection, first.ID, d)
	eventually(t, "it is open", d.confirmed(first.ID))
	if got := d.live()[0]; got.Source != source {
		t.Errorf("the check's details are lost: %+v", got)
	}
	if _, other := claim(b); other == nil {
		t.Error("a second one is granted")
	}
	// A device that comes back at once is let in, wherever that is.
	for _, r := range []*replica{b, a} {
		open.close()
		next, other := claim(r)
		if other != nil {
			t.Fatalf("closed a moment ago, it meets %+v", other)
		}
		open = e.tcp(next.Connection, next.ID, d)
		eventually(t, "it is open", d.confirmed(next.ID))
	}
	// What a replica wrote too late is found out.
	open.close()
	eventually(t, "it is gone", d.gone)
	ghost := first
	ghost.Confirmed = true
	for _, r := range []*replica{b, a} {
		if _, _, err := a.store.PutSession(t.Context(), ghost); err != nil {
			t.Fatal(err)
		}
		next, other := claim(r)
		if other != nil {
			t.Errorf("a session that is only on record is in the way: %+v", other)
		}
		must(0, a.store.RemoveSession(t.Context(), next))(t)
	}
	a.store.cut(true)
	if _, err := a.tracker.Claim(t.Context(), first); err == nil {
		t.Error("a claim is granted that no store knows of")
	}
	a.store.cut(false)
}

// TestAnOlderOneWithoutTheLibrary cannot be ended: nothing waits for it, its
// record says so, and an event.
func TestAnOlderOneWithoutTheLibrary(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	d := f.device("SN-1")
	e := newEnvoy(t, r).link(r)
	logged := provision.Session{ID: newSessionID(), Hub: d.Hub, Device: d.ID, Envoy: provision.EnvoyID{Node: "bare"}, Source: source}
	unended := func(want provision.EndReason) func() bool {
		return func() bool {
			live := d.live()
			i := slices.IndexFunc(live, func(s provision.Session) bool { return s.ID == logged.ID })
			return i >= 0 && live[i].Unended == want
		}
	}
	r.tracker.Logged(logged, 1, false)
	eventually(t, "it is open", unended(""))
	next := e.mqtt(r, d)
	eventually(t, "the newer one is released", next.atBroker)
	eventually(t, "the older one is marked", unended(provision.EndElsewhere))
	for range 3 {
		r.tracker.Logged(logged, 2, false) // which has it judged again
	}
	never(t, "the mark is gone", unended(""))
	var told []provision.Event
	eventually(t, "an event says so", func() bool {
		events := must(r.store.Events(t.Context(), d.Hub.Partition(r.store.Partitions()), 0, 100))(t)
		told = nil
		for _, stored := range events {
			if stored.Event.Reason == provision.ReasonSessionNotEnded {
				told = append(told, stored.Event)
			}
		}
		return len(told) > 0
	})
	if e := told[0]; len(told) != 1 || e.ObjectName != "SN-1" || e.Hub != d.Hub || e.Count != 1 || e.SourceAddress != source.String() ||
		!strings.Contains(e.Message, "connected_elsewhere") {
		t.Errorf("events %+v", told)
	}
	next.close()
	eventually(t, "the newer one is gone", func() bool { return len(d.live()) == 1 })
	r.tracker.Logged(logged, 3, false)
	eventually(t, "it is the only one, and may stay", unended(""))
}
