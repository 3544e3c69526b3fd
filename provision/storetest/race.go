package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

// RaceNames are the names that the racing processes create.
func RaceNames(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("chip-%05d", i)
	}
	return all
}

// Race is one racing process: every goroutine makes the first connection of
// every name, in the same order, so that they meet. It returns the names that
// this process was told it created, and an error if two of its callers were
// told of different devices under one name. process tells the devices of
// several processes apart; together their results go to CheckRace.
func Race(ctx context.Context, s provision.Store, hub provision.Hub, names []string, goroutines, process int) ([]string, error) {
	var (
		mu      sync.Mutex
		created []string
		seen    = make(map[string]netip.Addr, len(names)) // whose device won
		errs    = make([]error, goroutines)
		wg      sync.WaitGroup
	)
	for g := range goroutines {
		from := netip.AddrFrom4([4]byte{10, byte(process), byte(g >> 8), byte(g)})
		wg.Go(func() {
			for _, name := range names {
				c := NewCreation(hub, name)
				c.Device.ProvisionedFrom, c.Event.SourceAddress = from, from.String()
				c.Device.Description = provision.ProvisionedBy(from)
				d, won, err := s.CreateDevice(ctx, c)
				if err != nil {
					errs[g] = fmt.Errorf("create %s: %w", name, err)
					return
				}
				mu.Lock()
				if won {
					created = append(created, name)
				}
				if first, ok := seen[name]; ok && first != d.ProvisionedFrom {
					errs[g] = fmt.Errorf("%s is the device of %s and of %s", name, first, d.ProvisionedFrom)
				}
				seen[name] = d.ProvisionedFrom
				mu.Unlock()
				if won && d.ProvisionedFrom != from {
					errs[g] = fmt.Errorf("%s was created for %s but belongs to %s", name, from, d.ProvisionedFrom)
					return
				}
			}
		})
	}
	wg.Wait()
	return created, errors.Join(errs...)
}

// CheckRace checks what the races left behind: exactly one device and one event
// per name, and exactly one caller of all processes that created it. created
// are the results of all races together.
func CheckRace(ctx context.Context, s Store, hub provision.HubID, names, created []string) error {
	var errs []error
	if want, have := sorted(names), sorted(created); !slices.Equal(have, want) {
		errs = append(errs, fmt.Errorf("%d callers created %d of %d names", len(have), len(slices.Compact(have)), len(want)))
	}
	events, err := hubEvents(ctx, s, hub)
	if err != nil {
		return err
	}
	sources := map[string][]string{}
	for _, e := range events {
		if e.ObjectType == provision.ObjectDevice {
			sources[e.ObjectID] = append(sources[e.ObjectID], e.SourceAddress)
		}
	}
	count, err := s.CountDevices(ctx, hub)
	if err != nil {
		return err
	}
	if count != len(names) || len(sources) != len(names) {
		errs = append(errs, fmt.Errorf("%d devices are counted and %d have events, want %d", count, len(sources), len(names)))
	}
	for _, order := range []provision.Order{provision.ByName, provision.ByCreation} {
		devices, err := allDevices(ctx, s, hub, order, 777)
		if err != nil {
			return err
		}
		if have := sorted(listedNames(devices)); !slices.Equal(have, sorted(names)) {
			errs = append(errs, fmt.Errorf("%d devices are listed in order %d, want %d", len(have), order, len(names)))
		}
		for _, d := range devices {
			if from := sources[d.ID.String()]; len(from) != 1 || from[0] != d.ProvisionedFrom.String() {
				errs = append(errs, fmt.Errorf("device %s of %s has events from %v", d.Name, d.ProvisionedFrom, from))
			}
		}
	}
	return errors.Join(errs...)
}

func testRace(t *testing.T, f Fixture, o Options) {
	ctx := testContextOf(t)
	hub := got(CreateHub(ctx, f.Store))(t)
	names := RaceNames(o.Names)
	created, err := Race(ctx, f.Store, hub, names, o.Goroutines, 0)
	must(t, err)
	must(t, CheckRace(ctx, f.Store, hub.ID, names, created))
}
