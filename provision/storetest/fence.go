package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// storm is a crowd of creators on one hub. Each creates new names in a loop
// with the hub version that it read last, as a gate with a cache would. Half of
// them are stubborn: they never read again, and keep on trying with a version
// that is long gone.
type storm struct {
	t       *testing.T
	handles []Store
	hub     provision.HubID
	wg      sync.WaitGroup
	stop    atomic.Bool
	fence   atomic.Uint64 // the version acknowledged by now; older ones must fail

	mu        sync.Mutex
	versions  map[string]uint64 // acknowledged devices: the version they were decided with
	refusals  int
	breakdown error
}

const creators = 8

func startStorm(ctx context.Context, t *testing.T, f Fixture, hub provision.Hub, name string) *storm {
	s := &storm{t: t, handles: []Store{f.Store, f.replica(t)}, hub: hub.ID, versions: map[string]uint64{}}
	for c := range creators {
		s.wg.Go(func() { s.create(ctx, s.handles[c%2], hub, fmt.Sprintf("%s-%d", name, c), c%4 < 2) })
	}
	return s
}

func (s *storm) create(ctx context.Context, store Store, hub provision.Hub, prefix string, stubborn bool) {
	for i := 0; !s.stop.Load(); i++ {
		name := fmt.Sprintf("%s-%d", prefix, i)
		fence := s.fence.Load() // before the call: what is acknowledged by now
		_, created, err := store.CreateDevice(ctx, NewCreation(hub, name))
		switch {
		case errors.Is(err, provision.ErrHubChanged):
			s.refused()
			if !stubborn {
				if hub, err = store.Hub(ctx, s.hub); err != nil || hub.Disabled || hub.Deleting {
					return // decided anew: nothing gets in
				}
			}
		case err != nil || !created:
			s.broke(fmt.Errorf("create %s: %t, %w", name, created, err))
			return
		case hub.Version < fence:
			s.broke(fmt.Errorf("%s was created with version %d after version %d was acknowledged", name, hub.Version, fence))
			return
		default:
			s.acknowledged(name, hub.Version)
		}
	}
}

func (s *storm) refused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals++
}

func (s *storm) broke(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breakdown = errors.Join(s.breakdown, err)
}

func (s *storm) acknowledged(name string, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[name] = version
}

// end lets the creators try for some more time, then stops them.
func (s *storm) end(after time.Duration) {
	time.Sleep(after)
	s.stop.Store(true)
	s.wg.Wait()
	must(s.t, s.breakdown)
	if s.refusals == 0 {
		s.t.Error("no creation met the fence: the test shows nothing")
	}
}

// listed returns the names of the hub's devices.
func (s *storm) listed(ctx context.Context) []string {
	s.t.Helper()
	return sorted(listedNames(got(allDevices(ctx, s.handles[1], s.hub, provision.ByName, 1_000))(s.t)))
}

// testFenceDisable: what is listed when a disable is acknowledged is all there
// will be.
func testFenceDisable(t *testing.T, f Fixture, o Options) {
	ctx := testContextOf(t)
	for round := range o.Fences {
		hub := got(CreateHub(ctx, f.Store))(t)
		s := startStorm(ctx, t, f, hub, fmt.Sprint("chip-", round))
		time.Sleep(o.Storm)
		disabled := got(updateHub(ctx, f.Store, hub.ID, func(h *provision.Hub) error { h.Disabled = true; return nil }))(t)
		s.fence.Store(disabled.Version)
		acknowledged := s.listed(ctx)
		s.end(o.Storm)
		after := s.listed(ctx)
		wantSameNames(t, "devices long after the disable and right after it", after, acknowledged)
		wantSameNames(t, "devices that are there and that were acknowledged", after, slices.Sorted(maps.Keys(s.versions)))
		if len(after) == 0 {
			t.Error("nothing was created before the disable: the test shows nothing")
		}
		wantEqual(t, "events", len(got(hubEvents(ctx, f.Store, hub.ID))(t)), 1+len(after)+1)
	}
}

// testFenceAnchor: an anchor is removed while the hub goes on. Devices decided
// with it stop coming, those decided without it come.
func testFenceAnchor(t *testing.T, f Fixture, o Options) {
	ctx := testContextOf(t)
	for round := range o.Fences {
		hub := got(CreateHub(ctx, f.Store))(t)
		s := startStorm(ctx, t, f, hub, fmt.Sprint("chip-", round))
		time.Sleep(o.Storm)
		changed := got(updateHub(ctx, s.handles[1], hub.ID, func(h *provision.Hub) error { h.Anchors = h.Anchors[:1]; return nil }))(t)
		s.fence.Store(changed.Version)
		acknowledged := s.listed(ctx)
		s.end(o.Storm)
		after := s.listed(ctx)
		wantSameNames(t, "devices that are there and that were acknowledged", after, slices.Sorted(maps.Keys(s.versions)))
		old, young := 0, 0
		for name, version := range s.versions {
			if version == changed.Version {
				young++
				continue
			}
			old++
			if _, there := slices.BinarySearch(acknowledged, name); !there {
				t.Errorf("%s of version %d came after version %d was acknowledged", name, version, changed.Version)
			}
		}
		if old == 0 || young == 0 {
			t.Errorf("%d devices were created before the change and %d after: the test shows nothing", old, young)
		}
	}
}

// testFenceDeletion: when a hub's deletion is acknowledged nothing is left, and
// nothing comes.
func testFenceDeletion(t *testing.T, f Fixture, o Options) {
	ctx := testContextOf(t)
	for round := range o.Fences {
		hub := got(CreateHub(ctx, f.Store))(t)
		s := startStorm(ctx, t, f, hub, fmt.Sprint("chip-", round))
		time.Sleep(o.Storm)
		must(t, f.Store.DeleteHub(ctx, hub.ID, HubEvent(hub, "hub was deleted")))
		s.fence.Store(hub.Version + 1)
		wantNothingOf(t, f.Store, hub.ID)
		s.end(o.Storm)
		wantNothingOf(t, f.Store, hub.ID)
		_, err := f.Store.Hub(ctx, hub.ID)
		wantErr(t, "hub", err, provision.ErrNotFound)
		events := messages(got(hubEvents(ctx, f.Store, hub.ID))(t))
		wantEqual(t, "events", len(events), 1+len(s.versions)+1)
		wantEqual(t, "last event", events[len(events)-1], "hub was deleted")
	}
}

func wantSameNames(t *testing.T, what string, have, want []string) {
	t.Helper()
	if !slices.Equal(have, want) {
		t.Errorf("%s differ: %d and %d", what, len(have), len(want))
	}
}
