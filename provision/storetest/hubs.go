package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

func testHubCreated(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	want := NewHub()
	want.SNIOnly, want.UnicodeNames = true, true
	event := HubEvent(want, "hub was created")
	created := got(s.CreateHub(ctx, want, event))(t)
	want.Version = 1
	wantEqual(t, "created hub", created, want)
	wantEqual(t, "hub by ID", got(s.Hub(ctx, want.ID))(t), want)
	wantEqual(t, "hub by name", got(f.replica(t).HubByName(ctx, want.Name))(t), want)
	wantEqual(t, "events", got(hubEvents(ctx, s, want.ID))(t), []provision.Event{event})

	_, err := s.Hub(ctx, provision.NewHubID())
	wantErr(t, "hub of an unknown ID", err, provision.ErrNotFound)
	_, err = s.HubByName(ctx, "no-such-hub-"+randomHex(8))
	wantErr(t, "hub of an unknown name", err, provision.ErrNotFound)
}

func testHubUnique(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	first := got(CreateHub(ctx, s))(t)

	sameName := NewHub()
	sameName.Name = first.Name
	_, err := s.CreateHub(ctx, sameName, HubEvent(sameName, "must not happen"))
	wantErr(t, "same name", err, provision.ErrExists)

	sameID := NewHub()
	sameID.ID = first.ID
	_, err = s.CreateHub(ctx, sameID, HubEvent(sameID, "must not happen"))
	wantErr(t, "same ID", err, provision.ErrExists)

	_, err = s.CreateHub(ctx, first, HubEvent(first, "must not happen"))
	wantErr(t, "the same again", err, provision.ErrExists)

	wantEqual(t, "the first hub", got(s.HubByName(ctx, first.Name))(t), first)
	_, err = s.Hub(ctx, sameName.ID)
	wantErr(t, "hub that was refused for its name", err, provision.ErrNotFound)
	_, err = s.HubByName(ctx, sameID.Name)
	wantErr(t, "name of a hub that was refused for its ID", err, provision.ErrNotFound)
	wantEqual(t, "events", messages(got(hubEvents(ctx, s, first.ID))(t)), []string{"hub was created"})
	wantEqual(t, "events of a refused hub", len(got(hubEvents(ctx, s, sameName.ID))(t)), 0)

	// The name is reserved in another partition than the hub is stored in, so
	// this is a race of its own.
	name := NewHub().Name
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			h := NewHub()
			h.Name = name
			_, errs[i] = s.CreateHub(ctx, h, HubEvent(h, "hub was created"))
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantErr(t, "one of 16 hubs of one name", err, provision.ErrExists)
		}
	}
	wantEqual(t, "hubs that got the name", won, 1)
	wantEqual(t, "name of the hub that got it", got(s.HubByName(ctx, name))(t).Name, name)
}

func testHubsByPartition(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	want := map[provision.HubID]provision.StoredHub{}
	for i := range 20 {
		created := got(CreateHub(ctx, s))(t)
		h := provision.StoredHub{Hub: &created}
		if i%2 == 0 {
			h.Learned = [][]byte{fakeDER(fmt.Sprint("learned by hub ", i))}
			must(t, s.Learn(ctx, h.ID, h.Learned))
		}
		want[h.ID] = h
	}
	declared := provision.Hub{ID: provision.NewHubID(), Name: NewHub().Name, Declared: "hubs.yaml"}
	must(t, s.ClaimHub(ctx, declared))
	want[declared.ID] = provision.StoredHub{Hub: &declared}
	seen := map[provision.HubID]provision.StoredHub{}
	for p := range s.Partitions() {
		for _, h := range got(s.Hubs(ctx, p))(t) {
			if h.ID.Partition(s.Partitions()) != p {
				t.Errorf("hub %s is listed in partition %d", h.ID, p)
			}
			if _, twice := seen[h.ID]; twice {
				t.Errorf("hub %s is listed twice", h.ID)
			}
			seen[h.ID] = h
		}
	}
	for id, h := range want {
		wantEqual(t, "listed hub", seen[id], h)
	}
}

func testClaim(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := NewHub()
	hub.Declared = "a.yaml"
	must(t, s.ClaimHub(ctx, hub))
	must(t, s.ClaimHub(ctx, hub)) // as the next replica, or the next start
	// Settings of a declared hub live in its file, never in the store.
	known := provision.Hub{ID: hub.ID, Name: hub.Name, Declared: "a.yaml"}
	wantEqual(t, "claimed hub", got(s.Hub(ctx, hub.ID))(t), known)
	wantEqual(t, "claimed hub by name", got(s.HubByName(ctx, hub.Name))(t), known)
	wantEqual(t, "events of a claim", len(got(hubEvents(ctx, s, hub.ID))(t)), 0)

	known.Declared = "b.yaml"
	must(t, s.ClaimHub(ctx, known))
	wantEqual(t, "hub that moved to another file", got(s.Hub(ctx, hub.ID))(t), known)

	oldName := known.Name
	known.Name = NewHub().Name
	must(t, s.ClaimHub(ctx, known))
	wantEqual(t, "hub that was renamed in its file", got(s.HubByName(ctx, known.Name))(t), known)
	_, err := s.HubByName(ctx, oldName)
	wantErr(t, "its old name", err, provision.ErrNotFound)

	other := provision.Hub{ID: provision.NewHubID(), Name: known.Name, Declared: "b.yaml"}
	wantErr(t, "claim of a declared hub's name", s.ClaimHub(ctx, other), provision.ErrExists)
	stored := got(CreateHub(ctx, s))(t)
	other.Name = stored.Name
	wantErr(t, "claim of a stored hub's name", s.ClaimHub(ctx, other), provision.ErrExists)
	other.ID, other.Name = stored.ID, NewHub().Name
	wantErr(t, "claim of a stored hub's ID", s.ClaimHub(ctx, other), provision.ErrExists)
	wantEqual(t, "the stored hub", got(s.Hub(ctx, stored.ID))(t), stored)

	taken := NewHub()
	taken.Name = known.Name
	_, err = s.CreateHub(ctx, taken, HubEvent(taken, "must not happen"))
	wantErr(t, "stored hub of a declared name", err, provision.ErrExists)

	_, err = updateHub(ctx, s, known.ID, func(h *provision.Hub) error { h.Disabled = true; return nil })
	wantErr(t, "edit of a declared hub", err, provision.ErrNotFound)
	wantEqual(t, "the declared hub", got(s.Hub(ctx, known.ID))(t), known)

	_, created, err := s.CreateDevice(ctx, NewCreation(known, "chip-1"))
	must(t, err)
	wantEqual(t, "device of a declared hub created", created, true)
	must(t, s.DeleteHub(ctx, known.ID, HubEvent(known, "hub was deleted")))
	must(t, s.ClaimHub(ctx, known)) // declared again, and empty
	wantEqual(t, "devices of a hub that was deleted and declared again", got(s.CountDevices(ctx, known.ID))(t), 0)
}

func testHubUpdated(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	updated := got(updateHub(ctx, s, hub.ID, func(h *provision.Hub) error {
		h.Disabled = true
		h.Anchors = h.Anchors[:1]
		// What is not an administrator's to set stays.
		h.ID, h.Version, h.Declared, h.Deleting = provision.NewHubID(), 77, "x.yaml", true
		return nil
	}))(t)
	want := hub
	want.Version, want.Disabled, want.Anchors = 2, true, hub.Anchors[:1]
	wantEqual(t, "updated hub", updated, want)
	wantEqual(t, "updated hub, read by a replica", got(f.replica(t).Hub(ctx, hub.ID))(t), want)

	refused := errors.New("refused by change")
	_, err := updateHub(ctx, s, hub.ID, func(h *provision.Hub) error { h.Disabled = false; return refused })
	wantErr(t, "update whose change fails", err, refused)
	wantEqual(t, "hub after it", got(s.Hub(ctx, hub.ID))(t), want)
	wantEqual(t, "events", messages(got(hubEvents(ctx, s, hub.ID))(t)), []string{"hub was created", "hub was changed"})

	_, err = updateHub(ctx, s, provision.NewHubID(), func(*provision.Hub) error { return nil })
	wantErr(t, "update of no hub", err, provision.ErrNotFound)
}

func testHubRenamed(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub, other := got(CreateHub(ctx, s))(t), got(CreateHub(ctx, s))(t)
	renameTo := func(name string) func(*provision.Hub) error {
		return func(h *provision.Hub) error { h.Name = name; return nil }
	}
	_, err := updateHub(ctx, s, hub.ID, renameTo(other.Name))
	wantErr(t, "rename to a taken name", err, provision.ErrExists)
	wantEqual(t, "hub after it", got(s.HubByName(ctx, hub.Name))(t), hub)

	name := NewHub().Name
	renamed := got(updateHub(ctx, s, hub.ID, renameTo(name)))(t)
	wantEqual(t, "hub by its new name", got(s.HubByName(ctx, name))(t), renamed)
	_, err = s.HubByName(ctx, hub.Name)
	wantErr(t, "its old name", err, provision.ErrNotFound)
	again := NewHub()
	again.Name = hub.Name
	_, err = s.CreateHub(ctx, again, HubEvent(again, "hub was created"))
	must(t, err)
}

func testHubUpdatesConcurrent(t *testing.T, f Fixture) {
	const writers, each = 8, 5
	ctx := testContextOf(t)
	hub := got(CreateHub(ctx, f.Store))(t)
	handles := []Store{f.Store, f.replica(t)}
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				_, err := updateHub(ctx, handles[w%2], hub.ID, func(h *provision.Hub) error {
					h.Intermediates = append(h.Intermediates, fakeDER(fmt.Sprint("intermediate ", w, i)))
					return nil
				})
				errs[w] = errors.Join(errs[w], err)
			}
		})
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	after := got(f.Store.Hub(ctx, hub.ID))(t)
	wantEqual(t, "version", after.Version, hub.Version+writers*each)
	for w := range writers {
		for i := range each {
			der := fakeDER(fmt.Sprint("intermediate ", w, i))
			if !slices.ContainsFunc(after.Intermediates, func(b []byte) bool { return slices.Equal(b, der) }) {
				t.Errorf("update %d of writer %d is lost", i, w)
			}
		}
	}
	wantEqual(t, "events", len(got(hubEvents(ctx, f.Store, hub.ID))(t)), 1+writers*each)
}

func wantEqual(t *testing.T, what string, have, want any) {
	t.Helper()
	if !reflect.DeepEqual(have, want) {
		t.Errorf("%s:\n  have %+v\n  want %+v", what, have, want)
	}
}
