package boltstore

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// txn is the transaction of one batch. Its methods put off errors of the file
// to failure: they fail the whole batch, so no change has to look at them.
type txn struct {
	store   *Store
	buckets map[string]*bbolt.Bucket
	tx      *bbolt.Tx
	hubs    map[provision.HubID]*hubState
	seqs    map[int]uint64 // last seq of each partition that got events
	changes []change
	dirty   bool // something was written
	failure error
}

// hubState is what the changes of a batch have to know of a hub: read once,
// however many devices the batch creates on it.
type hubState struct {
	exists   bool
	version  uint64
	deleting bool
	counters counters
	counted  bool                  // the counters changed
	anchors  map[trust.KeyHash]int // what the batch adds to their numbers
}

// countAnchor counts devices that an anchor admitted, or did. No anchor is none.
func (h *hubState) countAnchor(anchor trust.KeyHash, n int) {
	if anchor == (trust.KeyHash{}) {
		return
	}
	if h.anchors == nil {
		h.anchors = make(map[trust.KeyHash]int)
	}
	h.anchors[anchor] += n
}

func newTxn(tx *bbolt.Tx, s *Store) *txn {
	return &txn{
		store:   s,
		tx:      tx,
		buckets: make(map[string]*bbolt.Bucket, 8),
		hubs:    map[provision.HubID]*hubState{},
		seqs:    map[int]uint64{},
	}
}

func (t *txn) bucket(name []byte) *bbolt.Bucket {
	b := t.buckets[string(name)]
	if b == nil {
		b = t.tx.Bucket(name)
		// These two grow at their ends; a page that is split in halves there
		// would stay half empty for ever.
		if &name[0] == &bucketCreated[0] || &name[0] == &bucketOutbox[0] {
			b.FillPercent = 0.9
		}
		t.buckets[string(name)] = b
	}
	return b
}

func (t *txn) get(bucket, key []byte) []byte { return t.bucket(bucket).Get(key) }

func (t *txn) put(bucket, key, value []byte) {
	t.dirty = true
	t.fail(t.bucket(bucket).Put(key, value))
}

func (t *txn) delete(bucket, key []byte) {
	t.dirty = true
	t.fail(t.bucket(bucket).Delete(key))
}

func (t *txn) fail(err error) { t.failure = errors.Join(t.failure, err) }

func (t *txn) changed(partition int, c provision.Change) {
	t.changes = append(t.changes, change{partition, c})
}

// hub returns the state of the hub as the batch has left it so far.
func (t *txn) hub(partition int, id provision.HubID) (*hubState, error) {
	if h := t.hubs[id]; h != nil {
		return h, nil
	}
	h := &hubState{}
	if b := t.get(bucketHubs, hubKey(partition, id)); b != nil {
		hub, err := record.DecodeHub(b)
		if err != nil {
			return nil, err
		}
		h.exists, h.version, h.deleting = true, hub.Version, hub.Deleting
		if h.counters, err = parseCounters(t.get(bucketCounters, id.UUID[:])); err != nil {
			return nil, fmt.Errorf("hub %s: %w", id, err)
		}
	}
	t.hubs[id] = h
	return h, nil
}

// appendEvent puts the event at the end of the partition's outbox. It comes
// encoded, as encoding is the caller's time, not the writer's; nil is none.
func (t *txn) appendEvent(partition int, event []byte) {
	if event == nil {
		return
	}
	seq, ok := t.seqs[partition]
	if !ok {
		seq = t.store.lastSeq(t.bucket(bucketOutbox), partition)
	}
	seq++
	t.seqs[partition] = seq
	t.put(bucketOutbox, eventKey(partition, seq), event)
}

// finish writes what the batch has gathered.
func (t *txn) finish() {
	for id, h := range t.hubs {
		if h.counted {
			t.put(bucketCounters, id.UUID[:], h.counters.encode())
		}
		for anchor, n := range h.anchors {
			t.addAnchored(anchorKey(id, anchor), n)
		}
	}
	for partition, last := range t.seqs {
		t.trim(partition, last)
	}
}

// addAnchored adds to the number of an anchor, which goes when it is 0.
func (t *txn) addAnchored(key []byte, n int) {
	if n == 0 {
		return
	}
	before, err := parseNumber(t.get(bucketAnchors, key))
	t.fail(err)
	after := int(before) + n
	switch {
	case after < 0:
		t.fail(fmt.Errorf("number of devices of anchor %x falls below 0", key))
	case after == 0:
		t.delete(bucketAnchors, key)
	default:
		t.put(bucketAnchors, key, number(uint64(after)))
	}
}

// trim takes the oldest events of a partition that has too many. It takes a
// good number at once, as neighbours share pages, and leaves retention alone
// for a while.
func (t *txn) trim(partition int, last uint64) {
	retention := t.store.retention
	outbox := t.bucket(bucketOutbox)
	c := outbox.Cursor()
	first, _ := c.Seek(eventKey(partition, 0))
	if last-eventSeq(first)+1 <= retention {
		return
	}
	until := last - retention + retention/64 // the newest to go
	for seq := eventSeq(first); seq <= until; seq++ {
		t.delete(bucketOutbox, eventKey(partition, seq))
	}
}

// encodeEvent returns nil for an event that is none.
func encodeEvent(e provision.Event) ([]byte, error) {
	if e.ID == "" {
		return nil, nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return b, nil
}
