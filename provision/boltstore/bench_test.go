package boltstore

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
)

// The floor under a first connection is bbolt itself, with the same options, on
// a file of the same size: what a commit of one put costs a lone caller, and
// what the same puts cost in batches of 64. Compare within one run, and see
// that nothing else syncs the disk meanwhile.

// filling is how many devices a file has before it is measured: in an empty
// one, all that a commit writes is on the same few pages.
const filling = 20_000

func BenchmarkFirstConnectionAlone(b *testing.B) {
	s, hub := benchmarkStore(b)
	for i := 0; b.Loop(); i++ {
		create(b, s, storetest.NewCreation(hub, fmt.Sprintf("chip-%09d", i)))
	}
}

func BenchmarkBarePut(b *testing.B) {
	db, fill := benchmarkBare(b)
	all := fill(1 << 14)
	for i := 0; b.Loop(); i++ {
		p := all[i%len(all)]
		if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketIDs).Put(p.id, p.stored) }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFirstConnection64InFlight(b *testing.B) {
	s, hub := benchmarkStore(b)
	all := creations(hub, "chip", b.N)
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				create(b, s, all[i])
			}
		})
	}
	wg.Wait()
}

func BenchmarkBareBatchOf64(b *testing.B) {
	db, fill := benchmarkBare(b)
	all := fill(b.N)
	b.ResetTimer()
	putAll(b, db, all, 64)
}

func create(b *testing.B, s *Store, c provision.Creation) {
	if _, created, err := s.CreateDevice(b.Context(), c); err != nil || !created {
		b.Errorf("create %s: %t, %v", c.Device.Name, created, err)
	}
}

func benchmarkStore(b *testing.B) (*Store, provision.Hub) {
	s := start(b, Config{})
	hub, err := storetest.CreateHub(b.Context(), s)
	if err != nil {
		b.Fatal(err)
	}
	if err := storetest.CreateDevices(b.Context(), s, hub, filling); err != nil {
		b.Fatal(err)
	}
	return s, hub
}

// puts are what a first connection writes, apart from the hub's counters.
type puts struct{ device, stored, id, idValue, created, name, event, encoded []byte }

// benchmarkBare returns a filled file without a store around it, and a source
// of more to fill it with.
func benchmarkBare(b *testing.B) (*bbolt.DB, func(n int) []puts) {
	db, err := openFile(filepath.Join(b.TempDir(), "bare.db"), DefaultLockTimeout)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	if err := db.Update(func(tx *bbolt.Tx) error { return initialize(tx, 0) }); err != nil {
		b.Fatal(err)
	}
	hub := storetest.NewHub()
	number := uint64(0)
	encode := func(name string, n int) []puts {
		all := make([]puts, n)
		for i, c := range creations(hub, name, n) {
			stored, event, err := encodeDeviceAndEvent(c.Device, c.Event)
			if err != nil {
				b.Fatal(err)
			}
			number++
			all[i] = puts{deviceKey(hub.ID, c.Device.Name), stored, idKey(hub.ID, c.Device.ID), idValue(number, c.Device.Name),
				createdKey(hub.ID, number), []byte(c.Device.Name), eventKey(1, number), event}
		}
		return all
	}
	putAll(b, db, encode("bulk", filling), 64)
	return db, func(n int) []puts { return encode("chip", n) }
}

func putAll(b *testing.B, db *bbolt.DB, all []puts, size int) {
	for len(all) > 0 {
		batch := all[:min(size, len(all))]
		all = all[len(batch):]
		err := db.Update(func(tx *bbolt.Tx) error {
			devices, ids, created, outbox := tx.Bucket(bucketDevices), tx.Bucket(bucketIDs), tx.Bucket(bucketCreated), tx.Bucket(bucketOutbox)
			created.FillPercent, outbox.FillPercent = 0.9, 0.9
			for _, p := range batch {
				for _, err := range []error{devices.Put(p.device, p.stored), ids.Put(p.id, p.idValue), created.Put(p.created, p.name), outbox.Put(p.event, p.encoded)} {
					if err != nil {
						return err
					}
				}
			}
			return tx.Bucket(bucketCounters).Put(batch[0].device[:16], counters{}.encode())
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func creations(hub provision.Hub, name string, n int) []provision.Creation {
	all := make([]provision.Creation, n)
	for i := range all {
		all[i] = storetest.NewCreation(hub, fmt.Sprintf("%s-%09d", name, i))
	}
	return all
}
