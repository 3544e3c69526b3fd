package iot

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/hubgate/hubgate/provision"
)

const (
	// placeTTL is how long a client may take from one page to the next without
	// making the list be walked again.
	placeTTL = time.Minute
	// maxPlaces bounds the places remembered, of all lists, some 200 bytes each.
	maxPlaces = 10_000
	// placesBack is how many pages before the one asked for are looked for: of
	// several replicas each has seen some of a client's pages only.
	placesBack = 8
	// stride is how many devices are passed over at a time where no place is
	// known.
	stride = 1000
)

// place is where in a hub's list a page begins.
type place struct {
	hub    provision.HubID
	order  provision.Order
	offset int
}

// places turns page numbers, which the SDK asks for, into cursors, which the
// stores have: what a page ended with is where the next begins. So a list read
// page after page is read at the same cost from first to last, and, since a
// cursor stays where it is, without loss or repeat of what is there all along.
// A page asked for out of the blue is reached by walking.
type places struct {
	list  func(ctx context.Context, hub provision.HubID, order provision.Order, cursor string, limit int) ([]provision.Device, string, error)
	known *otter.Cache[place, string]
}

func newPlaces(list func(context.Context, provision.HubID, provision.Order, string, int) ([]provision.Device, string, error)) (*places, error) {
	known, err := otter.New(&otter.Options[place, string]{
		MaximumSize:      maxPlaces,
		ExpiryCalculator: otter.ExpiryWriting[place, string](placeTTL),
	})
	return &places{list: list, known: known}, err
}

// page returns the devices in the window of a hub's list.
func (p *places) page(ctx context.Context, hub provision.HubID, order provision.Order, w window) ([]provision.Device, error) {
	at, cursor := p.before(hub, order, w)
	for at < w.offset {
		passed, next, err := p.list(ctx, hub, order, cursor, min(w.offset-at, stride))
		if err != nil || next == "" {
			return nil, err
		}
		at, cursor = at+len(passed), next
	}
	var devices []provision.Device
	for len(devices) < w.size {
		more, next, err := p.list(ctx, hub, order, cursor, w.size-len(devices))
		if err != nil {
			return nil, err
		}
		devices = append(devices, more...)
		if next == "" {
			return devices, nil
		}
		cursor = next
	}
	p.known.Set(place{hub, order, w.offset + w.size}, cursor)
	return devices, nil
}

// before returns the nearest known place at or before the window, the list's
// start if none is near.
func (p *places) before(hub provision.HubID, order provision.Order, w window) (int, string) {
	for back := range placesBack + 1 {
		offset := w.offset - back*w.size
		if offset <= 0 {
			break
		}
		if cursor, ok := p.known.GetIfPresent(place{hub, order, offset}); ok {
			return offset, cursor
		}
	}
	return 0, ""
}
