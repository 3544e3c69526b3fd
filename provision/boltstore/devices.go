package boltstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// Device returns the device of that name.
func (s *Store) Device(ctx context.Context, hub provision.HubID, name string) (device provision.Device, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		device, err = readDevice(tx, hub, name)
		return err
	})
	return device, err
}

// DeviceByID returns the device of that ID.
func (s *Store) DeviceByID(ctx context.Context, hub provision.HubID, id provision.DeviceID) (provision.Device, error) {
	device, _, err := s.readDeviceByID(ctx, hub, id)
	return device, err
}

func readDevice(tx *bbolt.Tx, hub provision.HubID, name string) (provision.Device, error) {
	b := tx.Bucket(bucketDevices).Get(deviceKey(hub, name))
	if b == nil {
		return provision.Device{}, fmt.Errorf("device %q: %w", name, provision.ErrNotFound)
	}
	return record.DecodeDevice(hub, b)
}

// readDeviceByID returns the device's record and its stored bytes.
func (s *Store) readDeviceByID(ctx context.Context, hub provision.HubID, id provision.DeviceID) (device provision.Device, stored []byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		v := tx.Bucket(bucketIDs).Get(idKey(hub, id))
		if v == nil {
			return fmt.Errorf("device %s: %w", id, provision.ErrNotFound)
		}
		_, name, err := parseIDValue(v)
		if err != nil {
			return err
		}
		stored = bytes.Clone(tx.Bucket(bucketDevices).Get(deviceKey(hub, name)))
		device, err = record.DecodeDevice(hub, stored)
		return err
	})
	return device, stored, err
}

// CreateDevice creates the device, its indexes and its event, or finds the one
// that exists.
func (s *Store) CreateDevice(ctx context.Context, c provision.Creation) (provision.Device, bool, error) {
	d := c.Device
	if len(d.Name) < 1 || len(d.Name) > maxNameBytes {
		return provision.Device{}, false, fmt.Errorf("device name of %d bytes", len(d.Name))
	}
	if s.Replaced() {
		return provision.Device{}, false, fmt.Errorf("%s: %w", s.path, provision.ErrStoreChanged)
	}
	d.ID, d.Version = provision.DeviceIDOf(d.Hub, d.Name), 1
	stored, event, err := encodeDeviceAndEvent(d, c.Event)
	if err != nil {
		return provision.Device{}, false, err
	}
	partition := d.Hub.Partition(s.meta.partitions)
	key := deviceKey(d.Hub, d.Name)
	var existing []byte
	err = s.write(ctx, func(t *txn) error {
		hub, err := t.hub(partition, d.Hub)
		if err != nil {
			return err
		}
		if !hub.exists || hub.deleting || hub.version != c.HubVersion {
			return fmt.Errorf("hub %s: %w", d.Hub, provision.ErrHubChanged)
		}
		if existing = bytes.Clone(t.get(bucketDevices, key)); existing != nil {
			return nil
		}
		if err := t.mayCreate(hub, c); err != nil || c.DryRun {
			return err
		}
		if c.Claim != provision.NoClaims {
			t.put(bucketClaims, claimKey(d.Hub, d.Name), claimUsed)
		}
		t.addDevice(hub, d, stored)
		t.appendEvent(partition, event)
		return nil
	})
	if err != nil {
		return provision.Device{}, false, err
	}
	if existing != nil {
		d, err = record.DecodeDevice(d.Hub, existing)
		return d, false, err
	}
	return d, true, nil
}

// mayCreate refuses a first connection for the hub's sake. The token comes last,
// as one that is refused takes none.
func (t *txn) mayCreate(hub *hubState, c provision.Creation) error {
	if c.Claim != provision.NoClaims {
		if err := t.checkClaim(c.Device.Hub, c.Device.Name, c.Claim); err != nil {
			return err
		}
	}
	if n := hub.counters.devices; c.MaxDevices > 0 && n >= uint64(c.MaxDevices) {
		return fmt.Errorf("%w: %d of %d", provision.ErrQuota, n, c.MaxDevices)
	}
	if c.PerSecond > 0 && !c.DryRun {
		return t.store.rates.take(c.Device.Hub, c.PerSecond)
	}
	return nil
}

// addDevice stores a new device with its indexes.
func (t *txn) addDevice(hub *hubState, d provision.Device, stored []byte) {
	hub.counters.devices++
	hub.counters.created++
	hub.counted = true
	hub.countAnchor(d.Anchor, 1)
	t.put(bucketDevices, deviceKey(d.Hub, d.Name), stored)
	t.put(bucketIDs, idKey(d.Hub, d.ID), idValue(hub.counters.created, d.Name))
	t.put(bucketCreated, createdKey(d.Hub, hub.counters.created), []byte(d.Name))
}

// UpdateDevice edits the record.
func (s *Store) UpdateDevice(ctx context.Context, u provision.Update) (provision.Device, error) {
	for {
		device, err := s.tryUpdateDevice(ctx, u)
		if !errors.Is(err, errConflict) {
			return device, err
		}
	}
}

func (s *Store) tryUpdateDevice(ctx context.Context, u provision.Update) (provision.Device, error) {
	device, before, err := s.readDeviceByID(ctx, u.Hub, u.Device)
	if err != nil {
		return provision.Device{}, err
	}
	old := device
	if err := u.Change(&device); err != nil {
		return provision.Device{}, err
	}
	device.ID, device.Hub, device.Name, device.Version = old.ID, old.Hub, old.Name, old.Version+1
	stored, event, err := encodeDeviceAndEvent(device, u.Event(device))
	if err != nil {
		return provision.Device{}, err
	}
	err = s.write(ctx, func(t *txn) error {
		key := deviceKey(u.Hub, device.Name)
		if !bytes.Equal(t.get(bucketDevices, key), before) {
			return errConflict
		}
		return t.replaceDevice(old, device, stored, event)
	})
	if err != nil {
		return provision.Device{}, err
	}
	return device, nil
}

// replaceDevice puts an edited record in the place of what there is.
func (t *txn) replaceDevice(old, device provision.Device, stored, event []byte) error {
	if old.Anchor != device.Anchor {
		hub, err := t.hub(device.Hub.Partition(t.store.meta.partitions), device.Hub)
		if err != nil {
			return err
		}
		hub.countAnchor(old.Anchor, -1)
		hub.countAnchor(device.Anchor, 1)
	}
	t.put(bucketDevices, deviceKey(device.Hub, device.Name), stored)
	t.tellOfDevice(device, event)
	return nil
}

// BindDevice binds a device at its first accepted connection.
func (s *Store) BindDevice(ctx context.Context, b provision.Binding) (provision.Device, error) {
	for {
		device, err := s.tryBindDevice(ctx, b)
		if !errors.Is(err, errConflict) {
			return device, err
		}
	}
}

func (s *Store) tryBindDevice(ctx context.Context, b provision.Binding) (provision.Device, error) {
	device, before, err := s.readDeviceByID(ctx, b.Hub, b.Device)
	if err != nil {
		return provision.Device{}, err
	}
	old := device
	if !b.Apply(&device) {
		return device, nil
	}
	device.Version++
	stored, event, err := encodeDeviceAndEvent(device, b.Event(device))
	if err != nil {
		return provision.Device{}, err
	}
	partition := b.Hub.Partition(s.meta.partitions)
	err = s.write(ctx, func(t *txn) error {
		hub, err := t.hub(partition, b.Hub)
		if err != nil {
			return err
		}
		if !hub.exists || hub.deleting || hub.version != b.HubVersion {
			return fmt.Errorf("hub %s: %w", b.Hub, provision.ErrHubChanged)
		}
		if !bytes.Equal(t.get(bucketDevices, deviceKey(b.Hub, device.Name)), before) {
			return errConflict
		}
		return t.replaceDevice(old, device, stored, event)
	})
	if err != nil {
		return provision.Device{}, err
	}
	return device, nil
}

// DeleteDevice removes the device and its indexes.
func (s *Store) DeleteDevice(ctx context.Context, hub provision.HubID, id provision.DeviceID, event func(provision.Device) provision.Event) error {
	for {
		if err := s.tryDeleteDevice(ctx, hub, id, event); !errors.Is(err, errConflict) {
			return err
		}
	}
}

func (s *Store) tryDeleteDevice(ctx context.Context, hub provision.HubID, id provision.DeviceID, event func(provision.Device) provision.Event) error {
	device, before, err := s.readDeviceByID(ctx, hub, id)
	if err != nil {
		return err
	}
	encoded, err := encodeEvent(event(device))
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *txn) error {
		if !bytes.Equal(t.get(bucketDevices, deviceKey(hub, device.Name)), before) {
			return errConflict
		}
		if err := t.removeDevice(hub, device.Name); err != nil {
			return err
		}
		t.tellOfDevice(device, encoded)
		return nil
	})
}

// removeDevice takes the device out of everything but the outbox.
func (t *txn) removeDevice(hub provision.HubID, name string) error {
	state, err := t.hub(hub.Partition(t.store.meta.partitions), hub)
	if err != nil {
		return err
	}
	id := idKey(hub, provision.DeviceIDOf(hub, name))
	number, _, err := parseIDValue(t.get(bucketIDs, id))
	if err != nil {
		return fmt.Errorf("device %q of hub %s: %w", name, hub, err)
	}
	device, err := record.DecodeDevice(hub, t.get(bucketDevices, deviceKey(hub, name)))
	if err != nil {
		return err
	}
	state.countAnchor(device.Anchor, -1)
	t.delete(bucketDevices, deviceKey(hub, name))
	t.delete(bucketIDs, id)
	t.delete(bucketCreated, createdKey(hub, number))
	state.counters.devices--
	state.counted = true
	return nil
}

func (t *txn) tellOfDevice(d provision.Device, event []byte) {
	partition := d.Hub.Partition(t.store.meta.partitions)
	t.appendEvent(partition, event)
	t.changed(partition, provision.Change{Kind: provision.DeviceChanged, Hub: d.Hub, Device: d.ID})
}

// CountDevices returns how many devices the hub has.
func (s *Store) CountDevices(ctx context.Context, hub provision.HubID) (n int, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		c, err := parseCounters(tx.Bucket(bucketCounters).Get(hub.UUID[:]))
		n = int(c.devices)
		return err
	})
	return n, err
}

// AnchorDevices returns how many devices each anchor admitted last.
func (s *Store) AnchorDevices(ctx context.Context, hub provision.HubID) (map[trust.KeyHash]int, error) {
	counts := make(map[trust.KeyHash]int)
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return scan(tx.Bucket(bucketAnchors), hub.UUID[:], nil, func(anchor, v []byte) (bool, error) {
			n, err := parseNumber(v)
			if err != nil || len(anchor) != len(trust.KeyHash{}) {
				return false, errors.Join(err, fmt.Errorf("hub %s: count of anchor %x", hub, anchor))
			}
			counts[trust.KeyHash(anchor)] = int(n)
			return true, nil
		})
	})
	return counts, err
}

// Devices returns one page of the hub's devices.
func (s *Store) Devices(ctx context.Context, hub provision.HubID, order provision.Order, cursor string, limit int) ([]provision.Device, string, error) {
	listed, next, err := s.ListDevices(ctx, hub, provision.DeviceList{Order: order, Cursor: cursor, Limit: limit})
	devices := make([]provision.Device, len(listed))
	for i, l := range listed {
		devices[i] = l.Device
	}
	return devices, next, err
}

// ListDevices returns one page of the hub's devices. A cursor is the last key of
// what comes before it.
func (s *Store) ListDevices(ctx context.Context, hub provision.HubID, l provision.DeviceList) (page []provision.Listed, next string, err error) {
	if l.Limit < 1 {
		return nil, "", fmt.Errorf("page of %d devices", l.Limit)
	}
	after, err := parseCursor(l.Order, l.Cursor)
	if err != nil {
		return nil, "", err
	}
	bucket := bucketDevices
	if l.Order == provision.ByCreation {
		bucket = bucketCreated
		if l.Prefix != "" {
			return nil, "", errors.New("a prefix in the order of creation")
		}
	} else if string(after) < l.Prefix {
		after = []byte(l.Prefix)
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		return scan(tx.Bucket(bucket), hub.UUID[:], after, func(rest, v []byte) (bool, error) {
			if !bytes.HasPrefix(rest, []byte(l.Prefix)) {
				return false, nil
			}
			if len(page) == l.Limit {
				next = page[l.Limit-1].After
				return false, nil
			}
			device, err := readDeviceOf(tx, hub, l.Order, v)
			if err != nil {
				return false, err
			}
			page = append(page, provision.Listed{Device: device, After: cursorAt(l.Order, rest)})
			return true, nil
		})
	})
	if err != nil {
		return nil, "", err
	}
	return page, next, nil
}

// readDeviceOf reads the device of a list entry: of its record, or of its name.
func readDeviceOf(tx *bbolt.Tx, hub provision.HubID, order provision.Order, value []byte) (provision.Device, error) {
	if order == provision.ByCreation {
		return readDevice(tx, hub, string(value))
	}
	return record.DecodeDevice(hub, value)
}

// cursorAt is opaque to callers: base64 of the order and the last key listed.
func cursorAt(order provision.Order, last []byte) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{byte(order)}, last...))
}

// parseCursor returns the first key that is to be listed, without its hub.
func parseCursor(order provision.Order, cursor string) ([]byte, error) {
	if cursor == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) < 2 || b[0] != byte(order) {
		return nil, fmt.Errorf("cursor %q is not of this list", cursor)
	}
	if order == provision.ByCreation {
		if len(b) != 1+8 {
			return nil, fmt.Errorf("cursor %q is not of this list", cursor)
		}
		return binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(b[1:])+1), nil
	}
	return append(b[1:], 0), nil // the next possible name
}

func encodeDeviceAndEvent(d provision.Device, e provision.Event) (stored, event []byte, err error) {
	if stored, err = record.EncodeDevice(d); err != nil {
		return nil, nil, err
	}
	event, err = encodeEvent(e)
	return stored, event, err
}
