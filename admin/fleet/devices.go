package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// Device is a device and what is known of its connections.
type Device struct {
	provision.Device
	Connected bool
	// LastActivity is when bytes were last seen on an open connection, to a
	// minute; zero if there is none.
	LastActivity time.Time
}

// DescribeDevices adds what is known of their connections. Nobody is asked who
// may see them: they come from a method that did.
func (f *Fleet) DescribeDevices(ctx context.Context, devices ...provision.Device) ([]Device, error) {
	described := make([]Device, len(devices))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(counters)
	for i, d := range devices {
		group.Go(func() error {
			described[i].Device = d
			sessions, err := f.store.DeviceSessions(ctx, d.Hub, d.ID)
			if err != nil {
				return fmt.Errorf("sessions of device %q: %w", d.Name, err)
			}
			for _, s := range sessions {
				if !s.Confirmed {
					continue
				}
				described[i].Connected = true
				if s.LastActivity.After(described[i].LastActivity) {
					described[i].LastActivity = s.LastActivity
				}
			}
			return nil
		})
	}
	return described, group.Wait()
}

func (f *Fleet) describeDevice(ctx context.Context, d provision.Device) (Device, error) {
	all, err := f.DescribeDevices(ctx, d)
	if err != nil {
		return Device{}, err
	}
	return all[0], nil
}

// Device returns the hub's device of that ID or name.
func (f *Fleet) Device(ctx context.Context, p access.Principal, hub, idOrName string) (Device, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return Device{}, err
	}
	d, err := f.findDevice(ctx, h, idOrName)
	if err != nil {
		return Device{}, err
	}
	return f.describeDevice(ctx, d)
}

// findDevice finds a device by its ID or its name. An ID that no device has may
// still be a name.
func (f *Fleet) findDevice(ctx context.Context, h provision.Hub, idOrName string) (provision.Device, error) {
	if id, err := provision.ParseDeviceID(idOrName); err == nil {
		d, err := f.store.DeviceByID(ctx, h.ID, id)
		if !errors.Is(err, provision.ErrNotFound) {
			return d, err
		}
	}
	d, err := f.store.Device(ctx, h.ID, idOrName)
	if errors.Is(err, provision.ErrNotFound) {
		return d, noDevice(h, idOrName)
	}
	return d, err
}

func noDevice(h provision.Hub, idOrName string) error {
	return fmt.Errorf("device %q on hub %s %w", idOrName, h.Name, provision.ErrNotFound)
}

// FindDevice returns the device of that ID, on whichever hub, and its hub.
func (f *Fleet) FindDevice(ctx context.Context, p access.Principal, id provision.DeviceID) (provision.Hub, Device, error) {
	hubs, err := f.AllHubs(p)
	if err != nil {
		return provision.Hub{}, Device{}, err
	}
	for _, h := range hubs {
		// All IDs of a hub begin alike, so there is rarely more than one to ask.
		if sample := provision.DeviceIDOf(h.ID, ""); sample.UUID[0] != id.UUID[0] || sample.UUID[1] != id.UUID[1] {
			continue
		}
		d, err := f.store.DeviceByID(ctx, h.ID, id)
		switch {
		case errors.Is(err, provision.ErrNotFound):
			continue
		case err != nil:
			return provision.Hub{}, Device{}, fmt.Errorf("device %s: %w", id, err)
		}
		described, err := f.describeDevice(ctx, d)
		return h, described, err
	}
	return provision.Hub{}, Device{}, fmt.Errorf("device %s %w", id, provision.ErrNotFound)
}

// DeviceSpec is a device to create before it ever connects.
type DeviceSpec struct {
	Name                     string
	Description              string
	Disabled                 bool
	DisabledReason           string
	AllowInsecure            bool
	AllowMultipleConnections bool
	Filters                  *provision.Filters
}

// CreateDevice creates a device that has not connected: its first accepted
// connection gives it its key and anchor. It takes an Operator. A name that is
// taken is provision.ErrExists, and leaves that device as it is.
func (f *Fleet) CreateDevice(ctx context.Context, p access.Principal, hub string, spec DeviceSpec) (_ Device, err error) {
	a := f.act(p, provision.Created)
	defer a.end(ctx, &err)
	for {
		h, err := f.Find(ctx, p, hub)
		if err != nil {
			a.on("hub", hub)
			return Device{}, err
		}
		a.onHub(h)
		if err := p.Need(access.Operator); err != nil {
			return Device{}, err
		}
		now := f.now()
		d := provision.Device{
			ID: provision.DeviceIDOf(h.ID, spec.Name), Hub: h.ID, Name: spec.Name, Description: spec.Description, Version: 1,
			Disabled: spec.Disabled, DisabledReason: spec.DisabledReason, AllowInsecure: spec.AllowInsecure,
			AllowMultipleConnections: spec.AllowMultipleConnections, Filters: spec.Filters, CreatedAt: now, UpdatedAt: now,
		}
		a.onDevice(d)
		if err := f.checkNewDevice(ctx, h, d); err != nil {
			return Device{}, err
		}
		d, created, err := f.store.CreateDevice(ctx, provision.Creation{
			Device: d, HubVersion: h.Version, Event: provision.Created.OnDevice(d, now),
		})
		switch {
		case errors.Is(err, provision.ErrHubChanged):
			if again, herr := f.find(ctx, h.ID.String()); herr == nil && (again.Version == h.Version || again.Deleting) {
				return Device{}, named(h, err) // it is going, so it stays like that
			}
			continue
		case err != nil:
			return Device{}, named(h, err)
		case !created:
			return Device{}, fmt.Errorf("device %q on hub %s %w", d.Name, h.Name, provision.ErrExists)
		}
		return Device{Device: d}, nil
	}
}

func (f *Fleet) checkNewDevice(ctx context.Context, h provision.Hub, d provision.Device) error {
	if err := provision.CheckDeviceName(d.Name, h.UnicodeNames); err != nil {
		return invalid("name", "name: %s", err)
	}
	if id, err := provision.ParseHubID(d.Name); err == nil {
		switch _, err := f.find(ctx, id.String()); {
		case err == nil:
			return invalid("name", "name: %q is the ID of a hub, which no device can be called", d.Name)
		case !errors.Is(err, provision.ErrNotFound):
			return err
		}
	}
	return checkDevice(d)
}

// checkDevice checks what of a device people choose.
func checkDevice(d provision.Device) error {
	if err := provision.CheckDeviceSettings(d); err != nil {
		var setting *provision.SettingError
		if errors.As(err, &setting) {
			return invalid(setting.Field, "%s", err)
		}
		return invalid("", "%s", err)
	}
	return nil
}

// DeviceChange is an edit of a device; what is nil stays.
type DeviceChange struct {
	Description              *string
	Enabled                  *bool
	DisabledReason           *string // goes when the device is enabled
	AllowInsecure            *bool
	AllowMultipleConnections *bool
	// Filters replaces the filters; a pointer to nil removes them.
	Filters **provision.Filters
}

func (c DeviceChange) act() provision.Act {
	return HubChange{Enabled: c.Enabled}.act()
}

func (c DeviceChange) apply(d *provision.Device, now time.Time) error {
	after := *d
	set(&after.Description, c.Description)
	set(&after.AllowInsecure, c.AllowInsecure)
	set(&after.AllowMultipleConnections, c.AllowMultipleConnections)
	set(&after.Filters, c.Filters)
	set(&after.DisabledReason, c.DisabledReason)
	if c.Enabled != nil {
		after.Disabled = !*c.Enabled
	}
	if !after.Disabled {
		if c.DisabledReason != nil && *c.DisabledReason != "" {
			return invalid("disabled_reason", "disabled_reason: the device is enabled")
		}
		after.DisabledReason = ""
	}
	if err := checkDevice(after); err != nil {
		return err
	}
	if after.Description == d.Description && after.AllowInsecure == d.AllowInsecure &&
		after.AllowMultipleConnections == d.AllowMultipleConnections && after.Filters.Equal(d.Filters) &&
		after.Disabled == d.Disabled && after.DisabledReason == d.DisabledReason {
		return errUnchanged
	}
	if d.AllowInsecure && !after.AllowInsecure {
		endBySecret(&after, now)
	}
	after.UpdatedAt = now
	*d = after
	return nil
}

// UpdateDevice edits a device of any hub, declared ones included. It takes an
// Operator. A disabled device's connections end.
func (f *Fleet) UpdateDevice(ctx context.Context, p access.Principal, hub, idOrName string, c DeviceChange) (_ Device, err error) {
	a := f.act(p, c.act())
	defer a.end(ctx, &err)
	_, d, err := f.deviceToChange(ctx, p, hub, idOrName, a)
	if err != nil {
		return Device{}, err
	}
	now := f.now()
	before := d
	changed, err := f.store.UpdateDevice(ctx, provision.Update{
		Hub: d.Hub, Device: d.ID,
		Change: func(d *provision.Device) error {
			before = *d
			return c.apply(d, now)
		},
		Event: func(after provision.Device) provision.Event {
			if c.Enabled != nil && after.Disabled == before.Disabled {
				return provision.Updated.OnDevice(after, now)
			}
			return c.act().OnDevice(after, now)
		},
	})
	switch {
	case errors.Is(err, errUnchanged):
		changed = before
	case err != nil:
		return Device{}, ofDevice(d, err)
	}
	described, derr := f.describeDevice(ctx, changed)
	return described, errors.Join(derr, err)
}

func ofDevice(d provision.Device, err error) error {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("device %q: %w", d.Name, err)
}

// deviceToChange finds a device for an act that takes an Operator.
func (f *Fleet) deviceToChange(ctx context.Context, p access.Principal, hub, idOrName string, a *act) (provision.Hub, provision.Device, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		a.on("hub", hub)
		a.on("device", idOrName)
		return h, provision.Device{}, err
	}
	a.onHub(h)
	if err := p.Need(access.Operator); err != nil {
		a.on("device", idOrName)
		return h, provision.Device{}, err
	}
	d, err := f.findDevice(ctx, h, idOrName)
	if err != nil {
		a.on("device", idOrName)
		return h, d, err
	}
	a.onDevice(d)
	return h, d, nil
}

// ApproveKey makes a key the one that a device is let in with where its hub's
// policy asks for approval. The device need not have come with it yet; one with a
// custom certificate has no use for it. It takes an Operator.
func (f *Fleet) ApproveKey(ctx context.Context, p access.Principal, hub, idOrName string, key trust.KeyHash) (_ Device, err error) {
	a := f.act(p, provision.KeyApproved)
	defer a.end(ctx, &err)
	_, d, err := f.deviceToChange(ctx, p, hub, idOrName, a)
	if err != nil {
		return Device{}, err
	}
	a.on("key", key.String())
	now := f.now()
	before := d
	changed, err := f.store.UpdateDevice(ctx, provision.Update{
		Hub: d.Hub, Device: d.ID,
		Change: func(d *provision.Device) error {
			before = *d
			switch {
			case d.Custom != nil:
				return conflict(Conflict, "device %q has a custom certificate, and no other key lets it in: remove that first, with `hubgate device certificate remove`", d.Name)
			case !d.Bound():
				return conflict(Conflict, "device %q has not connected: its first connection gives it its key", d.Name)
			case d.CurrentKey == key:
				return errUnchanged
			}
			d.CurrentKey, d.PendingKey, d.UpdatedAt = key, trust.KeyHash{}, now
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.KeyApproved.OnDevice(d, now) },
	})
	switch {
	case errors.Is(err, errUnchanged):
		changed = before
	case err != nil:
		return Device{}, ofDevice(d, err)
	}
	described, derr := f.describeDevice(ctx, changed)
	return described, errors.Join(derr, err)
}

// DeleteDevice forgets a device, which may then provision itself again. It takes
// an Operator.
func (f *Fleet) DeleteDevice(ctx context.Context, p access.Principal, hub, idOrName string) (err error) {
	a := f.act(p, provision.Deleted)
	defer a.end(ctx, &err)
	_, d, err := f.deviceToChange(ctx, p, hub, idOrName, a)
	if err != nil {
		return err
	}
	now := f.now()
	err = f.store.DeleteDevice(ctx, d.Hub, d.ID, func(d provision.Device) provision.Event {
		return provision.Deleted.OnDevice(d, now)
	})
	if err != nil {
		return ofDevice(d, err)
	}
	return nil
}

// EndSessions ends the connections that a device has now, and returns them; it
// may connect again at once. It takes an Operator.
func (f *Fleet) EndSessions(ctx context.Context, p access.Principal, hub, idOrName string) (_ provision.Hub, _ []provision.Session, err error) {
	a := f.act(p, provision.Disconnected)
	defer a.end(ctx, &err)
	h, d, err := f.deviceToChange(ctx, p, hub, idOrName, a)
	if err != nil {
		return h, nil, err
	}
	sessions, err := f.store.DeviceSessions(ctx, d.Hub, d.ID)
	if err != nil {
		return h, nil, fmt.Errorf("sessions of device %q: %w", d.Name, err)
	}
	now := f.now()
	before := now
	for _, session := range sessions {
		// Another host's clock, which may be ahead, said when it began.
		if !session.Since.Before(before) {
			before = session.Since.Add(time.Nanosecond)
		}
	}
	_, err = f.store.UpdateDevice(ctx, provision.Update{
		Hub: d.Hub, Device: d.ID,
		Change: func(d *provision.Device) error {
			if before.After(d.SessionsEndBefore) {
				d.SessionsEndBefore = before
			}
			d.UpdatedAt = now
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.Disconnected.OnDevice(d, now) },
	})
	if err != nil {
		return h, nil, ofDevice(d, err)
	}
	return h, sessions, nil
}
