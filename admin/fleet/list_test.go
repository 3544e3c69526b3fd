package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
	"github.com/hubgate/hubgate/trust"
)

// all lists devices page by page.
func (r *rig) all(hub string, q fleet.DeviceQuery) (names []string, pages int) {
	r.t.Helper()
	for {
		page, next, err := r.fleet.Devices(r.t.Context(), viewer, hub, q)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(page) > q.Limit || next != "" && next == q.Cursor {
			r.t.Fatalf("a page of %d, limit %d; cursor %q after %q", len(page), q.Limit, next, q.Cursor)
		}
		for _, d := range page {
			names = append(names, d.Name)
		}
		pages++
		if q.Cursor = next; next == "" {
			return names, pages
		}
	}
}

func TestDevicesAreFiltered(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		r := newRig(t, open(t))
		h := r.hub("factory")
		hub := must(r.store.Hub(t.Context(), h.ID))(t)
		anchor := trust.KeyHash{7}
		envoy := provision.EnvoyID{Node: "edge", Epoch: "00112233445566778899aabbccddeeff"}
		if err := r.store.RenewEnvoy(t.Context(), envoy, time.Minute); err != nil {
			t.Fatal(err)
		}
		is := map[string][]string{} // names by what they are
		for i := range 60 {
			name := fmt.Sprintf("%c-%02d", 'a'+i%3, 59-i)
			c := storetest.NewCreation(hub, name)
			c.Device.Disabled = i%4 == 0
			if i%5 == 0 {
				c.Device.Anchor = anchor
			}
			if _, _, err := r.store.CreateDevice(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if i%6 == 0 {
				now := time.Now()
				s := provision.Session{ID: uuid.Must(uuid.NewV7()).String(), Hub: h.ID, Device: c.Device.ID, DeviceName: name,
					Protocol: provision.TCP, Envoy: envoy, Connection: uint64(i + 1), Since: now, LastActivity: now, Confirmed: true}
				if _, _, err := r.store.PutSession(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			for what, so := range map[string]bool{
				"disabled": i%4 == 0, "enabled": i%4 != 0, "anchored": i%5 == 0, "connected": i%6 == 0, "not connected": i%6 != 0,
				"a-": i%3 == 0, "enabled a-": i%4 != 0 && i%3 == 0, "": true, "none": false,
			} {
				if so {
					is[what] = append(is[what], name)
				}
			}
		}
		for what, q := range map[string]fleet.DeviceQuery{
			"":              {},
			"disabled":      {Enabled: ptr(false)},
			"enabled":       {Enabled: ptr(true)},
			"anchored":      {Anchor: &anchor},
			"connected":     {Connected: ptr(true)},
			"not connected": {Connected: ptr(false)},
			"a-":            {NamePrefix: "a-"},
			"enabled a-":    {NamePrefix: "a-", Enabled: ptr(true)},
			"none":          {Anchor: &trust.KeyHash{9}},
		} {
			for _, q.Order = range []provision.Order{provision.ByName, provision.ByCreation} {
				want := slices.Clone(is[what])
				if q.Order == provision.ByName {
					slices.Sort(want)
				}
				for _, q.Limit = range []int{1, 3, 7, 100} {
					if got, _ := r.all("factory", q); !slices.Equal(got, want) {
						t.Errorf("%q in order %d by %d:\n got %v\nwant %v", what, q.Order, q.Limit, got, want)
					}
				}
			}
		}
		if described := must(r.fleet.Hub(t.Context(), viewer, "factory"))(t); described.Devices != 60 || described.Connected != 10 {
			t.Errorf("counted %d devices, %d connected", described.Devices, described.Connected)
		}
	})
}

// TestManyDevicesAreListed: what is there from first page to last is listed
// once, while devices come, and a page costs the same anywhere. HUBGATE_SOAK=1
// lists 100,000.
func TestManyDevicesAreListed(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		total, page := 6_000, 250
		if os.Getenv("HUBGATE_SOAK") == "1" {
			total, page = 100_000, 1_000
		}
		r := newRig(t, open(t))
		h := r.hub("factory")
		hub := must(r.store.Hub(t.Context(), h.ID))(t)
		if err := storetest.CreateDevices(t.Context(), r.store, hub, total); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				// Between the others by name.
				c := storetest.NewCreation(hub, fmt.Sprintf("bulk-%06d-%d", i*7919%total, i))
				if _, _, err := r.store.CreateDevice(ctx, c); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
		defer func() { stop(); wg.Wait() }()
		for _, order := range []provision.Order{provision.ByName, provision.ByCreation} {
			var took []time.Duration
			seen := make(map[string]int)
			q := fleet.DeviceQuery{Order: order, Limit: page}
			for {
				start := time.Now()
				devices, next, err := r.fleet.Devices(t.Context(), viewer, "factory", q)
				if err != nil {
					t.Fatal(err)
				}
				took = append(took, time.Since(start))
				for _, d := range devices {
					seen[d.Name]++
				}
				// Devices keep coming at the end, perhaps faster than they are listed.
				if q.Cursor = next; next == "" || len(took) > 3*total/page {
					break
				}
			}
			for i := range total {
				if name := fmt.Sprintf("bulk-%06d", i); seen[name] != 1 {
					t.Fatalf("order %d: %s is listed %d times", order, name, seen[name])
				}
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("order %d: %s is listed %d times", order, name, n)
				}
			}
			tenth := len(took) / 10
			t.Logf("order %d: %d pages; the first tenth took %s each, the last %s", order, len(took), mean(took[:tenth]), mean(took[len(took)-tenth:]))
		}
	})
}

func mean(all []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return (sum / time.Duration(len(all))).Round(10 * time.Microsecond)
}

func TestHubsAreListed(t *testing.T) {
	t.Parallel()
	r := newRig(t, openBolt(t))
	r.declare("declared", root(t, "Declared root"))
	for i := range 7 {
		r.hub(fmt.Sprint("hub-", i), func(s *fleet.HubSpec) {
			if i%2 == 0 {
				s.Project = project
			}
		})
	}
	for _, limit := range []int{1, 2, 3, 100} {
		for name, want := range map[string]string{
			"all": "declared hub-0 hub-1 hub-2 hub-3 hub-4 hub-5 hub-6", "tenant": "hub-0 hub-2 hub-4 hub-6", "project": "hub-0 hub-2 hub-4 hub-6", "name": "hub-3",
		} {
			who, q := viewer, fleet.HubQuery{Limit: limit}
			switch name {
			case "tenant":
				who = tenant
			case "project":
				q.Project = project
			case "name":
				q.Name = "hub-3"
			}
			var names []string
			for {
				page, next, err := r.fleet.Hubs(t.Context(), who, q)
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range page {
					names = append(names, h.Name)
				}
				if q.Cursor = next; next == "" {
					break
				}
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%s by %d: %s, want %s", name, limit, got, want)
			}
		}
	}
}

// TestDeletionIsFinished: a hub whose deletion was cut short is deleting for
// who looks, and goes.
func TestDeletionIsFinished(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		r := newRig(t, open(t))
		h := r.hub("factory")
		hub := must(r.store.Hub(t.Context(), h.ID))(t)
		if err := storetest.CreateDevices(t.Context(), r.store, hub, 3_000); err != nil {
			t.Fatal(err)
		}
		ctx, cut := context.WithCancel(t.Context())
		deleted := make(chan struct{})
		go func() {
			defer close(deleted)
			_ = r.store.DeleteHub(ctx, h.ID, provision.Deleted.OnHub(hub, time.Now())) // it is cut short
		}()
		eventually(t, "the hub is marked", func() bool {
			now, err := r.store.Hub(t.Context(), h.ID)
			return err != nil || now.Deleting
		})
		cut()
		<-deleted
		shown, err := r.fleet.Hub(t.Context(), viewer, h.ID.String())
		if err == nil && shown.Status() != fleet.Deleting || err != nil && !errors.Is(err, provision.ErrNotFound) {
			t.Errorf("while it goes: %s, %v", shown.Status(), err)
		}
		eventually(t, "the hub is gone", func() bool {
			_, err := r.fleet.Hub(t.Context(), viewer, h.ID.String())
			return errors.Is(err, provision.ErrNotFound)
		})
		if got := r.reasons(h.ID); got[len(got)-1] != "deleted" || slices.Index(got, "deleted") != len(got)-1 {
			t.Errorf("events end with %v", got[len(got)-2:])
		}
		r.hub("factory") // its name is free
	})
}
