package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// DeviceQuery narrows a list of devices.
type DeviceQuery struct {
	Order  provision.Order
	Cursor string // where the page before ended
	Limit  int    // of the page, at least 1
	// What follows narrows; nil or empty does not.
	Enabled    *bool
	Connected  *bool
	NamePrefix string
	Anchor     *trust.KeyHash
}

// maxScan bounds how many devices one page looks at: a filter that few pass
// gives short pages, and time for others.
const maxScan = 5000

// Devices returns a page of the hub's devices and the cursor of the next, ""
// at the end. A page may be short, or empty, and not be the last. A device that
// is there from first page to last, and passes, is listed exactly once.
func (f *Fleet) Devices(ctx context.Context, p access.Principal, hub string, q DeviceQuery) ([]Device, string, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return nil, "", err
	}
	var page []Device
	cursor := q.Cursor
	for scanned := 0; scanned < maxScan; {
		devices, next, err := f.store.Devices(ctx, h.ID, q.Order, cursor, q.Limit-len(page))
		if err != nil {
			return nil, "", fmt.Errorf("list devices: %w", err)
		}
		scanned += len(devices)
		passed, err := f.filter(ctx, q, devices)
		if err != nil {
			return nil, "", err
		}
		page = append(page, passed...)
		if cursor = next; cursor == "" || len(page) >= q.Limit {
			break
		}
	}
	return page, cursor, nil
}

func (f *Fleet) filter(ctx context.Context, q DeviceQuery, devices []provision.Device) ([]Device, error) {
	var passed []provision.Device
	for _, d := range devices {
		if (q.Enabled == nil || *q.Enabled == !d.Disabled) && strings.HasPrefix(d.Name, q.NamePrefix) &&
			(q.Anchor == nil || *q.Anchor == d.Anchor) {
			passed = append(passed, d)
		}
	}
	described, err := f.DescribeDevices(ctx, passed...)
	if err != nil || q.Connected == nil {
		return described, err
	}
	var kept []Device
	for _, d := range described {
		if d.Connected == *q.Connected {
			kept = append(kept, d)
		}
	}
	return kept, nil
}

// CountDevices returns how many devices the hub has.
func (f *Fleet) CountDevices(ctx context.Context, p access.Principal, hub string) (int, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return 0, err
	}
	return f.store.CountDevices(ctx, h.ID)
}

// DevicesAt returns up to limit devices of the hub from the offset-th on, in the
// order of their creation, nothing described. It costs the same anywhere in the
// list. A device that is created meanwhile comes last, so it moves no other;
// one that is deleted moves those after it up.
func (f *Fleet) DevicesAt(ctx context.Context, p access.Principal, hub string, offset, limit int) ([]provision.Device, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return nil, err
	}
	all, err := f.allDevices(ctx, h, offset+limit)
	if err != nil && !errors.Is(err, ErrTooMany) {
		return nil, err
	}
	if offset >= len(all) {
		return nil, nil
	}
	return all[offset:min(len(all), offset+limit)], nil
}

// ErrTooMany: the hub has more devices than can be read at once.
var ErrTooMany = errors.New("too many devices")

// ReadDevices returns all devices of the hub in the order of their creation,
// nothing described; ErrTooMany if there are more than most.
func (f *Fleet) ReadDevices(ctx context.Context, p access.Principal, hub string, most int) ([]provision.Device, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return nil, err
	}
	return f.allDevices(ctx, h, most)
}

// readPage is how many devices are read from the store at once.
const readPage = 1000

func (f *Fleet) allDevices(ctx context.Context, h provision.Hub, most int) ([]provision.Device, error) {
	var all []provision.Device
	for cursor := ""; ; {
		page, next, err := f.store.Devices(ctx, h.ID, provision.ByCreation, cursor, min(readPage, most-len(all)+1))
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		all = append(all, page...)
		if len(all) > most {
			return all[:most], fmt.Errorf("hub %s has more than %d devices: %w", h.Name, most, ErrTooMany)
		}
		if cursor = next; cursor == "" {
			return all, nil
		}
	}
}
