package iot

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/storetest"
)

// TestPages: whatever page is asked for, in whatever order, it holds what its
// number says; and a list that is read page after page costs the same from
// first to last.
func TestPages(t *testing.T) {
	t.Parallel()
	store, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- store.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(store.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	hub, err := storetest.CreateHub(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	const devices, size = 300, 7
	var names []string
	for i := range devices {
		names = append(names, fmt.Sprintf("SN-%03d", i))
		if _, _, err := store.CreateDevice(t.Context(), storetest.NewCreation(hub, names[i])); err != nil {
			t.Fatal(err)
		}
	}
	read := 0 // devices, by the page at hand
	p, err := newPlaces(func(ctx context.Context, hub provision.HubID, order provision.Order, cursor string, limit int) ([]provision.Device, string, error) {
		page, next, err := store.Devices(ctx, hub, order, cursor, limit)
		read += len(page)
		return page, next, err
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(page int, want []string) {
		t.Helper()
		read = 0
		got, err := p.page(t.Context(), hub.ID, provision.ByCreation, window{page * size, size})
		if err != nil {
			t.Fatal(err)
		}
		var shown []string
		for _, d := range got {
			shown = append(shown, d.Name)
		}
		if !slices.Equal(shown, want) {
			t.Errorf("page %d: %q, want %q", page, shown, want)
		}
	}
	pageOf := func(page int) []string { return names[min(page*size, devices):min((page+1)*size, devices)] }
	last := (devices - 1) / size
	for _, page := range []int{last, last / 2, 1, last + 1, last + 100} {
		ask(page, pageOf(page))
	}
	for page := range last + 1 {
		if ask(page, pageOf(page)); page > 0 && read > size {
			t.Errorf("page %d took reading %d devices, want no more than its own %d", page, read, size)
		}
	}
	// Every other page was another replica's.
	for page := 0; page <= last; page += 3 {
		if ask(page, pageOf(page)); read > 3*size {
			t.Errorf("page %d took reading %d devices, want no more than %d", page, read, 3*size)
		}
	}

	// What was listed goes away, and more comes: nothing is lost or repeated.
	ask(0, pageOf(0))
	if err := store.DeleteDevice(t.Context(), hub.ID, provision.DeviceIDOf(hub.ID, names[0]), func(d provision.Device) provision.Event {
		return storetest.DeviceEvent(d, "deleted")
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.CreateDevice(t.Context(), storetest.NewCreation(hub, "AA-000")); err != nil {
		t.Fatal(err)
	}
	for page := 1; page < last; page++ {
		ask(page, pageOf(page))
	}
}
