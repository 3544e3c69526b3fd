package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// promptness is how soon a change has to be known everywhere.
const promptness = time.Second

// journal is a sink that remembers what it was told of one hub.
type journal struct {
	partition int
	hub       provision.HubID
	mu        sync.Mutex
	changes   []provision.Change
	fresh     []time.Time
	misplaced int // changes of the hub told of another partition
	lost      int // times that changes of the partition may be missing
}

func (j *journal) Changed(partition int, c provision.Change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c.Hub != j.hub {
		return
	}
	if partition != j.partition {
		j.misplaced++
	}
	j.changes = append(j.changes, c)
}

func (j *journal) Lost(partition int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if partition == j.partition {
		j.lost++
	}
}

func (j *journal) gaps() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lost
}

func (j *journal) Fresh(partition int, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if partition == j.partition {
		j.fresh = append(j.fresh, at)
	}
}

// state is up to when the journal is known to be complete, and what it held
// at that moment.
func (j *journal) state() (time.Time, []provision.Change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.fresh) == 0 {
		return time.Time{}, nil
	}
	return j.fresh[len(j.fresh)-1], slices.Clone(j.changes)
}

// watch follows the hub until the test ends, and returns once it is fresh.
func watch(t *testing.T, s Store, hub provision.HubID) *journal {
	t.Helper()
	j := &journal{partition: hub.Partition(s.Partitions()), hub: hub}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, j) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
	eventually(t, "the watch to begin", 10*promptness, func() bool {
		at, _ := j.state()
		return !at.IsZero()
	})
	return j
}

// eventually waits for what has to be so within the time.
func eventually(t *testing.T, what string, within time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", within, what)
		}
	}
}

func testWatch(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	d, _, err := s.CreateDevice(ctx, NewCreation(hub, "chip-1"))
	must(t, err)
	// One watches the handle that makes the changes, one another handle.
	journals := []*journal{watch(t, s, hub.ID), watch(t, f.replica(t), hub.ID)}

	of := func(kind provision.ChangeKind) provision.Change { return provision.Change{Kind: kind, Hub: hub.ID} }
	device := provision.Change{Kind: provision.DeviceChanged, Hub: hub.ID, Device: d.ID}
	must(t, s.Learn(ctx, hub.ID, [][]byte{fakeDER("line")})) // so that it is known below
	told := map[*journal]int{}
	for _, j := range journals {
		eventually(t, "what is to be known", promptness, func() bool { _, c := j.state(); return slices.Contains(c, of(provision.LearnedChanged)) })
		_, c := j.state()
		told[j] = len(c)
	}
	for _, step := range []struct {
		what string
		make func() error
		want []provision.Change
	}{
		{"creation of a device", func() error {
			_, _, err := s.CreateDevice(ctx, NewCreation(hub, "chip-2"))
			return err
		}, nil},
		{"first connection of a known device", func() error {
			_, _, err := s.CreateDevice(ctx, NewCreation(hub, "chip-2"))
			return err
		}, nil},
		{"learning what is known", func() error { return s.Learn(ctx, hub.ID, [][]byte{fakeDER("line")}) }, nil},
		{"an edit that was refused", func() error {
			refused := errors.New("refused")
			if _, err := updateHub(ctx, s, hub.ID, func(*provision.Hub) error { return refused }); !errors.Is(err, refused) {
				return err
			}
			return nil
		}, nil},
		{"learning", func() error { return s.Learn(ctx, hub.ID, [][]byte{fakeDER("new")}) }, []provision.Change{of(provision.LearnedChanged)}},
		{"edit of the device", func() error {
			_, err := updateDevice(ctx, s, d, func(d *provision.Device) error { d.Disabled = true; return nil })
			return err
		}, []provision.Change{device}},
		{"edit of the hub", func() error {
			hub, err = updateHub(ctx, s, hub.ID, func(h *provision.Hub) error { h.SNIOnly = true; return nil })
			return err
		}, []provision.Change{of(provision.HubChanged)}},
		{"deletion of the device", func() error { return deleteDevice(ctx, s, d) }, []provision.Change{device}},
	} {
		must(t, step.make())
		done := time.Now()
		for _, j := range journals {
			// Fresh after the change was acknowledged: then it has been told.
			var have []provision.Change
			eventually(t, "freshness after "+step.what, 3*promptness, func() bool {
				at, changes := j.state()
				have = changes
				return at.After(done)
			})
			if !slices.Equal(have[told[j]:], step.want) {
				t.Errorf("told of %s: %v, want %v", step.what, have[told[j]:], step.want)
			}
			told[j] = len(have)
		}
	}
	must(t, s.DeleteHub(ctx, hub.ID, HubEvent(hub, "hub was deleted")))
	for _, j := range journals {
		eventually(t, "the hub's deletion", promptness, func() bool {
			_, c := j.state()
			return slices.Contains(c[told[j]:], of(provision.HubChanged))
		})
		j.mu.Lock()
		wantEqual(t, "changes told of a wrong partition", j.misplaced, 0)
		j.mu.Unlock()
	}
}

// testWatchPrompt: a change by one handle is known to all within a second.
func testWatchPrompt(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	journals := []*journal{watch(t, s, hub.ID), watch(t, f.replica(t), hub.ID)}
	for i := range 3 {
		got(updateHub(ctx, f.replica(t), hub.ID, func(h *provision.Hub) error { h.Disabled = !h.Disabled; return nil }))(t)
		for _, j := range journals {
			eventually(t, "a change by another handle", promptness, func() bool { _, c := j.state(); return len(c) == i+1 })
		}
	}
}

// testWatchFresh: a store that is well says so all the time, of every
// partition, and never of a moment that is yet to come.
func testWatchFresh(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	j := watch(t, s, hub.ID)
	began, _ := j.state()
	eventually(t, "freshness to advance", 3*promptness, func() bool { at, _ := j.state(); return at.Sub(began) > 2*promptness })
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := 1; i < len(j.fresh); i++ {
		if gap := j.fresh[i].Sub(j.fresh[i-1]); gap < 0 || gap > promptness {
			t.Errorf("fresh advances by %s", gap)
		}
	}
	if last := j.fresh[len(j.fresh)-1]; last.After(time.Now()) {
		t.Errorf("fresh up to %s, which is yet to come", last)
	}

	// A watch ends with its context's own error, however that ended.
	late, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	wantErr(t, "watch whose deadline passed", s.Watch(late, &journal{}), context.DeadlineExceeded)
}
