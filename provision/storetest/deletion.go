package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

// CreateDevices creates that many devices on the hub, in parallel.
func CreateDevices(ctx context.Context, s provision.Store, hub provision.Hub, n int) error {
	const goroutines = 64
	var wg sync.WaitGroup
	errs := make([]error, goroutines)
	for g := range goroutines {
		wg.Go(func() {
			for i := g; i < n && errs[g] == nil; i += goroutines {
				_, _, errs[g] = s.CreateDevice(ctx, NewCreation(hub, fmt.Sprintf("bulk-%06d", i)))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// testHubDeleted: a deletion that was cut short anywhere is finished by calling
// again, says so once, and leaves nothing but events.
func testHubDeleted(t *testing.T, f Fixture, o Options) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	neighbour := got(CreateHub(ctx, s))(t)
	_, _, err := s.CreateDevice(ctx, NewCreation(neighbour, "stays"))
	must(t, err)
	must(t, CreateDevices(ctx, s, hub, o.HubDevices))
	must(t, s.Learn(ctx, hub.ID, [][]byte{fakeDER("learned")}))

	cuts := 0
	for calls := 1; ; calls++ {
		// Each call is cut once it has removed some devices, the last is not.
		cut, cancel := context.WithCancel(ctx)
		left := got(s.CountDevices(ctx, hub.ID))(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			for calls <= 3 && cut.Err() == nil {
				if n, err := f.replica(t).CountDevices(cut, hub.ID); err == nil && n < left {
					cancel()
				}
			}
		})
		err := s.DeleteHub(cut, hub.ID, HubEvent(hub, "hub was deleted"))
		cancel()
		wg.Wait()
		if err == nil {
			break
		}
		cuts++
		wantErr(t, "deletion that was cut", err, context.Canceled)
		interrupted, err := s.Hub(ctx, hub.ID)
		if errors.Is(err, provision.ErrNotFound) {
			break // the cut came too late
		}
		must(t, err)
		wantEqual(t, "hub is being deleted", interrupted.Deleting, true)
		_, _, err = s.CreateDevice(ctx, NewCreation(interrupted, "too late"))
		wantErr(t, "creation with the version of the hub that is being deleted", err, provision.ErrHubChanged)
		_, err = updateHub(ctx, s, hub.ID, func(h *provision.Hub) error { h.Disabled = true; return nil })
		wantErr(t, "edit of a hub that is being deleted", err, provision.ErrHubChanged)
		if err := s.Learn(ctx, hub.ID, [][]byte{fakeDER("too late")}); !errors.Is(err, provision.ErrHubChanged) {
			t.Errorf("a hub that is being deleted learns: %v", err)
		}
	}
	if cuts == 0 {
		t.Log("no deletion was cut: more devices are needed for that on this machine")
	}

	_, err = s.Hub(ctx, hub.ID)
	wantErr(t, "deleted hub", err, provision.ErrNotFound)
	_, err = s.HubByName(ctx, hub.Name)
	wantErr(t, "deleted hub's name", err, provision.ErrNotFound)
	wantErr(t, "deleted again", s.DeleteHub(ctx, hub.ID, HubEvent(hub, "must not happen")), provision.ErrNotFound)
	wantNothingOf(t, s, hub.ID)
	_, err = s.Device(ctx, hub.ID, "bulk-000000")
	wantErr(t, "device of a deleted hub", err, provision.ErrNotFound)
	_, err = s.DeviceByID(ctx, hub.ID, provision.DeviceIDOf(hub.ID, "bulk-000000"))
	wantErr(t, "device of a deleted hub by ID", err, provision.ErrNotFound)

	events := messages(got(hubEvents(ctx, s, hub.ID))(t))
	wantEqual(t, "events that are kept", len(events), 1+o.HubDevices+1)
	wantEqual(t, "last event", events[len(events)-1], "hub was deleted")
	wantEqual(t, "devices of another hub", got(s.CountDevices(ctx, neighbour.ID))(t), 1)

	// The name is free, and so is the ID: nothing comes back with it.
	again := NewHub()
	again.ID, again.Name = hub.ID, hub.Name
	_, err = s.CreateHub(ctx, again, HubEvent(again, "hub was created"))
	must(t, err)
	wantNothingOf(t, s, hub.ID)
}

func wantNothingOf(t *testing.T, s Store, hub provision.HubID) {
	t.Helper()
	ctx := testContextOf(t)
	wantEqual(t, "devices counted", got(s.CountDevices(ctx, hub))(t), 0)
	wantEqual(t, "devices by name", len(got(allDevices(ctx, s, hub, provision.ByName, 100))(t)), 0)
	wantEqual(t, "devices by creation", len(got(allDevices(ctx, s, hub, provision.ByCreation, 100))(t)), 0)
	wantEqual(t, "learned intermediates", len(got(s.Learned(ctx, hub))(t)), 0)
}
