package boltstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
)

// The floor under a first connection is bbolt itself, with the same options:
// what a commit of one put costs a lone caller, and what the same puts cost in
// batches of 64.

func benchmarkStore(b *testing.B) (*Store, provision.Hub) {
	s := start(b, Config{})
	hub, err := storetest.CreateHub(context.Background(), s)
	if err != nil {
		b.Fatal(err)
	}
	return s, hub
}

func openBare(b *testing.B) *bbolt.DB {
	db, err := openFile(filepath.Join(b.TempDir(), "bare.db"), DefaultLockTimeout)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	if err := db.Update(func(tx *bbolt.Tx) error { return initialize(tx, 0) }); err != nil {
		b.Fatal(err)
	}
	return db
}

func creations(hub provision.Hub, n int) []provision.Creation {
	all := make([]provision.Creation, n)
	for i := range all {
		all[i] = storetest.NewCreation(hub, fmt.Sprintf("chip-%09d", i))
	}
	return all
}

func BenchmarkFirstConnectionAlone(b *testing.B) {
	s, hub := benchmarkStore(b)
	for i := 0; b.Loop(); i++ {
		if _, created, err := s.CreateDevice(b.Context(), storetest.NewCreation(hub, fmt.Sprintf("chip-%09d", i))); err != nil || !created {
			b.Fatal(created, err)
		}
	}
}

func BenchmarkBarePut(b *testing.B) {
	db := openBare(b)
	value := make([]byte, 140)
	for i := 0; b.Loop(); i++ {
		err := db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucketDevices).Put(binary.BigEndian.AppendUint64(nil, uint64(i)*0x9e3779b97f4a7c15), value)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFirstConnection64InFlight(b *testing.B) {
	s, hub := benchmarkStore(b)
	all := creations(hub, b.N)
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(all)) {
					return
				}
				if _, created, err := s.CreateDevice(b.Context(), all[i]); err != nil || !created {
					b.Error(created, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkBareBatchOf64(b *testing.B) {
	db := openBare(b)
	hub := storetest.NewHub()
	type puts struct{ device, stored, id, idValue, created, name, event, encoded []byte }
	all := make([]puts, b.N)
	for i, c := range creations(hub, b.N) {
		stored, event, err := encodeDeviceAndEvent(c.Device, c.Event)
		if err != nil {
			b.Fatal(err)
		}
		n := uint64(i + 1)
		all[i] = puts{deviceKey(hub.ID, c.Device.Name), stored, idKey(hub.ID, c.Device.ID), idValue(n, c.Device.Name),
			createdKey(hub.ID, n), []byte(c.Device.Name), eventKey(1, n), event}
	}
	b.ResetTimer()
	for len(all) > 0 {
		batch := all[:min(64, len(all))]
		all = all[len(batch):]
		err := db.Update(func(tx *bbolt.Tx) error {
			devices, ids, created, outbox := tx.Bucket(bucketDevices), tx.Bucket(bucketIDs), tx.Bucket(bucketCreated), tx.Bucket(bucketOutbox)
			for _, p := range batch {
				for _, err := range []error{devices.Put(p.device, p.stored), ids.Put(p.id, p.idValue), created.Put(p.created, p.name), outbox.Put(p.event, p.encoded)} {
					if err != nil {
						return err
					}
				}
			}
			return tx.Bucket(bucketCounters).Put(hub.ID.UUID[:], counters{}.encode())
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
