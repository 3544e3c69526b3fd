package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

func testPaging(t *testing.T, f Fixture) {
	const devices = 101
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	var created []string
	for i := range devices {
		// Created in another order than that of the names.
		name := fmt.Sprintf("chip-%03d", i*37%devices)
		created = append(created, name)
		_, _, err := s.CreateDevice(ctx, NewCreation(hub, name))
		must(t, err)
	}
	for _, limit := range []int{1, 2, 50, devices - 1, devices, devices + 1, 1 << 20} {
		what := fmt.Sprintf(", pages of %d", limit)
		wantEqual(t, "by creation"+what, listedNames(got(allDevices(ctx, s, hub.ID, provision.ByCreation, limit))(t)), created)
		wantEqual(t, "by name"+what, listedNames(got(allDevices(ctx, s, hub.ID, provision.ByName, limit))(t)), sorted(created))
	}
	for _, order := range []provision.Order{provision.ByName, provision.ByCreation} {
		page, next, err := s.Devices(ctx, hub.ID, order, "", devices)
		must(t, err)
		wantEqual(t, "cursor after the page that holds all", next, "")
		want := got(s.Device(ctx, hub.ID, page[0].Name))(t)
		wantEqual(t, "listed device", page[0], want)

		// A cursor is a place, not a device: it works when its device is gone.
		page, next, err = s.Devices(ctx, hub.ID, order, "", 10)
		must(t, err)
		must(t, deleteDevice(ctx, s, page[9]))
		rest, _, err := f.replica(t).Devices(ctx, hub.ID, order, next, 1<<20)
		must(t, err)
		all := got(allDevices(ctx, s, hub.ID, order, 1<<20))(t)
		wantEqual(t, "pages around a deleted device", listedNames(append(page[:9:9], rest...)), listedNames(all))
		_, _, err = s.CreateDevice(ctx, NewCreation(hub, page[9].Name))
		must(t, err)
	}
}

// testPagingConcurrent: devices that are there from first page to last are
// listed exactly once, whatever comes and goes around them.
func testPagingConcurrent(t *testing.T, f Fixture) {
	const stable, churners, listings = 150, 4, 12
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	churn, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, churners)
	churned := make(chan struct{}, 1)
	for c := range churners {
		replica := f.replica(t)
		wg.Go(func() {
			for i := 0; churn.Err() == nil; i++ {
				d := NewCreation(hub, fmt.Sprintf("chip-%03d-churn-%d", i*7%stable, c))
				if _, _, err := replica.CreateDevice(ctx, d); err != nil {
					errs[c] = err
					return
				}
				if err := deleteDevice(ctx, replica, d.Device); err != nil {
					errs[c] = err
					return
				}
				select {
				case churned <- struct{}{}:
				default:
				}
			}
		})
	}
	for i := range stable {
		_, _, err := s.CreateDevice(ctx, NewCreation(hub, fmt.Sprintf("chip-%03d", i)))
		must(t, err)
	}
	for i := range listings {
		<-churned
		order := provision.Order(i % 2)
		seen := map[string]int{}
		for _, d := range got(allDevices(ctx, s, hub.ID, order, 1+i*5))(t) {
			seen[d.Name]++
		}
		for i := range stable {
			if name := fmt.Sprintf("chip-%03d", i); seen[name] != 1 {
				t.Errorf("order %d: %s is listed %d times", order, name, seen[name])
			}
		}
	}
	stop()
	wg.Wait()
	must(t, errors.Join(errs...))
	wantEqual(t, "devices", got(s.CountDevices(ctx, hub.ID))(t), stable)
}

func testPrefix(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	for _, name := range []string{"a", "ab", "abc", "abd", "abé", "ac", "b", "Ab"} {
		_, _, err := s.CreateDevice(ctx, NewCreation(hub, name))
		must(t, err)
	}
	for prefix, want := range map[string][]string{
		"": {"Ab", "a", "ab", "abc", "abd", "abé", "ac", "b"}, "ab": {"ab", "abc", "abd", "abé"}, "abc": {"abc"}, "abcd": nil, "c": nil, "A": {"Ab"},
	} {
		for _, limit := range []int{1, 2, 3, 100} {
			var names []string
			var after []string
			list := provision.DeviceList{Order: provision.ByName, Prefix: prefix, Limit: limit}
			for {
				page, next, err := f.replica(t).ListDevices(ctx, hub.ID, list)
				must(t, err)
				for _, d := range page {
					names, after = append(names, d.Name), append(after, d.After)
				}
				if list.Cursor = next; next == "" {
					break
				}
			}
			wantEqual(t, fmt.Sprintf("prefix %q by %d", prefix, limit), names, want)
			for i, cursor := range after { // each place in the list is one to go on from
				page, _, err := s.ListDevices(ctx, hub.ID, provision.DeviceList{Order: provision.ByName, Prefix: prefix, Cursor: cursor, Limit: 100})
				must(t, err)
				wantEqual(t, "devices after a place in the list", len(page), len(want)-i-1)
			}
		}
	}
}
