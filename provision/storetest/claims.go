package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

// claimed returns the first connection of a device that needs a claim.
func claimed(hub provision.Hub, name string, policy provision.ClaimPolicy) provision.Creation {
	c := NewCreation(hub, name)
	c.Claim = policy
	return c
}

// allClaims lists the hub's claims page by page: name → used.
func allClaims(ctx context.Context, s Store, hub provision.HubID, limit int) (map[string]bool, error) {
	all := map[string]bool{}
	for cursor := ""; ; {
		page, next, err := s.ListClaims(ctx, hub, cursor, limit)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			all[c.Name] = c.Used
		}
		if next == "" {
			return all, nil
		}
		cursor = next
	}
}

func testClaims(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub, neighbour := got(CreateHub(ctx, s))(t), got(CreateHub(ctx, s))(t)
	wantEqual(t, "claims of a new hub", got(s.CountClaims(ctx, hub.ID))(t), 0)
	wantEqual(t, "names that are new, one of them twice", got(s.PutClaims(ctx, hub.ID, []string{"a", "b", "a"}))(t), 2)
	wantEqual(t, "one more of two", got(f.replica(t).PutClaims(ctx, hub.ID, []string{"b", "c"}))(t), 1)
	wantEqual(t, "none", got(s.PutClaims(ctx, hub.ID, nil))(t), 0)
	got(s.PutClaims(ctx, neighbour.ID, []string{"a"}))(t)
	wantEqual(t, "claims", got(allClaims(ctx, s, hub.ID, 10))(t), map[string]bool{"a": false, "b": false, "c": false})
	wantEqual(t, "number", got(s.CountClaims(ctx, hub.ID))(t), 3)

	_, created, err := s.CreateDevice(ctx, claimed(hub, "a", provision.ClaimOnce))
	must(t, err)
	wantEqual(t, "created with a claim", created, true)
	wantEqual(t, "claims after it", got(allClaims(ctx, s, hub.ID, 10))(t), map[string]bool{"a": true, "b": false, "c": false})
	got(s.PutClaims(ctx, hub.ID, []string{"a"}))(t)
	wantEqual(t, "a used one that is put again", got(allClaims(ctx, s, hub.ID, 10))(t)["a"], true)

	wantEqual(t, "removed, one of them twice", got(s.RemoveClaims(ctx, hub.ID, []string{"a", "x", "a"}))(t), 1)
	wantEqual(t, "removed of none", got(s.RemoveClaims(ctx, hub.ID, nil))(t), 0)
	wantEqual(t, "number after it", got(s.CountClaims(ctx, hub.ID))(t), 2)
	got(s.PutClaims(ctx, hub.ID, []string{"a"}))(t)
	wantEqual(t, "one that was removed and put again", got(allClaims(ctx, s, hub.ID, 10))(t)["a"], false)

	must(t, s.ClearClaims(ctx, hub.ID))
	must(t, s.ClearClaims(ctx, hub.ID))
	wantEqual(t, "claims of a list that was cleared", len(got(allClaims(ctx, s, hub.ID, 10))(t)), 0)
	wantEqual(t, "their number", got(s.CountClaims(ctx, hub.ID))(t), 0)
	wantEqual(t, "claims of another hub", got(allClaims(ctx, s, neighbour.ID, 10))(t), map[string]bool{"a": false})
	// Claims are no news to anybody.
	wantEqual(t, "events of the hub", messages(got(hubEvents(ctx, s, hub.ID))(t)), []string{"hub was created", "device was auto-provisioned"})
	wantEqual(t, "hub", got(s.Hub(ctx, hub.ID))(t), hub)
}

// testClaimNeeded: who needs a claim has one or is refused, and whoever is
// refused leaves nothing behind.
func testClaimNeeded(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	got(s.PutClaims(ctx, hub.ID, []string{"listed", "once", "refused"}))(t)
	create := func(name string, policy provision.ClaimPolicy) (bool, error) {
		_, created, err := f.replica(t).CreateDevice(ctx, claimed(hub, name, policy))
		return created, err
	}
	forget := func(name string) {
		t.Helper()
		must(t, deleteDevice(ctx, s, NewDevice(hub.ID, name)))
	}
	for _, policy := range []provision.ClaimPolicy{provision.ClaimListed, provision.ClaimOnce} {
		_, err := create("stranger", policy)
		wantErr(t, "a name that is not on the list, "+string(policy), err, provision.ErrNotClaimed)
	}
	_, err := s.Device(ctx, hub.ID, "stranger")
	wantErr(t, "device that was refused", err, provision.ErrNotFound)
	wantEqual(t, "created without the need", got(create("stranger", provision.NoClaims))(t), true)
	// A known device needs none.
	wantEqual(t, "created again", got(create("stranger", provision.ClaimOnce))(t), false)
	for range 2 {
		wantEqual(t, "created as listed", got(create("listed", provision.ClaimListed))(t), true)
		forget("listed")
	}
	_, err = create("listed", provision.ClaimOnce)
	wantErr(t, "once, after it was used", err, provision.ErrNotClaimed)
	wantEqual(t, "created once", got(create("once", provision.ClaimOnce))(t), true)
	wantEqual(t, "the same device", got(create("once", provision.ClaimOnce))(t), false)
	forget("once")
	_, err = create("once", provision.ClaimOnce)
	wantErr(t, "twice", err, provision.ErrNotClaimed)
	wantEqual(t, "listed, though used", got(create("once", provision.ClaimListed))(t), true)

	full := claimed(hub, "refused", provision.ClaimOnce)
	full.MaxDevices = 1
	_, _, err = s.CreateDevice(ctx, full)
	wantErr(t, "claimed, on a full hub", err, provision.ErrQuota)
	wantEqual(t, "a claim whose creation was refused is used", got(allClaims(ctx, s, hub.ID, 10))(t)["refused"], false)

	// Neither a hub that is gone nor a later one of that ID has any.
	must(t, s.DeleteHub(ctx, hub.ID, HubEvent(hub, "hub was deleted")))
	_, err = s.PutClaims(ctx, hub.ID, []string{"late"})
	wantErr(t, "claims of a hub that is gone", err, provision.ErrHubChanged)
	again := NewHub()
	again.ID = hub.ID
	_, err = s.CreateHub(ctx, again, HubEvent(again, "hub was created"))
	must(t, err)
	wantEqual(t, "claims of a deleted hub", got(s.CountClaims(ctx, hub.ID))(t), 0)
}

// testClaimPages: a list is read whole while others come and go.
func testClaimPages(t *testing.T, f Fixture) {
	const claims, batch = 3_000, 500
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	want := map[string]bool{}
	for from := 0; from < claims; from += batch {
		names := make([]string, batch)
		for i := range names {
			names[i] = fmt.Sprintf("SN-%07d", from+i)
			want[names[i]] = false
		}
		wantEqual(t, "added", got(s.PutClaims(ctx, hub.ID, names))(t), batch)
	}
	odd := []string{"\x00", "\xff", "ü"}
	wantEqual(t, "odd names added", got(s.PutClaims(ctx, hub.ID, odd))(t), len(odd))
	wantEqual(t, "odd names removed", got(s.RemoveClaims(ctx, hub.ID, odd))(t), len(odd))
	wantEqual(t, "list in pages of 100", got(allClaims(ctx, f.replica(t), hub.ID, 100))(t), want)

	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stop.Load(); i = (i + 1) % 1000 {
			name := []string{fmt.Sprintf("TMP-%07d", i)}
			if _, err := s.PutClaims(ctx, hub.ID, name); err != nil {
				t.Error(err)
				return
			}
			if _, err := s.RemoveClaims(ctx, hub.ID, name); err != nil {
				t.Error(err)
				return
			}
		}
	})
	have, err := allClaims(ctx, f.replica(t), hub.ID, 100)
	stop.Store(true)
	wg.Wait()
	must(t, err)
	for name := range want {
		if _, ok := have[name]; !ok {
			t.Fatalf("claim %s is not listed", name)
		}
	}
	must(t, s.ClearClaims(ctx, hub.ID))
	wantEqual(t, "number of a list that was cleared", got(s.CountClaims(ctx, hub.ID))(t), 0)
}

// testClaimRace: of all who bring a name that may be used once, while the device
// is deleted again and again, one creates it.
func testClaimRace(t *testing.T, f Fixture, o Options) {
	ctx := testContextOf(t)
	hub := got(CreateHub(ctx, f.Store))(t)
	names := RaceNames(20)
	got(f.Store.PutClaims(ctx, hub.ID, names))(t)
	handles := []Store{f.Store, f.replica(t)}
	var (
		mu      sync.Mutex
		created = map[string]int{}
		wg      sync.WaitGroup
	)
	for g := range o.Goroutines {
		wg.Go(func() {
			for _, name := range names {
				_, won, err := handles[g%2].CreateDevice(ctx, claimed(hub, name, provision.ClaimOnce))
				if err != nil && !errors.Is(err, provision.ErrNotClaimed) {
					t.Errorf("%s: %v", name, err)
					return
				}
				if !won {
					continue
				}
				mu.Lock()
				created[name]++
				mu.Unlock()
				if err := deleteDevice(ctx, handles[g%2], NewDevice(hub.ID, name)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	for _, name := range names {
		if created[name] != 1 {
			t.Errorf("%s was created %d times", name, created[name])
		}
	}
	wantEqual(t, "names that were created", sorted(slices.Collect(maps.Keys(created))), names)
}
