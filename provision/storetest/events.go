package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

func testEvents(t *testing.T, f Fixture) {
	const writers, each = 6, 10
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	partition := hub.ID.Partition(s.Partitions())
	start := got(s.LastEvent(ctx, partition))(t)
	if start == 0 {
		t.Fatal("the hub's creation left no event")
	}
	handles := []Store{s, f.replica(t)}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				_, _, err := handles[w%2].CreateDevice(ctx, NewCreation(hub, fmt.Sprintf("chip-%d-%03d", w, i)))
				errs[w] = errors.Join(errs[w], err)
			}
		})
	}
	wg.Wait()
	must(t, errors.Join(errs...))

	last := got(f.replica(t).LastEvent(ctx, partition))(t)
	if last < start+writers*each {
		t.Fatalf("last event %d, want at least %d", last, start+writers*each)
	}
	all := got(s.Events(ctx, partition, start, 1<<20))(t)
	for i, e := range all {
		if e.Seq != start+1+uint64(i) {
			t.Fatalf("event %d after %d has seq %d", i, start, e.Seq)
		}
	}
	// In the order in which things happened, of one writer at least.
	for w := range writers {
		var have, want []string
		for _, e := range all {
			if e.Event.Hub == hub.ID && strings.HasPrefix(e.Event.ObjectName, fmt.Sprintf("chip-%d-", w)) {
				have = append(have, e.Event.ObjectName)
			}
		}
		for i := range each {
			want = append(want, fmt.Sprintf("chip-%d-%03d", w, i))
		}
		wantEqual(t, "events of one writer", have, want)
	}
	for _, limit := range []int{1, 7, len(all)} {
		wantEqual(t, fmt.Sprintf("the first %d events", limit), got(s.Events(ctx, partition, start, limit))(t), all[:limit])
	}
	wantEqual(t, "events after one in the middle", got(s.Events(ctx, partition, all[9].Seq, 5))(t), all[10:15])
	wantEqual(t, "events after the end", len(got(s.Events(ctx, partition, last+1_000_000, 5))(t)), 0)
	fromZero := got(s.Events(ctx, partition, 0, 1))(t)
	wantEqual(t, "number of events from the very start", len(fromZero), 1)
}

// testEventForm: every field of an event comes back as it was.
func testEventForm(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := NewHub()
	full := HubEvent(hub, "ünïcode, \"quotes\", <tags> & \u2028 \x00 control")
	full.Severity, full.Reason, full.Count = provision.SeverityError, "certificate_expired", 12_345
	full.SourceAddress, full.ObjectName = "2001:db8::1", "name with spaces"
	full.Time = time.Date(2026, 2, 28, 23, 59, 59, 123456789, time.UTC)
	_, err := s.CreateHub(ctx, hub, full)
	must(t, err)
	bare := provision.Event{ID: "x", Hub: hub.ID, Time: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)}
	_, err = s.UpdateHub(ctx, hub.ID, func(*provision.Hub) error { return nil }, func(h provision.Hub) provision.Event {
		if h.Version != 2 {
			t.Errorf("the event is made of version %d", h.Version)
		}
		return bare
	})
	must(t, err)
	wantEqual(t, "events", got(hubEvents(ctx, f.replica(t), hub.ID))(t), []provision.Event{full, bare})
}

// testEventsOfPartitions: a hub's events are in its own partition only.
func testEventsOfPartitions(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	for range 4 {
		hub := got(CreateHub(ctx, s))(t)
		own := hub.ID.Partition(s.Partitions())
		for p := range s.Partitions() {
			events := got(s.Events(ctx, p, 0, 1<<20))(t)
			found := slices.ContainsFunc(events, func(e provision.Stored) bool { return e.Event.Hub == hub.ID })
			if found != (p == own) {
				t.Errorf("hub of partition %d: event in partition %d: %t", own, p, found)
			}
		}
	}
}
