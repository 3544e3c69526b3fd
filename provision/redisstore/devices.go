package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
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
		[]string{p.hub(d.Hub), p.device(d.ID), p.names(d.Hub), p.order(d.Hub)},
		c.HubVersion, d.Name, rec, event)
	if err != nil {
		return provision.Device{}, false, err
	}
	switch w {
	case wordOK:
		return d, true, nil
	case wordExists:
		d, err := record.DecodeDevice(d.Hub, []byte(value))
		return d, false, err
	case wordHub:
		return provision.Device{}, false, provision.ErrHubChanged
	default:
		return provision.Device{}, false, unexpected(w)
	}
}

// Device implements provision.Store.
func (s *Store) Device(ctx context.Context, hub provision.HubID, name string) (provision.Device, error) {
	return s.DeviceByID(ctx, hub, provision.DeviceIDOf(hub, name))
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

// UpdateDevice implements provision.DeviceRegistry. What identifies the device
// cannot be edited.
func (s *Store) UpdateDevice(ctx context.Context, u provision.Update) (provision.Device, error) {
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
		w, _, err := s.change(ctx, p, scriptDeviceUpdate, []string{p.device(u.Device)},
			rec, changed, event, encodeChange(provision.DeviceChanged, u.Hub, u.Device))
		if err != nil {
			return provision.Device{}, err
		}
		switch w {
		case wordOK:
			return after, nil
		case wordGone:
			return provision.Device{}, provision.ErrNotFound
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
		w, _, err := s.change(ctx, p, scriptDeviceDelete, []string{p.device(id), p.names(hub), p.order(hub)},
			rec, d.Name, e, encodeChange(provision.DeviceChanged, hub, id))
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

// Devices implements provision.DeviceRegistry. The cursor is the last name, or
// the number of the last creation: neither moves when devices come and go.
func (s *Store) Devices(ctx context.Context, hub provision.HubID, order provision.Order, cursor string, limit int) ([]provision.Device, string, error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("limit %d is less than 1", limit)
	}
	names, next, err := s.page(ctx, hub, order, cursor, limit)
	if err != nil || len(names) == 0 {
		return nil, "", err
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
		return nil, "", err
	}
	devices := make([]provision.Device, 0, len(records))
	for _, rec := range records {
		text, ok := rec.(string)
		if !ok {
			continue // deleted since the names were read
		}
		d, err := record.DecodeDevice(hub, []byte(text))
		if err != nil {
			return nil, "", err
		}
		devices = append(devices, d)
	}
	return devices, next, nil
}

// page returns the names on a page and the cursor of the next. It asks for one
// more than the page holds, to know whether there is a next.
func (s *Store) page(ctx context.Context, hub provision.HubID, order provision.Order, cursor string, limit int) (names []string, next string, err error) {
	p := s.partition(hub)
	args := redis.ZRangeArgs{Count: int64(limit) + 1}
	if order == provision.ByCreation {
		args.Key, args.ByScore, args.Start, args.Stop = p.order(hub), true, "-inf", "+inf"
		if cursor != "" {
			if _, err := strconv.ParseUint(cursor, 10, 64); err != nil {
				return nil, "", errors.New("cursor is none of this list")
			}
			args.Start = "(" + cursor
		}
	} else {
		args.Key, args.ByLex, args.Start, args.Stop = p.names(hub), true, "-", "+"
		if cursor != "" {
			args.Start = "(" + cursor
		}
	}
	var entries []redis.Z
	err = s.call(ctx, func(ctx context.Context) (err error) {
		if order == provision.ByCreation {
			entries, err = s.client.ZRangeArgsWithScores(ctx, args).Result()
			return err
		}
		names, err = s.client.ZRangeArgs(ctx, args).Result()
		return err
	})
	if err != nil {
		return nil, "", err
	}
	for _, e := range entries {
		names = append(names, e.Member.(string))
	}
	if len(names) <= limit {
		return names, "", nil
	}
	if order == provision.ByCreation {
		return names[:limit], strconv.FormatFloat(entries[limit-1].Score, 'f', 0, 64), nil
	}
	return names[:limit], names[limit-1], nil
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
