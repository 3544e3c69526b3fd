package iot_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	sdk "github.com/scaleway/scaleway-sdk-go/api/iot/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
)

// fleetSize is how many devices are listed while more are created.
func fleetSize() int {
	if os.Getenv("HUBGATE_SOAK") != "" {
		return 100_000
	}
	return 2_000
}

// fill creates devices on the hub, from as many writers as are given, and
// returns their names.
func (w *world) fill(ctx context.Context, hub provision.Hub, prefix string, n, writers int) error {
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for j := i; j < n && ctx.Err() == nil; j += writers {
				if _, _, err := w.store.CreateDevice(ctx, storetest.NewCreation(hub, fmt.Sprintf("%s-%06d", prefix, j))); err != nil && ctx.Err() == nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// newHub creates a hub, and returns what the store has of it.
func (w *world) newHub(t *testing.T, c *client) provision.Hub {
	t.Helper()
	h := must(c.CreateHub(&sdk.CreateHubRequest{Name: newName()}))(t)
	return must(w.store.Hub(t.Context(), must(provision.ParseHubID(h.ID))(t)))(t)
}

// testListing: a large fleet is listed, page after page as the SDK does it,
// without loss or repeat, while devices are created before, among and after
// those there are.
func testListing(t *testing.T, w *world) {
	c := w.as(t, viewer)
	hub := w.newHub(t, w.as(t, admin))
	n := fleetSize()
	if err := w.fill(t.Context(), hub, "M", n, 16); err != nil {
		t.Fatal(err)
	}
	for _, order := range []sdk.ListDevicesRequestOrderBy{sdk.ListDevicesRequestOrderByCreatedAtAsc, sdk.ListDevicesRequestOrderByNameAsc, sdk.ListDevicesRequestOrderByHubIDDesc} {
		growing, stop := context.WithCancel(t.Context())
		grown := make(chan error, 1)
		go func() { // names before and after
			prefixes := []string{"A" + string(order), "Z" + string(order)}
			var errs []error
			for i := 0; growing.Err() == nil; i++ {
				errs = append(errs, w.fill(growing, hub, fmt.Sprintf("%s-%d", prefixes[i%2], i), 8, 2))
			}
			grown <- errors.Join(errs...)
		}()
		var devices []*sdk.Device
		var times []time.Duration
		for page := int32(1); ; page++ {
			began := time.Now()
			list := must(c.ListDevices(&sdk.ListDevicesRequest{HubID: scw.StringPtr(hub.ID.String()), OrderBy: order, Page: &page}))(t)
			times = append(times, time.Since(began))
			devices = append(devices, list.Devices...)
			// All those that were there at first are seen by then.
			if len(list.Devices) == 0 || len(devices) >= n && order != sdk.ListDevicesRequestOrderByNameAsc || len(devices) > 0 && devices[len(devices)-1].Name > "N" {
				break
			}
		}
		stop()
		if err := <-grown; err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]int)
		for _, d := range devices {
			seen[d.Name]++
		}
		for i := range n {
			if name := fmt.Sprintf("M-%06d", i); seen[name] != 1 {
				t.Fatalf("%s: %s is listed %d times", order, name, seen[name])
			}
		}
		for name, times := range seen {
			if times != 1 {
				t.Errorf("%s: %s is listed %d times", order, name, times)
			}
		}
		tenth := max(1, len(times)/10)
		t.Logf("%s: %d devices in %d pages while more were created; median page of the first tenth %s, of the last %s",
			order, len(devices), len(times), median(times[:tenth]), median(times[len(times)-tenth:]))
	}
	// The SDK's own paging.
	all := must(c.ListDevices(&sdk.ListDevicesRequest{HubID: scw.StringPtr(hub.ID.String()), OrderBy: sdk.ListDevicesRequestOrderByCreatedAtAsc}, scw.WithAllPages()))(t)
	if total := must(w.store.CountDevices(t.Context(), hub.ID))(t); len(all.Devices) != total || int(all.TotalCount) != total {
		t.Errorf("the SDK lists %d devices of %d, and a total of %d", len(all.Devices), total, all.TotalCount)
	}
	if n > 10_000 {
		for _, req := range []*sdk.ListDevicesRequest{
			{HubID: scw.StringPtr(hub.ID.String()), OrderBy: sdk.ListDevicesRequestOrderByUpdatedAtAsc},
			{HubID: scw.StringPtr(hub.ID.String()), Status: sdk.DeviceStatusDisabled},
		} {
			var invalid *scw.InvalidArgumentsError
			if _, err := c.ListDevices(req); !errors.As(err, &invalid) {
				t.Errorf("an order without an index of %d devices: %v", n, err)
			}
		}
	}
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2].Round(10 * time.Microsecond)
}

// testOrders: what can be asked of a list is answered right.
func testOrders(t *testing.T, w *world) {
	// A tenant of its own: others' hubs are not seen.
	c := w.as(t, tenant)
	first, second := w.newHub(t, c), w.newHub(t, c)
	for i, d := range []*sdk.CreateDeviceRequest{
		{HubID: first.ID.String(), Name: "c"},
		{HubID: second.ID.String(), Name: "b", AllowInsecure: true},
		{HubID: first.ID.String(), Name: "a"},
		{HubID: second.ID.String(), Name: "c"},
	} {
		created := must(c.CreateDevice(d))(t).Device
		if i == 2 {
			must(c.DisableDevice(&sdk.DisableDeviceRequest{DeviceID: created.ID}))(t)
		}
	}
	one := scw.StringPtr(first.ID.String())
	byHub := "cabc"
	if first.ID.String() > second.ID.String() {
		byHub = "bcca"
	}
	for _, tt := range []struct {
		req  sdk.ListDevicesRequest
		want string // names
	}{
		{sdk.ListDevicesRequest{}, "abcc"},
		{sdk.ListDevicesRequest{OrderBy: sdk.ListDevicesRequestOrderByNameDesc}, "ccba"},
		{sdk.ListDevicesRequest{OrderBy: sdk.ListDevicesRequestOrderByCreatedAtAsc}, "cbac"},
		{sdk.ListDevicesRequest{OrderBy: sdk.ListDevicesRequestOrderByCreatedAtDesc}, "cabc"},
		{sdk.ListDevicesRequest{OrderBy: sdk.ListDevicesRequestOrderByUpdatedAtDesc}, "cabc"},
		{sdk.ListDevicesRequest{OrderBy: sdk.ListDevicesRequestOrderByStatusAsc}, "acbc"},
		{sdk.ListDevicesRequest{OrderBy: sdk.ListDevicesRequestOrderByAllowInsecureDesc}, "bcac"},
		{sdk.ListDevicesRequest{OrderBy: sdk.ListDevicesRequestOrderByHubIDAsc}, byHub},
		{sdk.ListDevicesRequest{HubID: one}, "ac"},
		{sdk.ListDevicesRequest{HubID: one, OrderBy: sdk.ListDevicesRequestOrderByCreatedAtAsc}, "ca"},
		{sdk.ListDevicesRequest{HubID: one, OrderBy: sdk.ListDevicesRequestOrderByCreatedAtDesc}, "ac"},
		{sdk.ListDevicesRequest{Name: scw.StringPtr("c")}, "cc"},
		{sdk.ListDevicesRequest{HubID: one, Name: scw.StringPtr("b")}, ""},
		{sdk.ListDevicesRequest{AllowInsecure: scw.BoolPtr(true)}, "b"},
		{sdk.ListDevicesRequest{Status: sdk.DeviceStatusDisabled}, "a"},
		{sdk.ListDevicesRequest{Status: sdk.DeviceStatusEnabled, AllowInsecure: scw.BoolPtr(false)}, "cc"},
		{sdk.ListDevicesRequest{Status: sdk.DeviceStatusError}, ""},
	} {
		for _, size := range []uint32{1, 3, 100} {
			req := tt.req
			req.PageSize = &size
			list := must(c.ListDevices(&req, scw.WithAllPages()))(t)
			got := ""
			for _, d := range list.Devices {
				got += d.Name
			}
			if got != tt.want || int(list.TotalCount) != len(tt.want) {
				t.Errorf("%+v, pages of %d: %q, total %d; want %q", tt.req, size, got, list.TotalCount, tt.want)
			}
		}
	}
}

// testCostlyLists: lists that no index has, and pages far from those read before,
// are bounded by token; others are not.
func testCostlyLists(t *testing.T, w *world) {
	hub := w.newHub(t, w.as(t, admin))
	if err := w.fill(t.Context(), hub, "SN", 1_100, 16); err != nil {
		t.Fatal(err)
	}
	greedy := access.Principal{Name: "greedy", Role: access.Viewer}
	c := w.as(t, greedy)
	one := scw.StringPtr(hub.ID.String())
	far, size := int32(22), uint32(50)
	unindexed := &sdk.ListDevicesRequest{HubID: one, OrderBy: sdk.ListDevicesRequestOrderByUpdatedAtAsc}
	distant := &sdk.ListDevicesRequest{HubID: one, OrderBy: sdk.ListDevicesRequestOrderByNameAsc, Page: &far, PageSize: &size}
	cheap := &sdk.ListDevicesRequest{HubID: one, OrderBy: sdk.ListDevicesRequestOrderByNameAsc}
	var done []func()
	for {
		d, err := w.fleet.Costly(greedy)
		if err != nil {
			break
		}
		done = append(done, d)
	}
	for what, req := range map[string]*sdk.ListDevicesRequest{"unindexed": unindexed, "distant": distant} {
		if _, err := c.ListDevices(req); err == nil || c.status != http.StatusTooManyRequests {
			t.Errorf("%s: %d, %v", what, c.status, err)
		}
		must(w.as(t, viewer).ListDevices(req))(t)
	}
	must(c.ListDevices(cheap))(t)
	must(c.ListDevices(&sdk.ListDevicesRequest{Name: scw.StringPtr("SN-000001")}))(t)
	for _, d := range done {
		d()
	}
	must(c.ListDevices(unindexed))(t)
	must(c.ListDevices(distant))(t)
}
