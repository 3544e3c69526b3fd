package events_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/events"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
)

// TestRetention: what every sink has goes soon, what one lacks stays until it is
// too old; what that costs the sink is counted, logged and told.
func TestRetention(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	store := openBolt(t, boltstore.Config{})
	good, bad := newReceiver(t), newReceiver(t)
	var well atomic.Bool
	bad.set(func(w http.ResponseWriter, _ *http.Request, _ provision.Event) bool {
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return !well.Load()
	})
	r := relay(t, store, func(c *events.Config) {
		c.Now = now
		c.Retention = events.Retention{MaxAge: time.Hour, Delivered: time.Minute, Every: 20 * time.Millisecond}
	}, good.sink(t, "good"), bad.sink(t, "bad"))
	s := newSource(t, store)
	p := s.hub.ID.Partition(store.Partitions())
	kept := func() int { return len(must(store.Events(t.Context(), p, 0, 1<<20))(t)) }
	s.make(300)
	good.has(s)
	ahead.Store(int64(30 * time.Minute)) // delivered to one, kept for the other
	s.make(1)
	good.has(s)
	if n := kept(); n != 301 {
		t.Errorf("%d events are kept for the sink that lacks them, want 301", n)
	}
	ahead.Store(int64(2 * time.Hour))
	eventually(t, "old events to go", func() bool { return kept() == 1 }) // the newest stays
	s.make(1, func(e *provision.Event) { e.Time = now() })
	well.Store(true)
	eventually(t, "the loss to be counted", func() bool { return r.metric("hubgate_events_lost_total", "webhook:bad") > 0 })
	// What it was being given arrives; the rest is counted.
	eventually(t, "the last event", func() bool {
		got := bad.of(s.hub.ID)
		return len(got) > 0 && got[len(got)-1].Message == "302"
	})
	lost := int(r.metric("hubgate_events_lost_total", "webhook:bad"))
	if n := len(bad.of(s.hub.ID)); n+lost != 302 || lost < 100 {
		t.Errorf("%d arrived and %d are counted as lost of 302", n, lost)
	}
	eventually(t, "the platform to be told", func() bool {
		for _, e := range good.of(provision.HubID{}) {
			if e.Reason == provision.ReasonEventsLost && e.Count == lost && strings.Contains(e.Message, "webhook:bad") {
				return true
			}
		}
		return false
	})
	if n := r.metric("hubgate_events_lost_total", "webhook:good"); n != 0 {
		t.Errorf("the good sink lost %v", n)
	}
	ahead.Store(int64(2*time.Hour + 2*time.Minute))
	eventually(t, "what everybody has to go", func() bool { return kept() == 1 })

	// A sink that is added begins with what is kept.
	r.stop()
	s.make(2)
	late := newReceiver(t)
	relay(t, store, nil, late.sink(t, "late"))
	eventually(t, "what is kept", func() bool { return len(late.of(s.hub.ID)) == 3 })
	equal(t, "at the late sink", messagesOf(late.of(s.hub.ID)), []string{"302", "303", "304"})
}
