package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

func testDeviceCreated(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	first := NewCreation(hub, "chip-1")
	device, created, err := s.CreateDevice(ctx, first)
	must(t, err)
	wantEqual(t, "created", created, true)
	wantEqual(t, "device", device, first.Device)

	second := NewCreation(hub, "chip-1")
	second.Device.ProvisionedFrom = netip.MustParseAddr("2001:db8::1")
	second.Device.Description = "the second must not win"
	device, created, err = f.replica(t).CreateDevice(ctx, second)
	must(t, err)
	wantEqual(t, "created again", created, false)
	wantEqual(t, "device of the second creation", device, first.Device)

	wantEqual(t, "device by name", got(s.Device(ctx, hub.ID, "chip-1"))(t), first.Device)
	wantEqual(t, "device by ID", got(f.replica(t).DeviceByID(ctx, hub.ID, first.Device.ID))(t), first.Device)
	wantEqual(t, "devices", got(s.CountDevices(ctx, hub.ID))(t), 1)
	events := got(hubEvents(ctx, s, hub.ID))(t)
	wantEqual(t, "events", messages(events), []string{"hub was created", "device was auto-provisioned"})
	wantEqual(t, "event of the creation", events[1], first.Event)

	// The same name on another hub is another device.
	other := got(CreateHub(ctx, s))(t)
	_, created, err = s.CreateDevice(ctx, NewCreation(other, "chip-1"))
	must(t, err)
	wantEqual(t, "created on another hub", created, true)
}

func testDeviceNotFound(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub, other := got(CreateHub(ctx, s))(t), got(CreateHub(ctx, s))(t)
	d := NewDevice(hub.ID, "chip-1")
	_, _, err := s.CreateDevice(ctx, NewCreation(other, d.Name))
	must(t, err)

	_, err = s.Device(ctx, hub.ID, d.Name)
	wantErr(t, "by name", err, provision.ErrNotFound)
	_, err = s.DeviceByID(ctx, hub.ID, d.ID)
	wantErr(t, "by ID", err, provision.ErrNotFound)
	_, err = s.DeviceByID(ctx, hub.ID, provision.DeviceIDOf(other.ID, d.Name))
	wantErr(t, "by another hub's ID", err, provision.ErrNotFound)
	_, err = updateDevice(ctx, s, d, func(*provision.Device) error { return nil })
	wantErr(t, "update", err, provision.ErrNotFound)
	wantErr(t, "delete", deleteDevice(ctx, s, d), provision.ErrNotFound)
	for _, order := range []provision.Order{provision.ByName, provision.ByCreation} {
		wantEqual(t, "devices of an empty hub", len(got(allDevices(ctx, s, hub.ID, order, 10))(t)), 0)
	}
	wantEqual(t, "count of an empty hub", got(s.CountDevices(ctx, hub.ID))(t), 0)
}

// testStaleCreation: whatever happened to the hub since the decision, nothing
// is created, and no event says so. The fence comes first: even for a device
// that exists the decision has to be made again.
func testStaleCreation(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	refused := func(what string, hub provision.Hub) {
		t.Helper()
		before := len(got(hubEvents(ctx, s, hub.ID))(t))
		for _, name := range []string{"exists", "new"} {
			d, created, err := s.CreateDevice(ctx, NewCreation(hub, name))
			wantErr(t, what+", device "+name, err, provision.ErrHubChanged)
			if created || !d.ID.IsZero() {
				t.Errorf("%s, device %s: returned %v, %t", what, name, d, created)
			}
		}
		_, err := s.Device(ctx, hub.ID, "new")
		wantErr(t, what+": device", err, provision.ErrNotFound)
		wantEqual(t, what+": events", len(got(hubEvents(ctx, s, hub.ID))(t)), before)
	}
	hub := got(CreateHub(ctx, s))(t)
	_, _, err := s.CreateDevice(ctx, NewCreation(hub, "exists"))
	must(t, err)

	ahead := hub
	ahead.Version++
	refused("a version that is yet to come", ahead)
	old := hub
	hub = got(updateHub(ctx, f.replica(t), hub.ID, func(h *provision.Hub) error { h.Disabled = true; return nil }))(t)
	refused("hub was disabled", old)
	// The store compares versions only; whether the hub of this version lets
	// devices in is the decision's business.
	_, created, err := s.CreateDevice(ctx, NewCreation(hub, "decided with the current version"))
	must(t, err)
	wantEqual(t, "created with the current version", created, true)

	must(t, f.replica(t).DeleteHub(ctx, hub.ID, HubEvent(hub, "hub was deleted")))
	refused("hub was deleted", hub)
	refused("hub never was", NewHub())
	declared := NewHub()
	declared.Declared = "hubs.yaml"
	must(t, s.ClaimHub(ctx, declared))
	must(t, s.DeleteHub(ctx, declared.ID, HubEvent(declared, "hub was deleted")))
	refused("declared hub was deleted", declared)
}

func testDeviceUpdated(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	d, _, err := s.CreateDevice(ctx, NewCreation(hub, "chip-1"))
	must(t, err)
	want := d
	want.Version = 2
	want.Description = ""
	want.Disabled, want.AllowInsecure, want.AllowMultipleConnections = true, true, true
	want.Filters = &provision.Filters{
		Publish:   provision.Filter{Topics: []string{"a/+/b", "c/#"}},
		Subscribe: provision.Filter{Reject: true, Topics: []string{"secret/#"}},
	}
	want.CurrentKey, want.Issuer = trust.KeyHash{1}, trust.KeyHash{2}
	want.UpdatedAt = d.UpdatedAt.Add(time.Minute)
	updated := got(updateDevice(ctx, s, d, func(d *provision.Device) error {
		*d = want
		// What is not an administrator's to set stays.
		d.ID, d.Hub, d.Name, d.Version = provision.DeviceID{}, provision.NewHubID(), "renamed", 99
		return nil
	}))(t)
	wantEqual(t, "updated device", updated, want)
	wantEqual(t, "updated device by name", got(f.replica(t).Device(ctx, hub.ID, d.Name))(t), want)
	wantEqual(t, "updated device by ID", got(s.DeviceByID(ctx, hub.ID, d.ID))(t), want)

	refused := errors.New("refused by change")
	_, err = updateDevice(ctx, s, d, func(d *provision.Device) error { d.Disabled = false; return refused })
	wantErr(t, "update whose change fails", err, refused)
	wantEqual(t, "device after it", got(s.Device(ctx, hub.ID, d.Name))(t), want)
	events := got(hubEvents(ctx, s, hub.ID))(t)
	wantEqual(t, "events", messages(events), []string{"hub was created", "device was auto-provisioned", "device was changed"})
	wantEqual(t, "device that the event tells of", events[2].ObjectID, d.ID.String())
	wantEqual(t, "devices", got(s.CountDevices(ctx, hub.ID))(t), 1)
}

func testDeviceUpdatesConcurrent(t *testing.T, f Fixture) {
	const writers, each = 8, 5
	ctx := testContextOf(t)
	hub := got(CreateHub(ctx, f.Store))(t)
	d, _, err := f.Store.CreateDevice(ctx, NewCreation(hub, "chip-1"))
	must(t, err)
	handles := []Store{f.Store, f.replica(t)}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for range each {
				_, err := updateDevice(ctx, handles[w%2], d, func(d *provision.Device) error {
					d.Description += "x"
					return nil
				})
				errs[w] = errors.Join(errs[w], err)
			}
		})
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	after := got(f.Store.Device(ctx, hub.ID, d.Name))(t)
	wantEqual(t, "version", after.Version, uint64(1+writers*each))
	wantEqual(t, "description", after.Description, d.Description+strings.Repeat("x", writers*each))
	wantEqual(t, "events", len(got(hubEvents(ctx, f.Store, hub.ID))(t)), 2+writers*each)
}

func testDeviceDeleted(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	d, _, err := s.CreateDevice(ctx, NewCreation(hub, "chip-1"))
	must(t, err)
	_, _, err = s.CreateDevice(ctx, NewCreation(hub, "chip-2"))
	must(t, err)
	d = got(updateDevice(ctx, s, d, func(d *provision.Device) error { d.Disabled = true; return nil }))(t)

	var last provision.Device
	must(t, s.DeleteDevice(ctx, hub.ID, d.ID, func(d provision.Device) provision.Event {
		last = d
		return DeviceEvent(d, "device was deleted")
	}))
	wantEqual(t, "record that the event is made of", last, d)
	_, err = f.replica(t).Device(ctx, hub.ID, d.Name)
	wantErr(t, "by name", err, provision.ErrNotFound)
	_, err = s.DeviceByID(ctx, hub.ID, d.ID)
	wantErr(t, "by ID", err, provision.ErrNotFound)
	wantErr(t, "deleted again", deleteDevice(ctx, s, d), provision.ErrNotFound)
	wantEqual(t, "devices", got(s.CountDevices(ctx, hub.ID))(t), 1)
	for _, order := range []provision.Order{provision.ByName, provision.ByCreation} {
		wantEqual(t, "listed devices", listedNames(got(allDevices(ctx, s, hub.ID, order, 10))(t)), []string{"chip-2"})
	}

	// Deleting a device lets it provision again, as new and as the youngest.
	fresh := NewCreation(hub, "chip-1")
	again, created, err := s.CreateDevice(ctx, fresh)
	must(t, err)
	wantEqual(t, "created again", created, true)
	wantEqual(t, "device created again", again, fresh.Device)
	wantEqual(t, "by creation", listedNames(got(allDevices(ctx, s, hub.ID, provision.ByCreation, 10))(t)), []string{"chip-2", "chip-1"})
	wantEqual(t, "events", messages(got(hubEvents(ctx, s, hub.ID))(t)), []string{"hub was created",
		"device was auto-provisioned", "device was auto-provisioned", "device was changed", "device was deleted", "device was auto-provisioned"})
}

// testUnknownFields: a record written by a newer hubgate keeps what this one
// does not know of.
func testUnknownFields(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	unknown := protowire.AppendTag(nil, 900, protowire.BytesType)
	unknown = protowire.AppendString(unknown, "from the future")

	h := NewHub()
	h.Unknown = unknown
	hub := got(s.CreateHub(ctx, h, HubEvent(h, "hub was created")))(t)
	hub = got(updateHub(ctx, s, hub.ID, func(h *provision.Hub) error { h.Disabled = true; return nil }))(t)
	wantEqual(t, "unknown fields of the hub", got(s.Hub(ctx, hub.ID))(t).Unknown, unknown)

	c := NewCreation(hub, "chip-1")
	c.Device.Unknown = unknown
	d, _, err := s.CreateDevice(ctx, c)
	must(t, err)
	_, err = updateDevice(ctx, s, d, func(d *provision.Device) error { d.Disabled = true; return nil })
	must(t, err)
	d = got(s.Device(ctx, hub.ID, d.Name))(t)
	wantEqual(t, "unknown fields of the device", d.Unknown, unknown)
	wantEqual(t, "device disabled", d.Disabled, true)
}

func testNames(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	all := []string{
		strings.Repeat("a", 64), strings.Repeat("\U0001F4A1", 64), strings.Repeat("é", 64), "日本語のデバイス",
		"AA:BB:CC", "aa:bb:cc", "name", "name ", "name\x7f", "nam", hub.ID.String(),
	}
	for c := rune(0x20); c < 0x7f; c++ {
		all = append(all, string(c), "a"+string(c)+"b")
	}
	for _, name := range all {
		c := NewCreation(hub, name)
		d, created, err := s.CreateDevice(ctx, c)
		if err != nil || !created || d.Name != name {
			t.Fatalf("create %q: %v, %t, %v", name, d, created, err)
		}
	}
	for _, name := range all {
		wantEqual(t, "device by name", got(s.Device(ctx, hub.ID, name))(t).Name, name)
		wantEqual(t, "device by ID", got(s.DeviceByID(ctx, hub.ID, provision.DeviceIDOf(hub.ID, name)))(t).Name, name)
	}
	for _, limit := range []int{1, 7, 1_000} {
		wantEqual(t, fmt.Sprintf("by creation, pages of %d", limit),
			listedNames(got(allDevices(ctx, s, hub.ID, provision.ByCreation, limit))(t)), all)
		wantEqual(t, fmt.Sprintf("by name, pages of %d", limit),
			listedNames(got(allDevices(ctx, s, hub.ID, provision.ByName, limit))(t)), sorted(all))
	}
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, name := range all {
		wg.Go(func() { errs[i] = deleteDevice(ctx, s, NewDevice(hub.ID, name)) })
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	wantEqual(t, "devices", got(s.CountDevices(ctx, hub.ID))(t), 0)
}
