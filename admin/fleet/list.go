package fleet

import (
	"context"
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

const (
	// maxScan bounds how many devices one page looks at: where few pass, pages
	// are short, and others get their turn.
	maxScan = 5000
	// scanChunk is how many are read at once where not all pass.
	scanChunk = 500
)

// narrows reports whether devices are left out that the store lists.
func (q DeviceQuery) narrows() bool {
	return q.Enabled != nil || q.Connected != nil || q.Anchor != nil || q.NamePrefix != "" && q.Order == provision.ByCreation
}

// Devices returns a page of the hub's devices and the cursor of the next, ""
// at the end. A page may be short, or empty, and not be the last. A device that
// is there from first page to last, and passes, is listed exactly once. Lists
// that leave devices out are Costly.
func (f *Fleet) Devices(ctx context.Context, p access.Principal, hub string, q DeviceQuery) ([]Device, string, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return nil, "", err
	}
	list := provision.DeviceList{Order: q.Order, Cursor: q.Cursor, Limit: q.Limit}
	if q.Order == provision.ByName {
		list.Prefix = q.NamePrefix
	}
	if q.narrows() {
		done, err := f.Costly(p)
		if err != nil {
			return nil, "", err
		}
		defer done()
		list.Limit = max(q.Limit, scanChunk)
	}
	var page []Device
	for scanned := 0; ; {
		listed, next, err := f.store.ListDevices(ctx, h.ID, list)
		if err != nil {
			return nil, "", fmt.Errorf("list devices: %w", err)
		}
		scanned += len(listed)
		passed, err := f.filter(ctx, q, listed, q.Limit-len(page))
		if err != nil {
			return nil, "", err
		}
		for _, d := range passed {
			page = append(page, d.Device)
		}
		switch {
		case len(page) == q.Limit && len(passed) > 0 && passed[len(passed)-1].after != listed[len(listed)-1].After:
			return page, passed[len(passed)-1].after, nil
		case len(page) == q.Limit, next == "", scanned >= maxScan:
			return page, next, nil
		}
		list.Cursor = next
	}
}

// passed is a device that passed a filter, and the cursor after it.
type passed struct {
	Device
	after string
}

// filter returns the first most of the devices that pass.
func (f *Fleet) filter(ctx context.Context, q DeviceQuery, listed []provision.Listed, most int) ([]passed, error) {
	var devices []provision.Device
	var after []string
	for _, d := range listed {
		if (q.Enabled == nil || *q.Enabled == !d.Disabled) && strings.HasPrefix(d.Name, q.NamePrefix) &&
			(q.Anchor == nil || *q.Anchor == d.Anchor) {
			devices, after = append(devices, d.Device), append(after, d.After)
		}
		if q.Connected == nil && len(devices) == most {
			break
		}
	}
	described, err := f.DescribeDevices(ctx, devices...)
	if err != nil {
		return nil, err
	}
	var kept []passed
	for i, d := range described {
		if len(kept) < most && (q.Connected == nil || d.Connected == *q.Connected) {
			kept = append(kept, passed{d, after[i]})
		}
	}
	return kept, nil
}
