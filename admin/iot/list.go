package iot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/provision"
)

const (
	// maxUnindexed bounds the lists that are read whole because no index has
	// their order or their filter.
	maxUnindexed = 10_000
	// lookers bounds the look-ups made at once for one list.
	lookers = 16
)

// deviceOrders compares devices by what a list can be ordered by.
var deviceOrders = map[string]func(x, y provision.Device) int{
	"name":           func(x, y provision.Device) int { return cmp.Compare(x.Name, y.Name) },
	"status":         func(x, y provision.Device) int { return compareFlags(y.Disabled, x.Disabled) },
	"hub_id":         func(x, y provision.Device) int { return compareIDs(x.Hub, y.Hub) },
	"created_at":     func(x, y provision.Device) int { return x.CreatedAt.Compare(y.CreatedAt) },
	"updated_at":     func(x, y provision.Device) int { return x.UpdatedAt.Compare(y.UpdatedAt) },
	"allow_insecure": func(x, y provision.Device) int { return compareFlags(x.AllowInsecure, y.AllowInsecure) },
}

func compareFlags(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}

// deviceList is what is asked of a list of devices.
type deviceList struct {
	window
	field         string // of deviceOrders
	descending    bool
	name          string
	disabled      *bool
	allowInsecure *bool
}

func (l *deviceList) filtered() bool { return l.disabled != nil || l.allowInsecure != nil }

func (l *deviceList) wants(d provision.Device) bool {
	return (l.disabled == nil || d.Disabled == *l.disabled) && (l.allowInsecure == nil || d.AllowInsecure == *l.allowInsecure)
}

func (l *deviceList) sort(devices []provision.Device) {
	order := deviceOrders[l.field]
	slices.SortStableFunc(devices, func(x, y provision.Device) int {
		c := order(x, y)
		if l.descending {
			c = -c
		}
		return cmp.Or(c, x.CreatedAt.Compare(y.CreatedAt), bytes.Compare(x.ID.UUID[:], y.ID.UUID[:]))
	})
}

// index is the stores' own order that a list has, if there is one: within a hub
// by name or by creation, upwards; hub after hub.
func (l *deviceList) index(hubs int) (order provision.Order, ok bool) {
	switch {
	case l.filtered():
		return 0, false
	case l.field == "hub_id":
		return provision.ByCreation, true
	case hubs > 1 || l.descending:
		return 0, false
	case l.field == "name":
		return provision.ByName, true
	case l.field == "created_at":
		return provision.ByCreation, true
	}
	return 0, false
}

func (a *API) listDevices(r *http.Request) (any, error) {
	list, hubs, err := a.deviceList(r)
	if err != nil {
		return nil, err
	}
	if a.costly(list, hubs) {
		done, err := a.fleet.Costly(principal(r))
		if err != nil {
			return nil, err
		}
		defer done()
	}
	devices, total, err := a.devices(r.Context(), list, hubs)
	if err != nil {
		return nil, err
	}
	described, err := a.fleet.DescribeDevices(r.Context(), devices...)
	if err != nil {
		return nil, err
	}
	answer := listDevicesResponse{TotalCount: count(total), Devices: []device{}}
	for _, d := range described {
		answer.Devices = append(answer.Devices, a.showDevice(d))
	}
	return answer, nil
}

// deviceList reads what is asked for, and the hubs that it is about.
func (a *API) deviceList(r *http.Request) (*deviceList, []provision.Hub, error) {
	q, err := parameters(r, "page", "page_size", "order_by", "name", "hub_id", "allow_insecure", "status")
	if err != nil {
		return nil, nil, err
	}
	l := &deviceList{name: q.Get("name")}
	if l.window, err = q.window(); err != nil {
		return nil, nil, err
	}
	if l.field, l.descending, err = q.order("name", "status", "hub_id", "created_at", "updated_at", "allow_insecure"); err != nil {
		return nil, nil, err
	}
	if l.allowInsecure, err = q.flag("allow_insecure"); err != nil {
		return nil, nil, err
	}
	status, err := q.oneOf("status", "unknown", []string{"unknown", "enabled", "disabled", "error"})
	if err != nil {
		return nil, nil, err
	}
	if status == "error" { // no device is
		return l, nil, nil
	}
	if status != "unknown" {
		disabled := status == string(deviceDisabled)
		l.disabled = &disabled
	}
	if text := q.Get("hub_id"); text != "" {
		id, err := parseID("hub_id", text)
		if err != nil {
			return nil, nil, err
		}
		h, err := a.fleet.Find(r.Context(), principal(r), id.String())
		if errors.Is(err, provision.ErrNotFound) {
			err = notFound("hub", text)
		}
		return l, []provision.Hub{h}, err
	}
	hubs, err := a.fleet.AllHubs(principal(r))
	return l, hubs, err
}

// costly reports whether a list reads many more devices, or hubs, than it tells
// of.
func (a *API) costly(l *deviceList, hubs []provision.Hub) bool {
	order, indexed := l.index(len(hubs))
	switch {
	case len(hubs) > stride:
		return true
	case l.name != "":
		return false
	case !indexed:
		return true
	case len(hubs) == 1:
		at, _ := a.places.before(hubs[0].ID, order, l.window)
		return l.offset-at > stride
	}
	return l.offset > stride
}

// devices returns the devices on the page, and how many the whole list has.
func (a *API) devices(ctx context.Context, l *deviceList, hubs []provision.Hub) ([]provision.Device, int, error) {
	if l.name != "" {
		all, err := a.named(ctx, l.name, hubs)
		if err != nil {
			return nil, 0, err
		}
		all = slices.DeleteFunc(all, func(d provision.Device) bool { return !l.wants(d) })
		l.sort(all)
		return part(all, l.window), len(all), nil
	}
	slices.SortFunc(hubs, func(x, y provision.Hub) int {
		c := compareIDs(x.ID, y.ID)
		if l.descending {
			return -c
		}
		return c
	})
	counts, total, err := a.counts(ctx, hubs)
	if err != nil {
		return nil, 0, err
	}
	if order, ok := l.index(len(hubs)); ok {
		page, err := a.indexed(ctx, l.window, order, hubs, counts)
		return page, total, err
	}
	if total > maxUnindexed {
		return nil, 0, invalid("order_by", constraint, "there are %d devices to put in order, more than %d: give hub_id and order by name_asc or created_at_asc without a filter, or order by hub_id_asc", total, maxUnindexed)
	}
	var all []provision.Device
	for _, h := range hubs {
		for cursor := ""; ; {
			page, next, err := a.store.Devices(ctx, h.ID, provision.ByCreation, cursor, stride)
			if err != nil {
				return nil, 0, fmt.Errorf("list devices: %w", err)
			}
			all = append(all, page...)
			if cursor = next; next == "" {
				break
			}
		}
	}
	all = slices.DeleteFunc(all, func(d provision.Device) bool { return !l.wants(d) })
	l.sort(all)
	return part(all, l.window), len(all), nil
}

// counts are how many devices each hub has, and all together.
func (a *API) counts(ctx context.Context, hubs []provision.Hub) (counts []int, total int, err error) {
	counts = make([]int, len(hubs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookers)
	for i, h := range hubs {
		group.Go(func() (err error) {
			counts[i], err = a.store.CountDevices(ctx, h.ID)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, 0, fmt.Errorf("count devices: %w", err)
	}
	for _, n := range counts {
		total += n
	}
	return counts, total, nil
}

// indexed reads a page that runs through the hubs in their order.
func (a *API) indexed(ctx context.Context, w window, order provision.Order, hubs []provision.Hub, counts []int) ([]provision.Device, error) {
	var page []provision.Device
	for i, h := range hubs {
		// The last hub may have grown since it was counted.
		if i < len(hubs)-1 && w.offset >= counts[i] {
			w.offset -= counts[i]
			continue
		}
		devices, err := a.places.page(ctx, h.ID, order, w)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		page = append(page, devices...)
		if w = (window{size: w.size - len(devices)}); w.size == 0 {
			break
		}
	}
	return page, nil
}

// named are the devices of that name, at most one of each hub.
func (a *API) named(ctx context.Context, name string, hubs []provision.Hub) ([]provision.Device, error) {
	found := make([]*provision.Device, len(hubs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookers)
	for i, h := range hubs {
		group.Go(func() error {
			d, err := a.store.Device(ctx, h.ID, name)
			if errors.Is(err, provision.ErrNotFound) {
				return nil
			}
			found[i] = &d
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("find device %q: %w", name, err)
	}
	var devices []provision.Device
	for _, d := range found {
		if d != nil {
			devices = append(devices, *d)
		}
	}
	return devices, nil
}
