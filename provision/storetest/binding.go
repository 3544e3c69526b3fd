package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// newUnbound returns the creation of a device by an administrator.
func newUnbound(hub provision.Hub, name string) provision.Creation {
	c := NewCreation(hub, name)
	d := &c.Device
	d.FirstKey, d.CurrentKey, d.Anchor, d.Issuer = trust.KeyHash{}, trust.KeyHash{}, trust.KeyHash{}, trust.KeyHash{}
	d.ProvisionedFrom, d.Description = netip.Addr{}, "by hand"
	c.Event = DeviceEvent(*d, "device was created")
	return c
}

func newBinding(hub provision.Hub, name, key string) provision.Binding {
	hash := func(what string) trust.KeyHash { return sha256.Sum256([]byte(what)) }
	return provision.Binding{
		Hub: hub.ID, Device: provision.DeviceIDOf(hub.ID, name), HubVersion: hub.Version,
		Key: hash(key), Anchor: hash("anchor"), Issuer: hash("line"),
		From: netip.MustParseAddr("192.0.2.9"), At: time.Now().UTC().Round(0),
		Event: func(d provision.Device) provision.Event { return DeviceEvent(d, "device was bound") },
	}
}

func testBinding(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	c := newUnbound(hub, "chip-1")
	d, created, err := s.CreateDevice(ctx, c)
	must(t, err)
	wantEqual(t, "created", created, true)
	wantEqual(t, "device", d, c.Device)
	wantEqual(t, "bound", got(s.Device(ctx, hub.ID, d.Name))(t).Bound(), false)

	b := newBinding(hub, d.Name, "key one")
	want := d
	want.FirstKey, want.CurrentKey, want.Anchor, want.Issuer = b.Key, b.Key, b.Anchor, b.Issuer
	want.ProvisionedFrom, want.UpdatedAt, want.Version = b.From, b.At, 2
	wantEqual(t, "bound device", got(s.BindDevice(ctx, b))(t), want)
	wantEqual(t, "stored device", got(f.replica(t).Device(ctx, hub.ID, d.Name))(t), want)
	wantEqual(t, "bound again", got(f.replica(t).BindDevice(ctx, newBinding(hub, d.Name, "key two")))(t), want)
	wantEqual(t, "events", messages(got(hubEvents(ctx, s, hub.ID))(t)), []string{"hub was created", "device was created", "device was bound"})

	// Another certificate takes the place of the one that the decision was made
	// with, and of no other.
	other := newBinding(hub, d.Name, "key two")
	other.WasKey, other.WasAnchor = b.Key, b.Anchor
	other.Anchor, other.From = trust.KeyHash{7}, netip.MustParseAddr("192.0.2.10")
	want.CurrentKey, want.Anchor, want.Issuer, want.UpdatedAt, want.Version = other.Key, other.Anchor, other.Issuer, other.At, 3
	wantEqual(t, "device with another certificate", got(f.replica(t).BindDevice(ctx, other))(t), want)
	wantEqual(t, "devices by anchor", got(s.AnchorDevices(ctx, hub.ID))(t), map[trust.KeyHash]int{other.Anchor: 1})
	third := newBinding(hub, d.Name, "key three")
	third.WasKey, third.WasAnchor = b.Key, b.Anchor
	wantEqual(t, "bound by a decision of the past", got(s.BindDevice(ctx, third))(t), want)
	wantEqual(t, "stored device", got(s.Device(ctx, hub.ID, d.Name))(t), want)

	// A decision of the past binds nothing.
	_, _, err = s.CreateDevice(ctx, newUnbound(hub, "chip-2"))
	must(t, err)
	old := hub
	hub = got(updateHub(ctx, f.replica(t), hub.ID, func(h *provision.Hub) error { h.Anchors = nil; return nil }))(t)
	_, err = s.BindDevice(ctx, newBinding(old, "chip-2", "key"))
	wantErr(t, "bind to a hub that was", err, provision.ErrHubChanged)
	wantEqual(t, "bound", got(s.Device(ctx, hub.ID, "chip-2"))(t).Bound(), false)
	_, err = s.BindDevice(ctx, newBinding(hub, "chip-3", "key"))
	wantErr(t, "bind what is not there", err, provision.ErrNotFound)
	must(t, s.DeleteHub(ctx, hub.ID, HubEvent(hub, "hub was deleted")))
	if _, err = s.BindDevice(ctx, newBinding(hub, "chip-2", "key")); !errors.Is(err, provision.ErrHubChanged) && !errors.Is(err, provision.ErrNotFound) {
		t.Errorf("bind on a deleted hub: %v", err)
	}
}

// testBindingsRace: of many keys one binds, and all are told the same.
func testBindingsRace(t *testing.T, f Fixture) {
	const rounds, racers = 20, 16
	ctx := testContextOf(t)
	handles := []Store{f.Store, f.replica(t)}
	hub := got(CreateHub(ctx, f.Store))(t)
	for round := range rounds {
		name := fmt.Sprintf("chip-%d", round)
		_, _, err := f.Store.CreateDevice(ctx, newUnbound(hub, name))
		must(t, err)
		var wg sync.WaitGroup
		bound, errs := make([]provision.Device, racers), make([]error, racers)
		for r := range racers {
			wg.Go(func() {
				bound[r], errs[r] = handles[r%2].BindDevice(ctx, newBinding(hub, name, fmt.Sprint("key ", r)))
			})
		}
		wg.Wait()
		must(t, errors.Join(errs...))
		for _, d := range bound {
			wantEqual(t, "bound device", d, bound[0])
		}
		wantEqual(t, "version", bound[0].Version, uint64(2))
	}
	wantEqual(t, "events", len(got(hubEvents(ctx, f.Store, hub.ID))(t)), 1+2*rounds)
	wantEqual(t, "devices of the anchor", got(f.Store.AnchorDevices(ctx, hub.ID))(t),
		map[trust.KeyHash]int{sha256.Sum256([]byte("anchor")): rounds})
}

func testAnchorDevices(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub, other := got(CreateHub(ctx, s))(t), got(CreateHub(ctx, s))(t)
	a, b := trust.KeyHash{1}, trust.KeyHash{0xff, 0}
	counts := func(what string, want map[trust.KeyHash]int) {
		t.Helper()
		wantEqual(t, what, got(f.replica(t).AnchorDevices(ctx, hub.ID))(t), want)
	}
	counts("of an empty hub", map[trust.KeyHash]int{})
	create := func(hub provision.Hub, name string, anchor trust.KeyHash) provision.Device {
		t.Helper()
		c := NewCreation(hub, name)
		c.Device.Anchor = anchor
		d, _, err := s.CreateDevice(ctx, c)
		must(t, err)
		return d
	}
	one, two := create(hub, "one", a), create(hub, "two", a)
	create(hub, "three", b)
	create(hub, "three", a) // is there
	create(hub, "unbound", trust.KeyHash{})
	create(other, "one", a)
	counts("after creation", map[trust.KeyHash]int{a: 2, b: 1})
	_, err := updateDevice(ctx, s, one, func(d *provision.Device) error { d.Anchor = b; return nil })
	must(t, err)
	counts("after a device went over", map[trust.KeyHash]int{a: 1, b: 2})
	_, err = updateDevice(ctx, s, one, func(d *provision.Device) error { d.Disabled = true; return nil })
	must(t, err)
	counts("after another edit", map[trust.KeyHash]int{a: 1, b: 2})
	must(t, deleteDevice(ctx, s, two))
	counts("after the last of an anchor went", map[trust.KeyHash]int{b: 2})
	must(t, s.DeleteHub(ctx, hub.ID, HubEvent(hub, "hub was deleted")))
	counts("after the hub went", map[trust.KeyHash]int{})
	wantEqual(t, "of another hub", got(s.AnchorDevices(ctx, other.ID))(t), map[trust.KeyHash]int{a: 1})
}

// testAnchorDevicesRace: whatever races, the numbers are those of the devices.
func testAnchorDevicesRace(t *testing.T, f Fixture) {
	const workers, rounds, names, anchors = 8, 40, 12, 3
	ctx := testContextOf(t)
	handles := []Store{f.Store, f.replica(t)}
	hub := got(CreateHub(ctx, f.Store))(t)
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			s := handles[w%2]
			for i := range rounds {
				c := NewCreation(hub, fmt.Sprint("chip-", (w*7+i)%names))
				c.Device.Anchor = trust.KeyHash{byte(1 + i%anchors)}
				var err error
				switch (w + i) % 4 {
				case 0:
					_, _, err = s.CreateDevice(ctx, c)
				case 1:
					_, err = updateDevice(ctx, s, c.Device, func(d *provision.Device) error { d.Anchor = c.Device.Anchor; return nil })
				case 2:
					err = deleteDevice(ctx, s, c.Device)
				case 3:
					err = putAnchor(ctx, s, c.Device)
				}
				if err != nil && !errors.Is(err, provision.ErrNotFound) {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	want := make(map[trust.KeyHash]int)
	devices := got(allDevices(ctx, f.Store, hub.ID, provision.ByCreation, 100))(t)
	for _, d := range devices {
		want[d.Anchor]++
	}
	wantEqual(t, "devices by anchor", got(f.Store.AnchorDevices(ctx, hub.ID))(t), want)
}

// putAnchor creates the device, or gives it that anchor, as an import does.
func putAnchor(ctx context.Context, s Store, d provision.Device) error {
	results, err := s.PutDevices(ctx, d.Hub, []provision.Put{{
		Name: d.Name,
		Merge: func(is *provision.Device) (provision.Device, error) {
			if is == nil {
				return d, nil
			}
			after := *is
			after.Anchor = d.Anchor
			return after, nil
		},
		Event: func(_, d provision.Device) provision.Event { return DeviceEvent(d, "device was imported") },
	}})
	if err != nil {
		return err
	}
	return results[0].Err
}

func testEmptyHubDeleted(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	d, _, err := s.CreateDevice(ctx, NewCreation(hub, "chip-1"))
	must(t, err)
	gone := HubEvent(hub, "hub was deleted")
	wantErr(t, "with a device", s.DeleteEmptyHub(ctx, hub.ID, gone), provision.ErrNotEmpty)
	wantEqual(t, "hub", got(s.Hub(ctx, hub.ID))(t), hub)
	must(t, deleteDevice(ctx, f.replica(t), d))
	must(t, s.DeleteEmptyHub(ctx, hub.ID, gone))
	_, err = f.replica(t).Hub(ctx, hub.ID)
	wantErr(t, "hub after deletion", err, provision.ErrNotFound)
	wantErr(t, "deleted again", s.DeleteEmptyHub(ctx, hub.ID, gone), provision.ErrNotFound)
}

// testSilent: an event without an ID is none.
func testSilent(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	silent := got(s.UpdateHub(ctx, hub.ID, func(h *provision.Hub) error { h.UnicodeNames = true; return nil },
		func(provision.Hub) provision.Event { return provision.Event{} }))(t)
	wantEqual(t, "version", silent.Version, hub.Version+1)
	wantEqual(t, "hub", got(f.replica(t).Hub(ctx, hub.ID))(t), silent)
	wantEqual(t, "events", messages(got(hubEvents(ctx, s, hub.ID))(t)), []string{"hub was created"})
}

func testForget(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	one, two := fakeDER("one"), fakeDER("two")
	must(t, s.Learn(ctx, hub.ID, [][]byte{one, two}))
	wantEqual(t, "forgotten", got(f.replica(t).Forget(ctx, hub.ID, trust.FingerprintOfDER(one)))(t), true)
	wantEqual(t, "learned", got(s.Learned(ctx, hub.ID))(t), [][]byte{two})
	wantEqual(t, "forgotten again", got(s.Forget(ctx, hub.ID, trust.FingerprintOfDER(one)))(t), false)
	wantEqual(t, "forgotten of no hub", got(s.Forget(ctx, provision.NewHubID(), trust.FingerprintOfDER(two)))(t), false)
}
