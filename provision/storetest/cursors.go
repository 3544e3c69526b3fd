package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

const (
	// longLease outlives every test.
	longLease = time.Hour
	// shortLease is over soon.
	shortLease = 100 * time.Millisecond
)

func testEventsAppended(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	partition := hub.ID.Partition(s.Partitions())
	const writers, each, batch = 4, 8, 3
	handles := []Store{s, f.replica(t)}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				var events []provision.Event
				for j := range batch {
					e := HubEvent(hub, fmt.Sprintf("%d-%d", w, i*batch+j))
					events = append(events, e)
				}
				errs[w] = errors.Join(errs[w], handles[w%2].AppendEvents(ctx, partition, events),
					handles[w%2].AppendEvents(ctx, partition, nil))
			}
		})
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	texts := messages(got(hubEvents(ctx, f.replica(t), hub.ID))(t))
	next := make([]int, writers)
	for _, text := range texts[1:] { // after the hub's creation
		var w, n int
		if _, err := fmt.Sscanf(text, "%d-%d", &w, &n); err != nil || n != next[w] {
			t.Fatalf("event %q, want number %d of its writer", text, next[w])
		}
		next[w]++
	}
	wantEqual(t, "number of events", len(texts), 1+writers*each*batch)
	last := got(s.LastEvent(ctx, partition))(t)
	heads := got(s.LastEvents(ctx))(t)
	wantEqual(t, "partitions with a last event", len(heads), s.Partitions())
	if heads[partition] < last {
		t.Errorf("last event %d of all, %d of its partition before", heads[partition], last)
	}
}

// ownCursor returns a sink and partition that no other test uses.
func ownCursor(s Store) (string, int) {
	return "sink-" + randomHex(8), provision.NewHubID().Partition(s.Partitions())
}

func testCursorOwner(t *testing.T, f Fixture) {
	ctx, s, other := testContextOf(t), f.Store, f.replica(t)
	sink, p := ownCursor(s)
	wantEqual(t, "cursors before any", got(s.ReadCursors(ctx, p, []string{sink, sink + "2"}))(t), []provision.Cursor{{New: true}, {New: true}})
	first := got(s.ClaimCursor(ctx, sink, p, "one", longLease))(t)
	if !first.New || first.Seq != 0 {
		t.Errorf("the first claim found %+v", first)
	}
	_, err := other.ClaimCursor(ctx, sink, p, "two", longLease)
	var held *provision.HeldError
	if !errors.As(err, &held) || held.For <= 0 || held.For > longLease {
		t.Errorf("claim of what is held: %v", err)
	}
	wantErr(t, "claim of what is held", err, provision.ErrNotOwner)
	wantEqual(t, "claim of one's own", got(s.ClaimCursor(ctx, sink, p, "one", longLease))(t), first)
	// Other sinks and partitions are nobody's.
	got(other.ClaimCursor(ctx, sink, (p+1)%s.Partitions(), "two", longLease))(t)
	got(other.ClaimCursor(ctx, sink+"2", p, "two", longLease))(t)

	moved := first
	moved.New, moved.Seq = false, 7
	must(t, s.SaveCursor(ctx, sink, p, "one", moved, longLease))
	must(t, s.SaveCursor(ctx, sink, p, "one", first, longLease)) // renews alone
	back := moved
	back.Seq = 3
	must(t, s.SaveCursor(ctx, sink, p, "one", back, longLease))
	wantEqual(t, "cursors", got(other.ReadCursors(ctx, p, []string{sink + "2", sink}))(t), []provision.Cursor{{New: true}, {Seq: 7}})
	wantEqual(t, "claim of one's own", got(s.ClaimCursor(ctx, sink, p, "one", longLease))(t), moved)

	// What was let go is free at once, and goes on where it was.
	must(t, s.SaveCursor(ctx, sink, p, "one", moved, 0))
	second := got(other.ClaimCursor(ctx, sink, p, "two", longLease))(t)
	if second.Seq != 7 || second.New || second.Fence <= first.Fence {
		t.Errorf("the next owner found %+v after %+v", second, moved)
	}
}

func testCursorFence(t *testing.T, f Fixture) {
	ctx, s, other := testContextOf(t), f.Store, f.replica(t)
	sink, p := ownCursor(s)
	first := got(s.ClaimCursor(ctx, sink, p, "one", shortLease))(t)
	var second provision.Cursor
	eventually(t, "the lease to end", 10*time.Second, func() bool {
		var err error
		second, err = other.ClaimCursor(ctx, sink, p, "two", longLease)
		if err != nil && !errors.Is(err, provision.ErrNotOwner) {
			t.Fatal(err)
		}
		return err == nil
	})
	second.New, second.Seq = false, 5
	must(t, other.SaveCursor(ctx, sink, p, "two", second, longLease))
	// The first owner wakes up: nothing that it does counts.
	first.New, first.Seq = false, 100
	wantErr(t, "move by an owner of the past", s.SaveCursor(ctx, sink, p, "one", first, longLease), provision.ErrNotOwner)
	wantErr(t, "release by an owner of the past", s.SaveCursor(ctx, sink, p, "one", first, 0), provision.ErrNotOwner)
	wantErr(t, "trim by an owner of the past", s.TrimEvents(ctx, sink, p, first.Fence, 1<<40), provision.ErrNotOwner)
	_, err := s.ClaimCursor(ctx, sink, p, "one", longLease)
	wantErr(t, "claim of what was taken", err, provision.ErrNotOwner)
	wantEqual(t, "cursors", got(s.ReadCursors(ctx, p, []string{sink}))(t), []provision.Cursor{{Seq: 5}})

	// A lease that is over, but that nobody has taken, is as good as new.
	must(t, other.SaveCursor(ctx, sink, p, "two", second, time.Millisecond))
	time.Sleep(10 * time.Millisecond)
	second.Seq = 6
	must(t, other.SaveCursor(ctx, sink, p, "two", second, longLease))
	_, err = s.ClaimCursor(ctx, sink, p, "one", longLease)
	wantErr(t, "claim of what was renewed", err, provision.ErrNotOwner)
}

// testCursorRace: of many that claim at once, one gets it, each time.
func testCursorRace(t *testing.T, f Fixture) {
	const claimants, rounds = 8, 5
	ctx, handles := testContextOf(t), []Store{f.Store, f.replica(t)}
	sink, p := ownCursor(f.Store)
	fences := map[uint64]bool{}
	for round := range rounds {
		cursors, errs := make([]provision.Cursor, claimants), make([]error, claimants)
		var wg sync.WaitGroup
		for i := range claimants {
			wg.Go(func() {
				cursors[i], errs[i] = handles[i%2].ClaimCursor(ctx, sink, p, fmt.Sprintf("%d-%d", round, i), longLease)
			})
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				t.Fatalf("round %d: %d and %d both own the cursor", round, won, i)
			case err == nil:
				won = i
			case !errors.Is(err, provision.ErrNotOwner):
				t.Fatal(err)
			}
		}
		if won < 0 || fences[cursors[won].Fence] {
			t.Fatalf("round %d: owner %d, cursors %+v", round, won, cursors)
		}
		fences[cursors[won].Fence] = true
		must(t, handles[won%2].SaveCursor(ctx, sink, p, fmt.Sprintf("%d-%d", round, won), cursors[won], 0))
	}
}

// Trim tests what removes events. The store has to be the test's own.
func Trim(t *testing.T, s Store) {
	ctx := context.WithoutCancel(testContextOf(t))
	hub := got(CreateHub(ctx, s))(t)
	const events = 2_500
	batch := make([]provision.Event, events)
	for i := range batch {
		batch[i] = HubEvent(hub, fmt.Sprint(i+2))
	}
	p := hub.ID.Partition(s.Partitions())
	must(t, s.AppendEvents(ctx, p, batch))
	c := got(s.ClaimCursor(ctx, "retention", p, "one", longLease))(t)
	first := func() uint64 { return got(s.Events(ctx, p, 0, 1))(t)[0].Seq }
	for _, step := range []struct{ until, first uint64 }{{0, 1}, {1, 2}, {1, 2}, {2_200, 2_201}, {7, 2_201}, {1 << 40, events + 1}} {
		must(t, s.TrimEvents(ctx, "retention", p, c.Fence, step.until))
		if got := first(); got != step.first {
			t.Errorf("trimmed up to %d, the first event is %d, want %d", step.until, got, step.first)
		}
	}
	// The newest stays, and numbers go on.
	must(t, s.AppendEvents(ctx, p, batch[:1]))
	wantEqual(t, "last event", got(s.LastEvent(ctx, p))(t), uint64(events+2))
	wantErr(t, "trim with a wrong fence", s.TrimEvents(ctx, "retention", p, c.Fence+1, 1<<40), provision.ErrNotOwner)
}
