package session_test

import (
	"testing"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// newReplicas are two hubgates on one Redis.
func newReplicas(t *testing.T) (a, b *replica) {
	t.Helper()
	server := redistest.Start(t)
	open := func() *redisstore.Store {
		store := must(redisstore.Open(t.Context(), redisstore.Config{URL: server.URL(), Logger: discard}))(t)
		t.Cleanup(func() { _ = store.Close() })
		return store
	}
	return newReplica(t, open()), newReplica(t, open())
}

func TestACheckAtOneReplicaAndTheLinkAtAnother(t *testing.T) {
	t.Parallel()
	linked, checking := newReplicas(t)
	f := newFleet(linked, "factory")
	eventually(t, "both know the hub", func() bool { _, ok := checking.gate.Hub("factory"); return ok })
	e := newEnvoy(t, linked).link(linked)

	t.Run("TCP", func(t *testing.T) {
		d := f.device("mqtt")
		n := e.next()
		id := e.check(checking, d, provision.TCP, n)
		eventually(t, "it is pending", func() bool { return len(d.live()) == 1 })
		s := e.tcp(n, id, d)
		eventually(t, "it is confirmed", d.confirmed(id))
		if got := d.live()[0]; got.Source != source || got.DeviceName != "mqtt" {
			t.Errorf("the check's details are lost: %+v", got)
		}
		(&chip{&fleet{r: checking}, d.Device}).disable()
		s.isEnded(link.AdministrativeAction)
		eventually(t, "it is gone", d.gone)
	})
	t.Run("HTTP", func(t *testing.T) {
		d := f.device("https")
		s := e.web()
		id := e.check(checking, d, provision.HTTP, s.number)
		if again := e.check(checking, d, provision.HTTP, s.number); again != id {
			t.Errorf("session %s, then %s", id, again)
		}
		eventually(t, "the linked one knows whose it is", func() bool { return linked.metric("hubgate_sessions", "hub", "factory") == 1 })
		if d.confirmed(id)() == false {
			t.Errorf("on record: %+v", d.live())
		}
		d.disable()
		s.isEnded(link.AdministrativeAction)
		eventually(t, "it is gone", d.gone)
	})
	t.Run("HTTP, closed", func(t *testing.T) {
		d := f.device("short")
		s := e.web()
		e.check(checking, d, provision.HTTP, s.number)
		eventually(t, "the linked one knows whose it is", func() bool { return linked.metric("hubgate_sessions", "hub", "factory") == 1 })
		s.entry.Close()
		eventually(t, "it is gone", d.gone)
	})
	t.Run("HTTP, closed before it was announced", func(t *testing.T) {
		d := f.device("shorter")
		s := e.web()
		s.entry.Close()
		e.check(checking, d, provision.HTTP, s.number)
		eventually(t, "it is on record", func() bool { return !d.gone() })
		linked.clock.forward(provision.PendingSession)
		eventually(t, "it is gone", d.gone)
	})
}

func TestALinkMovesToAnotherReplica(t *testing.T) {
	t.Parallel()
	first, second := newReplicas(t)
	f := newFleet(first, "factory")
	web, mqtt := f.device("web"), f.device("mqtt")
	eventually(t, "both know the hub", func() bool { _, ok := second.gate.Hub("factory"); return ok })
	e := newEnvoy(t, first, second).link(first)
	a, b := e.web(), e.mqtt(first, mqtt)
	id := e.check(first, web, provision.HTTP, a.number)
	eventually(t, "both are open", func() bool { return web.confirmed(id)() && mqtt.confirmed(b.session)() })
	first.drain()
	eventually(t, "the other has both", func() bool { return second.metric("hubgate_sessions", "hub", "factory") == 2 })
	if got := mqtt.live(); len(got) != 1 || got[0].Source != source {
		t.Errorf("on record: %+v", got)
	}
	f.edit(func(h *provision.Hub) { h.Disabled = true })
	a.isEnded(link.AdministrativeAction)
	b.isEnded(link.AdministrativeAction)
	eventually(t, "both are gone", func() bool { return web.gone() && mqtt.gone() })
}

func TestOneConnectionAtATimeOverReplicas(t *testing.T) {
	t.Parallel()
	a, b := newReplicas(t)
	d := newFleet(a, "factory").device("SN-1")
	eventually(t, "both know the hub", func() bool { _, ok := b.gate.Hub("factory"); return ok })
	here, there := newEnvoy(t, a).link(a), newEnvoy(t, b).link(b)
	old := here.mqtt(a, d)
	eventually(t, "it is open", d.confirmed(old.session))
	for range 3 {
		next := there.mqtt(b, d)
		old.isEnded(link.SessionTakenOver)
		eventually(t, "the newer one is there", d.confirmed(next.session))
		old, here, there, a, b = next, there, here, b, a
	}
	never(t, "the last was ended", func() bool { return !old.open() })
}

func TestARedisThatComesBackEmptyIsFilledAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := must(redisstore.Open(t.Context(), redisstore.Config{URL: server.URL(), Logger: discard}))(t)
	t.Cleanup(func() { _ = store.Close() })
	r := newReplica(t, store)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, d)
	eventually(t, "it is open", d.confirmed(s.session))
	for _, key := range must(server.Client().Keys(t.Context(), "hg:*s:*").Result())(t) {
		server.Do("DEL", key)
	}
	if !d.gone() {
		t.Fatal("keys of sessions are left")
	}
	r.tracker.Lost(d.Hub.Partition(r.store.Partitions()))
	eventually(t, "it is on record again", d.confirmed(s.session))
}
