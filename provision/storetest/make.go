package storetest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// NewHub returns a hub with a random ID and name. Its anchors are no
// certificates: a store does not look into them.
func NewHub() provision.Hub {
	now := time.Now().UTC().Round(0)
	return provision.Hub{
		ID:               provision.NewHubID(),
		Name:             "hub-" + randomHex(12),
		AutoProvisioning: true,
		Anchors:          [][]byte{fakeDER("anchor one"), fakeDER("anchor two")},
		Intermediates:    [][]byte{fakeDER("line")},
		CreatedAt:        now,
		UpdatedAt:        now,
	}
}

// NewDevice returns a device as a first connection creates it.
func NewDevice(hub provision.HubID, name string) provision.Device {
	now := time.Now().UTC().Round(0)
	from := netip.MustParseAddr("192.0.2.7")
	key := trust.KeyHash(sha256.Sum256([]byte(name)))
	return provision.Device{
		ID:              provision.DeviceIDOf(hub, name),
		Hub:             hub,
		Name:            name,
		Description:     provision.ProvisionedBy(from),
		Version:         1,
		FirstKey:        key,
		CurrentKey:      key,
		Anchor:          trust.KeyHash(sha256.Sum256(fakeDER("anchor one"))),
		Issuer:          trust.KeyHash(sha256.Sum256(fakeDER("line"))),
		ProvisionedFrom: from,
		CreatedAt:       now,
		UpdatedAt:       now,
	}
}

// NewCreation returns the first connection of a device to the hub as it is.
func NewCreation(hub provision.Hub, name string) provision.Creation {
	d := NewDevice(hub.ID, name)
	return provision.Creation{Device: d, HubVersion: hub.Version, Event: DeviceEvent(d, "device was auto-provisioned")}
}

// DeviceEvent returns an event about the device.
func DeviceEvent(d provision.Device, message string) provision.Event {
	e := newEvent(d.Hub, message)
	e.ObjectType, e.ObjectID, e.ObjectName = provision.ObjectDevice, d.ID.String(), d.Name
	return e
}

// HubEvent returns an event about the hub.
func HubEvent(h provision.Hub, message string) provision.Event {
	e := newEvent(h.ID, message)
	e.ObjectType, e.ObjectID, e.ObjectName = provision.ObjectHub, h.ID.String(), h.Name
	return e
}

func newEvent(hub provision.HubID, message string) provision.Event {
	return provision.Event{
		ID:            uuid.NewString(),
		SpecVersion:   "1.0",
		Time:          time.Now().UTC().Round(0),
		Severity:      provision.SeverityInfo,
		Hub:           hub,
		Message:       message,
		Reason:        "storetest",
		SourceAddress: "192.0.2.7",
		Decision:      uuid.NewString(),
		Count:         1,
	}
}

// CreateHub stores a new hub, fit to create devices on.
func CreateHub(ctx context.Context, s Store) (provision.Hub, error) {
	h := NewHub()
	return s.CreateHub(ctx, h, HubEvent(h, "hub was created"))
}

// updateHub edits the hub, telling of it as an administrator would.
func updateHub(ctx context.Context, s Store, id provision.HubID, change func(*provision.Hub) error) (provision.Hub, error) {
	return s.UpdateHub(ctx, id, change, func(h provision.Hub) provision.Event { return HubEvent(h, "hub was changed") })
}

// updateDevice edits the device, telling of it as an administrator would.
func updateDevice(ctx context.Context, s Store, d provision.Device, change func(*provision.Device) error) (provision.Device, error) {
	return s.UpdateDevice(ctx, provision.Update{Hub: d.Hub, Device: d.ID, Change: change,
		Event: func(d provision.Device) provision.Event { return DeviceEvent(d, "device was changed") }})
}

// deleteDevice removes the device, telling of it as an administrator would.
func deleteDevice(ctx context.Context, s Store, d provision.Device) error {
	return s.DeleteDevice(ctx, d.Hub, d.ID, func(d provision.Device) provision.Event { return DeviceEvent(d, "device was deleted") })
}

// allDevices lists the hub's devices page by page.
func allDevices(ctx context.Context, s Store, hub provision.HubID, order provision.Order, limit int) ([]provision.Device, error) {
	var all []provision.Device
	for cursor := ""; ; {
		page, next, err := s.Devices(ctx, hub, order, cursor, limit)
		if err != nil {
			return nil, err
		}
		if len(page) > limit {
			return nil, fmt.Errorf("a page of %d devices, limit %d", len(page), limit)
		}
		all = append(all, page...)
		if next == "" {
			return all, nil
		}
		if next == cursor {
			return nil, fmt.Errorf("cursor %q leads to itself", cursor)
		}
		cursor = next
	}
}

// hubEvents returns the hub's events, oldest first, out of its partition's.
func hubEvents(ctx context.Context, s Store, hub provision.HubID) ([]provision.Event, error) {
	const page = 1_000
	var all []provision.Event
	for after := uint64(0); ; {
		events, err := s.Events(ctx, hub.Partition(s.Partitions()), after, page)
		if err != nil || len(events) == 0 {
			return all, err
		}
		for _, e := range events {
			if e.Event.Hub == hub {
				all = append(all, e.Event)
			}
		}
		after = events[len(events)-1].Seq
	}
}

func messages(events []provision.Event) []string {
	texts := make([]string, len(events))
	for i, e := range events {
		texts[i] = e.Message
	}
	return texts
}

func fakeDER(what string) []byte {
	sum := sha256.Sum256([]byte(what))
	der := []byte{0x30, 0x82, 0x01, 0x00}
	for range 8 {
		der = append(der, sum[:]...)
	}
	return der
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func listedNames(devices []provision.Device) []string {
	all := make([]string, len(devices))
	for i, d := range devices {
		all[i] = d.Name
	}
	return all
}

func sorted(names []string) []string {
	return slices.Sorted(slices.Values(names))
}
