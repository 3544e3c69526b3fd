package boltstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// The layout of the file. Numbers are big-endian, so that keys sort by them;
// IDs are their 16 bytes; all that belongs to one hub starts with its ID.
//
//	bucket    key                          value
//	meta      "schema"                     schema of the layout, decimal
//	          "id"                         store ID, a random UUID
//	          "partitions"                 their number, decimal
//	          "tokens"                     there once a token was made
//	hubs      partition (2) ‖ hub          record.Hub
//	names     hub name                     hub
//	devices   hub ‖ device name            record.Device
//	ids       hub ‖ device ID              creation number (8) ‖ device name
//	created   hub ‖ creation number (8)    device name
//	counters  hub                          devices (8) ‖ last creation number (8)
//	learned   hub ‖ SHA-256 of value       intermediate, DER
//	revoked   hub ‖ field                  what is revoked, as package record has it
//	crls      hub ‖ SHA-256 of key         the newest CRL of that issuer, DER
//	outbox    partition (2) ‖ seq (8)      event, JSON
//	cursors   partition (2) ‖ sink         seq (8) of the last event that the sink has
//	anchors   hub ‖ SHA-256 of key         devices that this anchor admitted last (8)
//	tokens    token name                   record.EncodeToken
//	claims    hub ‖ device name            0, or 1 if it was used (1)
//	          hub                          how many names that are (8)
//
// Device names come last in their keys, so they may hold any byte.
var (
	bucketMeta     = []byte("meta")
	bucketHubs     = []byte("hubs")
	bucketNames    = []byte("names")
	bucketDevices  = []byte("devices")
	bucketIDs      = []byte("ids")
	bucketCreated  = []byte("created")
	bucketCounters = []byte("counters")
	bucketLearned  = []byte("learned")
	bucketRevoked  = []byte("revoked")
	bucketCRLs     = []byte("crls")
	bucketOutbox   = []byte("outbox")
	bucketCursors  = []byte("cursors")
	bucketAnchors  = []byte("anchors")
	bucketTokens   = []byte("tokens")
	bucketClaims   = []byte("claims")

	metaSchema     = []byte("schema")
	metaID         = []byte("id")
	metaPartitions = []byte("partitions")
	metaTokens     = []byte("tokens")
)

// schema is the layout that this build writes.
//
//	1  the first
//	2  with anchors, which an older hubgate would not keep up
//	3  with claims and revocations, which an older hubgate would not ask for
const schema = 3

// maxNameBytes bounds device names: what fits the longest valid one.
const maxNameBytes = 4 * provision.MaxNameRunes

func partitionKey(partition int) []byte {
	return binary.BigEndian.AppendUint16(make([]byte, 0, 2+16), uint16(partition))
}

func hubKey(partition int, hub provision.HubID) []byte {
	return append(partitionKey(partition), hub.UUID[:]...)
}

func deviceKey(hub provision.HubID, name string) []byte {
	return append(append(make([]byte, 0, 16+len(name)), hub.UUID[:]...), name...)
}

// claimKey of no name is that of the hub's number of claims.
func claimKey(hub provision.HubID, name string) []byte { return deviceKey(hub, name) }

// firstName comes before every name, and after none.
var firstName = []byte{0}

func idKey(hub provision.HubID, id provision.DeviceID) []byte {
	return append(append(make([]byte, 0, 16+16), hub.UUID[:]...), id.UUID[:]...)
}

func idValue(number uint64, name string) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(name)), number), name...)
}

func parseIDValue(v []byte) (number uint64, name string, err error) {
	if len(v) < 8 {
		return 0, "", fmt.Errorf("device ID entry of %d bytes", len(v))
	}
	return binary.BigEndian.Uint64(v), string(v[8:]), nil
}

func createdKey(hub provision.HubID, number uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 16+8), hub.UUID[:]...), number)
}

func learnedKey(hub provision.HubID, der []byte) []byte {
	sum := sha256.Sum256(der)
	return append(append(make([]byte, 0, 16+len(sum)), hub.UUID[:]...), sum[:]...)
}

func crlKey(hub provision.HubID, issuer trust.KeyHash) []byte {
	return append(append(make([]byte, 0, 16+len(issuer)), hub.UUID[:]...), issuer[:]...)
}

func eventKey(partition int, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 2+8), partitionKey(partition)...), seq)
}

func cursorKey(partition int, sink string) []byte { return append(partitionKey(partition), sink...) }

func eventSeq(key []byte) uint64 { return binary.BigEndian.Uint64(key[2:]) }

// counters of a hub.
type counters struct {
	devices uint64
	created uint64 // the last creation number given
}

func (c counters) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, 16), c.devices), c.created)
}

// parseCounters reads the counters; a hub without has no devices yet.
func parseCounters(v []byte) (counters, error) {
	switch len(v) {
	case 0:
		return counters{}, nil
	case 16:
		return counters{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}, nil
	default:
		return counters{}, fmt.Errorf("counters of %d bytes", len(v))
	}
}

// scan calls each for the entries whose keys start with prefix, in order, from
// the first key that is at or after prefix‖from, until each returns false.
func scan(b *bbolt.Bucket, prefix, from []byte, each func(rest, value []byte) (bool, error)) error {
	c := b.Cursor()
	start := append(append(make([]byte, 0, len(prefix)+len(from)), prefix...), from...)
	for k, v := c.Seek(start); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if more, err := each(k[len(prefix):], v); err != nil || !more {
			return err
		}
	}
	return nil
}

// lastWith returns the last key that starts with the prefix, nil if none does.
func lastWith(b *bbolt.Bucket, prefix []byte) []byte {
	c := b.Cursor()
	var k []byte
	if after := successor(prefix); after == nil {
		k, _ = c.Last()
	} else if k, _ = c.Seek(after); k == nil {
		k, _ = c.Last()
	} else {
		k, _ = c.Prev()
	}
	if !bytes.HasPrefix(k, prefix) {
		return nil
	}
	return k
}

// successor is the first key after all that start with the prefix, nil if there
// is none.
func successor(prefix []byte) []byte {
	next := bytes.Clone(prefix)
	for i := len(next) - 1; i >= 0; i-- {
		if next[i]++; next[i] != 0 {
			return next[:i+1]
		}
	}
	return nil
}

// meta is what the file says of itself.
type meta struct {
	id         string
	partitions int
}

// What a bbolt file without hubgate's buckets is.
var (
	errEmpty   = errors.New("it is empty")
	errForeign = errors.New("it is a bbolt file, but not a hubgate store")
)

// buckets are all that a store has.
var buckets = [][]byte{bucketMeta, bucketHubs, bucketNames, bucketDevices, bucketIDs, bucketCreated, bucketCounters, bucketLearned, bucketOutbox}

// laterBuckets came after the first release of the schema. A file without them
// gets them when it is opened; an older hubgate leaves them alone.
var laterBuckets = [][]byte{bucketCursors, bucketAnchors, bucketTokens, bucketRevoked, bucketCRLs, bucketClaims}

// upgrade makes what a file of an older hubgate lacks.
func upgrade(tx *bbolt.Tx) error {
	for _, name := range laterBuckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	m := tx.Bucket(bucketMeta)
	switch string(m.Get(metaSchema)) {
	case strconv.Itoa(schema):
		return nil
	case "1":
		if err := countAll(tx); err != nil {
			return err
		}
	}
	return m.Put(metaSchema, []byte(strconv.Itoa(schema)))
}

func anchorKey(hub provision.HubID, anchor trust.KeyHash) []byte {
	return append(append(make([]byte, 0, 16+len(anchor)), hub.UUID[:]...), anchor[:]...)
}

// countAll counts what schema 1 did not.
func countAll(tx *bbolt.Tx) error {
	counts := map[string]uint64{} // by key
	err := tx.Bucket(bucketDevices).ForEach(func(k, v []byte) error {
		if len(k) <= 16 {
			return fmt.Errorf("device key %x", k)
		}
		hub := provision.HubID{UUID: [16]byte(k[:16])}
		d, err := record.DecodeDevice(hub, v)
		if err == nil && d.Bound() {
			counts[string(anchorKey(hub, d.Anchor))]++
		}
		return err
	})
	for k, n := range counts {
		err = errors.Join(err, tx.Bucket(bucketAnchors).Put([]byte(k), number(n)))
	}
	return err
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// parseNumber reads a number; there being none is 0.
func parseNumber(v []byte) (uint64, error) {
	switch len(v) {
	case 0:
		return 0, nil
	case 8:
		return binary.BigEndian.Uint64(v), nil
	}
	return 0, fmt.Errorf("number of %d bytes", len(v))
}

// initialize makes the buckets of a new file.
func initialize(tx *bbolt.Tx, partitions int) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	if partitions == 0 {
		partitions = provision.DefaultPartitions
	}
	if partitions < 1 || partitions > 1<<16 {
		return fmt.Errorf("%d partitions: choose 1 to 65536", partitions)
	}
	m := tx.Bucket(bucketMeta)
	return errors.Join(
		m.Put(metaSchema, []byte(strconv.Itoa(schema))),
		m.Put(metaID, []byte(uuid.NewString())),
		m.Put(metaPartitions, []byte(strconv.Itoa(partitions))))
}

// readMeta reads what the file says of itself and refuses what this build
// cannot read.
func readMeta(tx *bbolt.Tx) (meta, error) {
	if k, _ := tx.Cursor().First(); k == nil {
		return meta{}, errEmpty
	}
	b := tx.Bucket(bucketMeta)
	if b == nil || b.Get(metaSchema) == nil {
		return meta{}, errForeign
	}
	version, err := strconv.Atoi(string(b.Get(metaSchema)))
	if err != nil || version < 1 {
		return meta{}, fmt.Errorf("schema %q is no number", b.Get(metaSchema))
	}
	if version > schema {
		return meta{}, fmt.Errorf("it was written by a newer hubgate (schema %d, this one knows up to %d): upgrade hubgate, or restore an older backup", version, schema)
	}
	m := meta{id: string(b.Get(metaID))}
	if m.partitions, err = strconv.Atoi(string(b.Get(metaPartitions))); err != nil || m.partitions < 1 {
		return meta{}, fmt.Errorf("number of partitions %q is no number", b.Get(metaPartitions))
	}
	if _, err := uuid.Parse(m.id); err != nil {
		return meta{}, fmt.Errorf("store ID %q is no UUID", m.id)
	}
	for _, name := range buckets {
		if tx.Bucket(name) == nil {
			return meta{}, fmt.Errorf("bucket %q is missing", name)
		}
	}
	return m, nil
}
