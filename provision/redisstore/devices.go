package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// CreateDevice implements provision.Store. It is one round trip.
func (s *Store) CreateDevice(ctx context.Context, c provision.Creation) (provision.Device, bool, error) {
	d := c.Device
	rec, err := record.EncodeDevice(d)
	if err != nil {
		return provision.Device{}, false, err
	}
	event, err := encodeEvent(c.Event)
	if err != nil {
		return provision.Device{}, false, err
	}
	p := s.partition(d.Hub)
	w, value, err := s.change(ctx, p, scriptDeviceCreate,
		[]string{p.hub(d.Hub), p.device(d.ID), p.names(d.Hub), p.order(d.Hub), p.anchors(d.Hub), p.claims(d.Hub)},
		c.HubVersion, d.Name, rec, event, anchorField(d), string(c.Claim), c.MaxDevices, c.PerSecond, c.DryRun)
	if err != nil {
		return provision.Device{}, false, err
	}
	switch w {
	case wordOK:
		return d, true, nil
	case wordExists:
		d, err := record.DecodeDevice(d.Hub, []byte(value))
		if err == nil {
			err = s.confirm(ctx, d)
		}
		if err != nil {
			return provision.Device{}, false, err
		}
		return d, false, nil
	default:
		return provision.Device{}, false, refusal(w, value, c)
	}
}

// refusal is why a creation was refused.
func refusal(w word, value string, c provision.Creation) error {
	switch w {
	case wordHub:
		return provision.ErrHubChanged
	case wordUnclaimed:
		return unclaimed(value != "")
	case wordQuota:
		return fmt.Errorf("%w: %s of %d", provision.ErrQuota, value, c.MaxDevices)
	case wordRate:
		wait, err := strconv.Atoi(value)
		return errors.Join(err, &provision.RateError{After: time.Duration(wait) * time.Microsecond})
	default:
		return unexpected(w)
	}
}

// Device implements provision.Store. A device that could still be lost, as too
// few replicas have it, is ErrUnavailable.
func (s *Store) Device(ctx context.Context, hub provision.HubID, name string) (provision.Device, error) {
	d, err := s.DeviceByID(ctx, hub, provision.DeviceIDOf(hub, name))
	if err == nil {
		err = s.confirm(ctx, d)
	}
	if err != nil {
		return provision.Device{}, err
	}
	return d, nil
}

// DeviceByID implements provision.DeviceRegistry.
func (s *Store) DeviceByID(ctx context.Context, hub provision.HubID, id provision.DeviceID) (provision.Device, error) {
	d, _, err := s.device(ctx, hub, id)
	return d, err
}

// device reads a device and its record as it is stored.
func (s *Store) device(ctx context.Context, hub provision.HubID, id provision.DeviceID) (d provision.Device, rec string, err error) {
	p := s.partition(hub)
	var reply *redis.StringCmd
	err = s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		reply = pipe.Get(ctx, p.device(id))
	})
	if err == nil {
		rec, err = found(reply)
	}
	if err != nil {
		return provision.Device{}, "", err
	}
	d, err = record.DecodeDevice(hub, []byte(rec))
	if err != nil {
		return provision.Device{}, "", err
	}
	// The key has no hub in it: this is another hub's in the same partition.
	if d.ID != id {
		return provision.Device{}, "", provision.ErrNotFound
	}
	return d, rec, nil
}

// anchorField is where a device is counted in its hub's anchors, "" if nowhere.
func anchorField(d provision.Device) string {
	if !d.Bound() {
		return ""
	}
	return string(d.Anchor[:])
}

// UpdateDevice implements provision.DeviceRegistry. What identifies the device
// cannot be edited.
func (s *Store) UpdateDevice(ctx context.Context, u provision.Update) (provision.Device, error) {
	return s.editDevice(ctx, u, "")
}

// BindDevice implements provision.Store.
func (s *Store) BindDevice(ctx context.Context, b provision.Binding) (provision.Device, error) {
	var bound provision.Device
	d, err := s.editDevice(ctx, provision.Update{
		Hub: b.Hub, Device: b.Device, Event: b.Event,
		Change: func(d *provision.Device) error {
			if !b.Apply(d) {
				bound = *d
				return errBound
			}
			return nil
		},
	}, strconv.FormatUint(b.HubVersion, 10))
	if errors.Is(err, errBound) {
		return bound, nil
	}
	return d, err
}

var errBound = errors.New("bound already")

// editDevice edits a record, if the hub is still of that version, "" for any.
func (s *Store) editDevice(ctx context.Context, u provision.Update, hubVersion string) (provision.Device, error) {
	p := s.partition(u.Hub)
	for {
		before, rec, err := s.device(ctx, u.Hub, u.Device)
		if err != nil {
			return provision.Device{}, err
		}
		after := before
		if err := u.Change(&after); err != nil {
			return provision.Device{}, err
		}
		after.ID, after.Hub, after.Name = before.ID, before.Hub, before.Name
		after.Version = before.Version + 1
		changed, err := record.EncodeDevice(after)
		if err != nil {
			return provision.Device{}, err
		}
		event, err := encodeEvent(u.Event(after))
		if err != nil {
			return provision.Device{}, err
		}
		w, _, err := s.change(ctx, p, scriptDeviceUpdate, []string{p.device(u.Device), p.anchors(u.Hub), p.hub(u.Hub)},
			rec, changed, event, encodeChange(provision.DeviceChanged, u.Hub, u.Device), anchorField(before), anchorField(after), hubVersion)
		if err != nil {
			return provision.Device{}, err
		}
		switch w {
		case wordOK:
			return after, nil
		case wordGone:
			return provision.Device{}, provision.ErrNotFound
		case wordHub:
			return provision.Device{}, provision.ErrHubChanged
		case wordConflict:
			if err := s.again(ctx); err != nil {
				return provision.Device{}, err
			}
		default:
			return provision.Device{}, unexpected(w)
		}
	}
}

// DeleteDevice implements provision.DeviceRegistry.
func (s *Store) DeleteDevice(ctx context.Context, hub provision.HubID, id provision.DeviceID, event func(provision.Device) provision.Event) error {
	p := s.partition(hub)
	for {
		d, rec, err := s.device(ctx, hub, id)
		if err != nil {
			return err
		}
		e, err := encodeEvent(event(d))
		if err != nil {
			return err
		}
		w, _, err := s.change(ctx, p, scriptDeviceDelete, []string{p.device(id), p.names(hub), p.order(hub), p.anchors(hub)},
			rec, d.Name, e, encodeChange(provision.DeviceChanged, hub, id), anchorField(d))
		if err != nil {
			return err
		}
		switch w {
		case wordOK:
			return nil
		case wordGone:
			return provision.ErrNotFound
		case wordConflict:
			if err := s.again(ctx); err != nil {
				return err
			}
		default:
			return unexpected(w)
		}
	}
}

// again waits before an edit that lost a race is made again.
func (s *Store) again(ctx context.Context) error {
	if err := pause(ctx, retryPause); err != nil {
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
	}
	return nil
}

// CountDevices implements provision.DeviceRegistry.
func (s *Store) CountDevices(ctx context.Context, hub provision.HubID) (int, error) {
	var n int64
	err := s.call(ctx, func(ctx context.Context) (err error) {
		n, err = s.client.ZCard(ctx, s.partition(hub).names(hub)).Result()
		return err
	})
	return int(n), err
}

// AnchorDevices implements provision.DeviceRegistry.
func (s *Store) AnchorDevices(ctx context.Context, hub provision.HubID) (map[trust.KeyHash]int, error) {
	p := s.partition(hub)
	var fields map[string]string
	err := s.call(ctx, func(ctx context.Context) (err error) {
		fields, err = s.client.HGetAll(ctx, p.anchors(hub)).Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	counts := make(map[trust.KeyHash]int, len(fields))
	for anchor, text := range fields {
		n, err := strconv.Atoi(text)
		if err != nil || len(anchor) != len(trust.KeyHash{}) {
			return nil, fmt.Errorf("hub %s: count of anchor %x: %q", hub, anchor, text)
		}
		counts[trust.KeyHash([]byte(anchor))] = n
	}
	return counts, nil
}

// Devices implements provision.DeviceRegistry.
func (s *Store) Devices(ctx context.Context, hub provision.HubID, order provision.Order, cursor string, limit int) ([]provision.Device, string, error) {
	listed, next, err := s.ListDevices(ctx, hub, provision.DeviceList{Order: order, Cursor: cursor, Limit: limit})
	devices := make([]provision.Device, len(listed))
	for i, l := range listed {
		devices[i] = l.Device
	}
	return devices, next, err
}

// ListDevices implements provision.DeviceRegistry. A cursor is the last name, or
// the last number of the creation order.
func (s *Store) ListDevices(ctx context.Context, hub provision.HubID, l provision.DeviceList) ([]provision.Listed, string, error) {
	if l.Limit < 1 {
		return nil, "", fmt.Errorf("page of %d devices", l.Limit)
	}
	names, cursors, next, err := s.page(ctx, hub, l)
	if err != nil {
		return nil, "", err
	}
	devices, at, err := s.read(ctx, hub, names)
	if err != nil {
		return nil, "", err
	}
	listed := make([]provision.Listed, len(devices))
	for i, d := range devices {
		listed[i] = provision.Listed{Device: d, After: cursors[at[i]]}
	}
	return listed, next, nil
}

// read reads the devices of those names, and says which name each has. Those
// that were deleted since the names were read are left out.
func (s *Store) read(ctx context.Context, hub provision.HubID, names []string) (devices []provision.Device, at []int, err error) {
	if len(names) == 0 {
		return nil, nil, nil
	}
	p := s.partition(hub)
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = p.device(provision.DeviceIDOf(hub, name))
	}
	var records []any
	err = s.call(ctx, func(ctx context.Context) (err error) {
		records, err = s.client.MGet(ctx, keys...).Result()
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for i, rec := range records {
		text, ok := rec.(string)
		if !ok {
			continue
		}
		d, err := record.DecodeDevice(hub, []byte(text))
		if err != nil {
			return nil, nil, err
		}
		devices, at = append(devices, d), append(at, i)
	}
	return devices, at, nil
}

// page returns the names on a page, the cursor after each, and the cursor of the
// next page. It asks for one more than the page holds, to know whether there is
// a next.
func (s *Store) page(ctx context.Context, hub provision.HubID, l provision.DeviceList) (names, cursors []string, next string, err error) {
	p := s.partition(hub)
	args := redis.ZRangeArgs{Count: int64(l.Limit) + 1}
	if l.Order == provision.ByCreation {
		args.Key, args.ByScore, args.Start, args.Stop = p.order(hub), true, "-inf", "+inf"
		if l.Cursor != "" {
			if _, err := strconv.ParseUint(l.Cursor, 10, 64); err != nil {
				return nil, nil, "", errors.New("cursor is none of this list")
			}
			args.Start = "(" + l.Cursor
		}
		if l.Prefix != "" {
			return nil, nil, "", errors.New("a prefix in the order of creation")
		}
	} else {
		args.Key, args.ByLex, args.Start, args.Stop = p.names(hub), true, "-", "+"
		if l.Prefix != "" {
			// No name is valid UTF-8 and has this byte.
			args.Start, args.Stop = "["+l.Prefix, "("+l.Prefix+"\xff"
		}
		if l.Cursor != "" && l.Cursor >= l.Prefix {
			args.Start = "(" + l.Cursor
		}
	}
	var entries []redis.Z
	err = s.call(ctx, func(ctx context.Context) (err error) {
		if l.Order == provision.ByCreation {
			entries, err = s.client.ZRangeArgsWithScores(ctx, args).Result()
			return err
		}
		names, err = s.client.ZRangeArgs(ctx, args).Result()
		return err
	})
	if err != nil {
		return nil, nil, "", err
	}
	cursors = names
	if l.Order == provision.ByCreation {
		cursors = nil
		for _, e := range entries {
			names = append(names, e.Member.(string))
			cursors = append(cursors, strconv.FormatFloat(e.Score, 'f', 0, 64))
		}
	}
	if len(names) <= l.Limit {
		return names, cursors, "", nil
	}
	return names[:l.Limit], cursors[:l.Limit], cursors[l.Limit-1], nil
}

// encodeEvent returns nil for an event that is none.
func encodeEvent(e provision.Event) ([]byte, error) {
	if e.ID == "" {
		return nil, nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return b, nil
}

// unexpected is for a word that the script does not return.
func unexpected(w word) error { return fmt.Errorf("a script returned %q", w) }
