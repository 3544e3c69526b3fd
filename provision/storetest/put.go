package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

var errRefusedPut = errors.New("refused by its merge")

// makePut makes the device, or edits the one there is to its description.
func makePut(d provision.Device) provision.Put {
	return provision.Put{
		Name: d.Name,
		Merge: func(is *provision.Device) (provision.Device, error) {
			if is == nil {
				return d, nil
			}
			if is.Description == d.Description {
				return *is, provision.ErrUnchanged
			}
			is.Description, is.UpdatedAt = d.Description, d.UpdatedAt
			return *is, nil
		},
		Event: func(_, after provision.Device) provision.Event { return DeviceEvent(after, "device was changed") },
	}
}

func refusedPut(name string) provision.Put {
	return provision.Put{Name: name, Merge: func(*provision.Device) (provision.Device, error) { return provision.Device{}, errRefusedPut }}
}

func outcomes(results []provision.PutResult) []provision.PutOutcome {
	all := make([]provision.PutOutcome, len(results))
	for i, r := range results {
		all[i] = r.Outcome
	}
	return all
}

func testPut(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	j := watch(t, f.replica(t), hub.ID)
	_, _, err := s.CreateDevice(ctx, NewCreation(hub, "chip-known"))
	must(t, err)
	_, _, err = s.CreateDevice(ctx, NewCreation(hub, "chip-same"))
	must(t, err)

	fresh, banned := NewDevice(hub.ID, "chip-new"), NewDevice(hub.ID, "chip-banned")
	fresh.Version, fresh.Description = 9, "counted anew"
	banned.Disabled, banned.DisabledReason = true, "stolen"
	known, same := NewDevice(hub.ID, "chip-known"), NewDevice(hub.ID, "chip-same")
	known.Description = "edited"
	twice := NewDevice(hub.ID, "chip-new")
	twice.Description = "the same name, later"
	results, err := s.PutDevices(ctx, hub.ID, []provision.Put{
		makePut(fresh), makePut(known), makePut(same), refusedPut("chip-refused"), makePut(banned), makePut(twice),
	})
	must(t, err)
	wantEqual(t, "outcomes", outcomes(results), []provision.PutOutcome{
		provision.PutCreated, provision.PutUpdated, provision.PutUnchanged, provision.PutRefused, provision.PutCreated, provision.PutUpdated,
	})
	wantErr(t, "refused", results[3].Err, errRefusedPut)

	fresh.Version, fresh.Description = 2, twice.Description
	wantEqual(t, "new device", withoutTimes(got(s.Device(ctx, hub.ID, "chip-new"))(t)), withoutTimes(fresh))
	wantEqual(t, "disabled device", got(f.replica(t).DeviceByID(ctx, hub.ID, banned.ID))(t), banned)
	edited := got(s.Device(ctx, hub.ID, "chip-known"))(t)
	wantEqual(t, "edited device", []any{edited.Version, edited.Description, edited.FirstKey}, []any{uint64(2), "edited", known.FirstKey})
	_, err = s.Device(ctx, hub.ID, "chip-refused")
	wantErr(t, "refused device", err, provision.ErrNotFound)
	wantEqual(t, "count", got(s.CountDevices(ctx, hub.ID))(t), 4)
	wantEqual(t, "by creation", listedNames(got(allDevices(ctx, s, hub.ID, provision.ByCreation, 3))(t)),
		[]string{"chip-known", "chip-same", "chip-new", "chip-banned"})
	wantEqual(t, "by name", listedNames(got(allDevices(ctx, s, hub.ID, provision.ByName, 3))(t)),
		[]string{"chip-banned", "chip-known", "chip-new", "chip-same"})
	wantEqual(t, "events", messages(got(hubEvents(ctx, s, hub.ID))(t)), []string{
		"hub was created", "device was auto-provisioned", "device was auto-provisioned", "device was changed", "device was changed",
	})
	done := time.Now()
	var told []provision.Change
	eventually(t, "freshness after the edits", 3*promptness, func() bool {
		at, changes := j.state()
		told = changes
		return at.After(done)
	})
	wantEqual(t, "changes", told, []provision.Change{
		{Kind: provision.DeviceChanged, Hub: hub.ID, Device: known.ID},
		{Kind: provision.DeviceChanged, Hub: hub.ID, Device: fresh.ID},
	})
	wantEqual(t, "gaps", j.gaps(), 0)

	// What was put is deleted like any other.
	must(t, deleteDevice(ctx, s, fresh))
	wantEqual(t, "count after a deletion", got(s.CountDevices(ctx, hub.ID))(t), 3)

	results, err = s.PutDevices(ctx, hub.ID, nil)
	must(t, err)
	wantEqual(t, "nothing", len(results), 0)
	_, err = s.PutDevices(ctx, provision.NewHubID(), []provision.Put{makePut(NewDevice(hub.ID, "x"))})
	wantErr(t, "hub that is not there", err, provision.ErrHubChanged)
}

func withoutTimes(d provision.Device) provision.Device {
	d.CreatedAt, d.UpdatedAt = time.Time{}, time.Time{}
	return d
}

// testPutMany puts more than one step takes, from two replicas at once: each
// device is created once, and an edit never undoes another.
func testPutMany(t *testing.T, f Fixture) {
	const devices = 700
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	var wg sync.WaitGroup
	var created [2]int
	var errs [2]error
	for i, store := range []Store{s, f.replica(t)} {
		wg.Go(func() {
			var puts []provision.Put
			for n := range devices {
				p := makePut(NewDevice(hub.ID, fmt.Sprintf("chip-%04d", n)))
				p.Merge = func(is *provision.Device) (provision.Device, error) {
					if is == nil {
						d := NewDevice(hub.ID, p.Name)
						d.Description = "."
						return d, nil
					}
					is.Description += "."
					return *is, nil
				}
				puts = append(puts, p)
			}
			results, err := store.PutDevices(ctx, hub.ID, puts)
			errs[i] = err
			for _, r := range results {
				if r.Outcome == provision.PutCreated {
					created[i]++
				}
			}
		})
	}
	wg.Wait()
	must(t, errors.Join(errs[:]...))
	wantEqual(t, "created by both", created[0]+created[1], devices)
	wantEqual(t, "count", got(s.CountDevices(ctx, hub.ID))(t), devices)
	all := got(allDevices(ctx, s, hub.ID, provision.ByCreation, 1000))(t)
	wantEqual(t, "listed", len(all), devices)
	for _, d := range all {
		if d.Description != ".." || d.Version != 2 {
			t.Errorf("%s: version %d, %q", d.Name, d.Version, d.Description)
		}
	}
	wantEqual(t, "events", len(got(hubEvents(ctx, s, hub.ID))(t)), 1+devices)
}
