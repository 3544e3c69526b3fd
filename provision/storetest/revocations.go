package storetest

import (
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

var revokedAt = time.Unix(1_790_000_000, 0).UTC()

func revocation(serial int64) provision.Revocation {
	return provision.Revocation{Issuer: trust.KeyHash{1}, Serial: big.NewInt(serial), Reason: "stolen", By: "ci", At: revokedAt}
}

// revoke adds a revocation, telling of it as an administrator would.
func revoke(s Store, t *testing.T, hub provision.HubID, v provision.Revocation) error {
	return s.UpdateRevocations(testContextOf(t), hub, func(r *provision.Revocations) error { return r.Revoke(v) },
		func(h provision.Hub) provision.Event { return HubEvent(h, "certificate was revoked") })
}

// list is a CRL of one issuer, as far as a store knows.
func list(number int64) *trust.CRL {
	return &trust.CRL{
		Issuer: trust.KeyHash{9}, Number: big.NewInt(number), ThisUpdate: revokedAt, NextUpdate: revokedAt.Add(time.Hour),
		Revoked: make([]trust.RevocationID, 3), DER: fakeDER(fmt.Sprint("CRL ", number)),
	}
}

func putCRL(s Store, t *testing.T, hub provision.HubID, c *trust.CRL, source string) error {
	return s.UpdateRevocations(testContextOf(t), hub,
		func(r *provision.Revocations) error { return r.PutCRL(c, source, revokedAt) },
		func(provision.Hub) provision.Event { return provision.Event{} })
}

func testRevocations(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	stored := got(CreateHub(ctx, s))(t)
	declared := provision.Hub{ID: provision.NewHubID(), Name: NewHub().Name, Declared: "hubs.yaml"}
	must(t, s.ClaimHub(ctx, declared))
	for _, hub := range []provision.Hub{stored, declared} {
		j := watch(t, f.replica(t), hub.ID)
		nothing := got(s.Revocations(ctx, hub.ID))(t)
		wantEqual(t, "revoked at first", len(nothing.ByHand)+len(nothing.CRLs), 0)
		key := provision.Revocation{Key: trust.KeyHash{2}, By: "ci", At: revokedAt}
		serial := revocation(7)
		must(t, revoke(s, t, hub.ID, serial))
		must(t, revoke(f.replica(t), t, hub.ID, key))
		wantErr(t, "what is revoked already", revoke(s, t, hub.ID, serial), provision.ErrUnchanged)
		must(t, putCRL(s, t, hub.ID, list(1), "https://ca.example/1.crl"))
		have := got(f.replica(t).Revocations(ctx, hub.ID))(t)
		wantEqual(t, "revoked by hand", have.ByHand, map[trust.RevocationID]provision.Revocation{serial.ID(): serial, key.ID(): key})
		crl := have.CRLs[trust.KeyHash{9}]
		if len(have.CRLs) != 1 || crl.Number.Int64() != 1 || crl.Entries != 3 || !crl.NextUpdate.Equal(revokedAt.Add(time.Hour)) ||
			len(crl.Sources) != 1 || crl.Digest != trust.FingerprintOfDER(list(1).DER) || crl.List != nil {
			t.Errorf("CRLs: %+v", have.CRLs)
		}
		wantEqual(t, "the list", got(f.replica(t).CRL(ctx, hub.ID, trust.KeyHash{9}))(t), list(1).DER)
		must(t, putCRL(s, t, hub.ID, list(2), ""))
		wantEqual(t, "the next list", got(s.CRL(ctx, hub.ID, trust.KeyHash{9}))(t), list(2).DER)
		wantErr(t, "an old list", putCRL(f.replica(t), t, hub.ID, list(1), ""), provision.ErrCRLGoesBack)
		must(t, s.UpdateRevocations(ctx, hub.ID, func(r *provision.Revocations) error {
			delete(r.ByHand, serial.ID())
			delete(r.CRLs, trust.KeyHash{9})
			return nil
		}, func(provision.Hub) provision.Event { return provision.Event{} }))
		have = got(s.Revocations(ctx, hub.ID))(t)
		wantEqual(t, "left", have.ByHand, map[trust.RevocationID]provision.Revocation{key.ID(): key})
		wantEqual(t, "CRLs left", len(have.CRLs), 0)
		_, err := s.CRL(ctx, hub.ID, trust.KeyHash{9})
		wantErr(t, "a list that is gone", err, provision.ErrNotFound)

		// Five changes: each raises both versions, and is told.
		after := got(s.Hub(ctx, hub.ID))(t)
		wantEqual(t, "version", after.Version, hub.Version+5)
		wantEqual(t, "version of what is revoked", after.Revocations, uint64(5))
		eventuallyTold(t, j, 5, provision.Change{Kind: provision.RevocationsChanged, Hub: hub.ID})
		refused := NewCreation(hub, "chip")
		_, _, err = s.CreateDevice(ctx, refused)
		wantErr(t, "a creation decided before", err, provision.ErrHubChanged)
		if _, created, err := s.CreateDevice(ctx, NewCreation(after, "chip")); err != nil || !created {
			t.Errorf("a creation decided after: created %t, %v", created, err)
		}
	}
	// What is known of a declared hub survives that it moves to another file.
	declared.Declared = "other.yaml"
	must(t, s.ClaimHub(ctx, declared))
	wantEqual(t, "version after a claim", got(s.Hub(ctx, declared.ID))(t).Version, uint64(5))
	wantEqual(t, "revoked after a claim", len(got(s.Revocations(ctx, declared.ID))(t).ByHand), 1)

	// It goes with the hub, and is nobody else's.
	must(t, s.DeleteHub(ctx, stored.ID, HubEvent(stored, "hub was deleted")))
	wantErr(t, "a revocation on a hub that is gone", revoke(s, t, stored.ID, revocation(1)), provision.ErrNotFound)
	wantEqual(t, "revoked on a hub that is gone", len(got(s.Revocations(ctx, stored.ID))(t).ByHand), 0)
}

func eventuallyTold(t *testing.T, j *journal, times int, c provision.Change) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, changes := j.state()
		n := 0
		for _, told := range changes {
			if told == c {
				n++
			}
		}
		if n == times {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("told %d times, want %d: %v", n, times, changes)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// testRevocationsRace: of those who race, each lands, and the highest number
// wins.
func testRevocationsRace(t *testing.T, f Fixture) {
	ctx := testContextOf(t)
	hub := got(CreateHub(ctx, f.Store))(t)
	handles := []Store{f.Store, f.replica(t)}
	const racers = 8
	var wg sync.WaitGroup
	errs := make([]error, racers)
	for i := range racers {
		wg.Go(func() {
			err := putCRL(handles[i%2], t, hub.ID, list(int64(i)), fmt.Sprint("source ", i))
			if err != nil && !errors.Is(err, provision.ErrCRLGoesBack) {
				errs[i] = err
				return
			}
			errs[i] = revoke(handles[i%2], t, hub.ID, revocation(int64(i)))
		})
	}
	wg.Wait()
	must(t, errors.Join(errs...))
	have := got(f.Store.Revocations(ctx, hub.ID))(t)
	wantEqual(t, "revoked by hand", len(have.ByHand), racers)
	wantEqual(t, "number", have.CRLs[trust.KeyHash{9}].Number.Int64(), int64(racers-1))
	wantEqual(t, "list", got(f.Store.CRL(ctx, hub.ID, trust.KeyHash{9}))(t), list(racers-1).DER)
}
