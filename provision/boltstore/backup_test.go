package boltstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
)

// filled returns a store with some of everything.
func filled(t *testing.T) (*Store, provision.Hub) {
	t.Helper()
	s := start(t, Config{})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		storetest.CreateDevices(t.Context(), s, hub, 200),
		s.Learn(t.Context(), hub.ID, [][]byte{[]byte("line")}),
		s.ClaimHub(t.Context(), provision.Hub{ID: provision.NewHubID(), Name: "declared", Declared: "hubs.yaml"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutClaims(t.Context(), hub.ID, []string{"claimed-1", "claimed-2"}); err != nil {
		t.Fatal(err)
	}
	return s, hub
}

func backup(t *testing.T, s *Store) string {
	t.Helper()
	var b bytes.Buffer
	n, err := s.Backup(t.Context(), &b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("backup of %d bytes, %d written: %v", n, b.Len(), err)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	write(t, path, b.Bytes())
	return path
}

func TestBackupWhileServing(t *testing.T) {
	t.Parallel()
	s, hub := filled(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		var err error
		for i := 0; ctx.Err() == nil && err == nil; i++ {
			d := storetest.NewCreation(hub, "churn")
			if _, _, err = s.CreateDevice(t.Context(), d); err == nil {
				err = s.DeleteDevice(t.Context(), hub.ID, d.Device.ID, func(d provision.Device) provision.Event {
					return storetest.DeviceEvent(d, "device was deleted")
				})
			}
		}
		done <- err
	}()
	for range 5 {
		report, err := Verify(backup(t, s))
		if err != nil {
			t.Fatal(err)
		}
		if report.StoreID != s.ID() || report.Hubs != 2 || report.Devices < 200 || report.Devices > 201 || report.Learned != 1 || report.Claims != 2 || report.Events < 201 {
			t.Errorf("%+v", report)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := s.Backup(ctx, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("backup with a canceled context: %v", err)
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	s, hub := filled(t)
	saved := backup(t, s)
	path := filepath.Join(t.TempDir(), "restored.db")
	report, err := Restore(saved, path, false)
	if err != nil || report.Devices != 200 {
		t.Fatalf("%+v, %v", report, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Restore(saved, path, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("restore over a file: %v", err)
	}
	write(t, path, []byte("broken"))
	if _, err := Restore(saved, path, true); err != nil {
		t.Errorf("forced restore over a broken file: %v", err)
	}
	restored := start(t, Config{Path: path, Owner: "hubgate serve"})
	if restored.ID() != s.ID() {
		t.Error("the restored store is another")
	}
	if _, created, err := restored.CreateDevice(t.Context(), storetest.NewCreation(hub, "new")); err != nil || !created {
		t.Errorf("creation on the restored store: %t, %v", created, err)
	}
	if _, err := Restore(saved, path, true); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "hubgate serve") {
		t.Errorf("restore over a store that serves: %v", err)
	}

	b := read(t, saved)
	write(t, saved, b[:len(b)/2])
	elsewhere := filepath.Join(t.TempDir(), "other.db")
	if _, err := Restore(saved, elsewhere, true); err == nil || !strings.Contains(err.Error(), "not in order") {
		t.Errorf("restore of half a backup: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(elsewhere))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestVerifyFinds: what can go wrong between a device and its indexes.
func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	s, hub := filled(t)
	saved := read(t, backup(t, s))
	other := provision.NewHubID()
	p := hub.ID.Partition(s.Partitions())
	const name = "bulk-000007"
	id := idKey(hub.ID, provision.DeviceIDOf(hub.ID, name))
	for what, test := range map[string]struct {
		damage func(bucket func([]byte) *bbolt.Bucket) error
		want   string
	}{
		"device that is no record": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketDevices).Put(deviceKey(hub.ID, name), []byte("x"))
		}, "corrupt record"},
		"device under another name": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketDevices).Put(deviceKey(hub.ID, name), b(bucketDevices).Get(deviceKey(hub.ID, "bulk-000001")))
		}, `"bulk-000001" is stored as "bulk-000007"`},
		"device without ID": {func(b func([]byte) *bbolt.Bucket) error { return b(bucketIDs).Delete(id) }, "leads to"},
		"device without creation": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketCreated).Delete(createdKey(hub.ID, 3))
		}, "199 entries in index"},
		"ID without device": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketIDs).Put(idKey(hub.ID, provision.DeviceID(other)), idValue(1, "ghost"))
		}, `201 entries in index "ids"`},
		"device of no hub": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketDevices).Put(deviceKey(other, name), []byte("x"))
		}, "which does not exist"},
		"wrong counter": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketCounters).Put(hub.ID.UUID[:], counters{devices: 3, created: 999}.encode())
		}, "has 200 devices"},
		"name of no hub": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketNames).Put([]byte("ghost"), other.UUID[:])
		}, "which does not have it"},
		"hub without name": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketNames).Delete([]byte(hub.Name))
		}, "is not reserved for it"},
		"gap in the outbox": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketOutbox).Delete(eventKey(p, 5))
		}, "event 6 comes after event 4"},
		"event that is no JSON": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketOutbox).Put(eventKey(p, 5), []byte("{"))
		}, "event 5"},
		"intermediate under a wrong key": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketLearned).Put(learnedKey(hub.ID, []byte("a")), []byte("b"))
		}, "not what its key says"},
		"claim of no hub": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketClaims).Put(claimKey(other, name), claimFree)
		}, "which does not exist"},
		"number of claims of no hub": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketClaims).Put(claimKey(other, ""), number(1))
		}, "number of claims of hub"},
		"claim that is not counted": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketClaims).Put(claimKey(hub.ID, name), claimUsed)
		}, "has 3 claims, its number says 2"},
		"claim that is neither free nor used": {func(b func([]byte) *bbolt.Bucket) error {
			return b(bucketClaims).Put(claimKey(hub.ID, "claimed-1"), []byte("x"))
		}, "claim 78"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "damaged.db")
			write(t, path, saved)
			db, err := bbolt.Open(path, fileMode, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bbolt.Tx) error { return test.damage(tx.Bucket) })
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestVerifyDamage: whatever happens to the bytes of a backup, Verify says so
// or finds nothing, and never ends the process.
func TestVerifyDamage(t *testing.T) {
	t.Parallel()
	s, _ := filled(t)
	saved := read(t, backup(t, s))
	path := filepath.Join(t.TempDir(), "damaged.db")
	found := 0
	const rounds = 60
	for round := range rounds {
		damaged := bytes.Clone(saved)
		at := round * len(damaged) / rounds
		for i := at; i < min(at+100, len(damaged)); i++ {
			damaged[i] ^= 0xa5
		}
		write(t, path, damaged)
		if _, err := Verify(path); err != nil {
			found++
		}
	}
	if found < rounds/4 {
		t.Errorf("%d of %d damages found", found, rounds)
	}
}
