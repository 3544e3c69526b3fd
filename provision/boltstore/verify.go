package boltstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// maxProblems bounds what Verify reports of a file that is wrong all over.
const maxProblems = 20

// Report says what a file holds.
type Report struct {
	StoreID    string
	Partitions int
	Hubs       int
	Devices    int
	Learned    int // intermediates
	Claims     int
	Events     int
}

// Verify reads the whole of a file that no process has open, or of a backup,
// and checks that it is in order: pages, records, indexes against devices,
// counters, names, the outbox. The error tells every problem, up to a bound.
func Verify(path string) (Report, error) {
	v := verifier{hubs: map[provision.HubID]*tally{}}
	err := inspect(path, DefaultLockTimeout, func(tx *bbolt.Tx) error {
		m, err := readMeta(tx)
		if err != nil {
			return fmt.Errorf("verify %s: %w", path, err)
		}
		v.tx, v.meta = tx, m
		v.report.StoreID, v.report.Partitions = m.id, m.partitions
		v.run()
		// bbolt checks in a goroutine of its own, where a fault of the memory
		// map would end the process: what has been read so far is sound.
		for err := range tx.Check() {
			v.problem("pages: %w", err)
		}
		return nil
	})
	if err := errors.Join(append(v.problems, err)...); err != nil {
		return v.report, err
	}
	return v.report, nil
}

type verifier struct {
	tx       *bbolt.Tx
	meta     meta
	report   Report
	hubs     map[provision.HubID]*tally
	problems []error
	omitted  int
}

// tally counts what belongs to one hub.
type tally struct {
	devices uint64
	newest  uint64 // creation number
	learned int
	anchors map[string]uint64 // devices by key of bucketAnchors
}

func (v *verifier) problem(format string, args ...any) {
	if len(v.problems) < maxProblems {
		v.problems = append(v.problems, fmt.Errorf(format, args...))
	} else if v.omitted++; v.omitted == 1 {
		v.problems = append(v.problems, errors.New("and more"))
	}
}

func (v *verifier) run() {
	v.each(bucketHubs, v.hub)
	v.each(bucketNames, v.name)
	v.each(bucketDevices, v.device)
	v.each(bucketLearned, v.learned)
	v.each(bucketCounters, v.counters)
	if v.tx.Bucket(bucketRevoked) != nil { // a file of schema 2 may have none
		v.each(bucketRevoked, func(k, _ []byte) { v.owner(bucketRevoked, k) })
		v.each(bucketCRLs, v.crl)
		for id := range v.hubs {
			v.revocations(id)
		}
	}
	for id, t := range v.hubs {
		c, err := parseCounters(v.tx.Bucket(bucketCounters).Get(id.UUID[:]))
		if err != nil || c.devices != t.devices || c.created < t.newest {
			v.problem("hub %s has %d devices up to number %d, its counters say %+v", id, t.devices, t.newest, c)
		}
		if t.learned > provision.MaxLearned {
			v.problem("hub %s has learned %d intermediates", id, t.learned)
		}
	}
	// Every device has its two index entries; that there are no others follows
	// from their number.
	for _, index := range [][]byte{bucketIDs, bucketCreated} {
		n := 0
		v.each(index, func(_, _ []byte) { n++ })
		if n != v.report.Devices {
			v.problem("%d devices have %d entries in index %q", v.report.Devices, n, index)
		}
	}
	if v.tx.Bucket(bucketAnchors) != nil { // a file of schema 1 has none
		v.anchors()
	}
	if v.tx.Bucket(bucketClaims) != nil { // nor one of schema 2 this
		v.claims()
	}
	v.outbox()
}

// anchors checks the counts of devices by anchor.
func (v *verifier) anchors() {
	found := 0
	v.each(bucketAnchors, func(k, value []byte) {
		found++
		id, t := v.owner(bucketAnchors, k)
		if t == nil {
			return
		}
		if n, err := parseNumber(value); err != nil || n != t.anchors[string(k)] || n == 0 {
			v.problem("hub %s: anchor %x has %d devices, its number says %x", id, k[16:], t.anchors[string(k)], value)
		}
	})
	want := 0
	for _, t := range v.hubs {
		want += len(t.anchors)
	}
	if found != want {
		v.problem("%d anchors have devices, and %d have a number", want, found)
	}
}

// claims checks the claim lists, and the number of names on each.
func (v *verifier) claims() {
	found, numbers := map[provision.HubID]uint64{}, map[provision.HubID]uint64{}
	v.each(bucketClaims, func(k, value []byte) {
		if len(k) == 16 {
			n, err := parseNumber(value)
			if err != nil || n == 0 || v.hubs[provision.HubID{UUID: [16]byte(k)}] == nil {
				v.problem("number of claims of hub %x: %x", k, value)
			}
			numbers[provision.HubID{UUID: [16]byte(k)}] = n
			return
		}
		v.report.Claims++
		id, t := v.owner(bucketClaims, k)
		if t == nil {
			return
		}
		found[id]++
		if _, err := parseClaim(value); err != nil {
			v.problem("hub %s, claim %q: %w", id, k[16:], err)
		}
	})
	for id := range v.hubs {
		if found[id] != numbers[id] {
			v.problem("hub %s has %d claims, its number says %d", id, found[id], numbers[id])
		}
	}
}

func (v *verifier) each(bucket []byte, check func(k, value []byte)) {
	c := v.tx.Bucket(bucket).Cursor()
	for k, value := c.First(); k != nil; k, value = c.Next() {
		check(k, value)
	}
}

func (v *verifier) hub(k, value []byte) {
	v.report.Hubs++
	hub, err := record.DecodeHub(value)
	if err != nil {
		v.problem("hub at %x: %w", k, err)
		return
	}
	v.hubs[hub.ID] = &tally{}
	if !bytes.Equal(k, hubKey(hub.ID.Partition(v.meta.partitions), hub.ID)) {
		v.problem("hub %s is stored at %x", hub.ID, k)
	}
	if !bytes.Equal(v.tx.Bucket(bucketNames).Get([]byte(hub.Name)), hub.ID.UUID[:]) {
		v.problem("hub %s: its name %q is not reserved for it", hub.ID, hub.Name)
	}
}

func (v *verifier) name(k, value []byte) {
	if len(value) != 16 {
		v.problem("hub name %q leads to %x", k, value)
		return
	}
	id := provision.HubID{UUID: [16]byte(value)}
	hub, err := record.DecodeHub(v.tx.Bucket(bucketHubs).Get(hubKey(id.Partition(v.meta.partitions), id)))
	if err != nil || hub.Name != string(k) {
		v.problem("name %q is reserved for hub %s, which does not have it", k, id)
	}
}

// owner returns the tally of the hub that a key starts with.
func (v *verifier) owner(bucket, k []byte) (provision.HubID, *tally) {
	if len(k) <= 16 {
		v.problem("%s: key %x is too short", bucket, k)
		return provision.HubID{}, nil
	}
	id := provision.HubID{UUID: [16]byte(k[:16])}
	t := v.hubs[id]
	if t == nil {
		v.problem("%s: %q belongs to hub %s, which does not exist", bucket, k[16:], id)
	}
	return id, t
}

func (v *verifier) device(k, value []byte) {
	v.report.Devices++
	id, t := v.owner(bucketDevices, k)
	if t == nil {
		return
	}
	t.devices++
	d, err := record.DecodeDevice(id, value)
	if err != nil {
		v.problem("hub %s, device %q: %w", id, k[16:], err)
		return
	}
	if d.Name != string(k[16:]) {
		v.problem("hub %s: device %q is stored as %q", id, d.Name, k[16:])
	}
	entry := v.tx.Bucket(bucketIDs).Get(idKey(id, d.ID))
	number, name, err := parseIDValue(entry)
	if err != nil || name != d.Name {
		v.problem("hub %s, device %q: its ID %s leads to %q", id, d.Name, d.ID, entry)
		return
	}
	if listed := v.tx.Bucket(bucketCreated).Get(createdKey(id, number)); string(listed) != d.Name {
		v.problem("hub %s, device %q: number %d of the creation order is %q", id, d.Name, number, listed)
	}
	t.newest = max(t.newest, number)
	if d.Bound() {
		if t.anchors == nil {
			t.anchors = make(map[string]uint64)
		}
		t.anchors[string(anchorKey(id, d.Anchor))]++
	}
}

func (v *verifier) learned(k, der []byte) {
	v.report.Learned++
	id, t := v.owner(bucketLearned, k)
	if t == nil {
		return
	}
	t.learned++
	if !bytes.Equal(k, learnedKey(id, der)) {
		v.problem("hub %s: learned intermediate %x is not what its key says", id, k[16:])
	}
}

func (v *verifier) revocations(id provision.HubID) {
	fields, err := revokedFields(v.tx.Bucket(bucketRevoked), id)
	if err == nil {
		var r provision.Revocations
		r, err = record.DecodeRevocations(fields)
		for issuer, c := range r.CRLs {
			if trust.FingerprintOfDER(v.tx.Bucket(bucketCRLs).Get(crlKey(id, issuer))) != c.Digest {
				v.problem("hub %s: the CRL of %s is not the one that is on record", id, issuer)
			}
		}
	}
	if err != nil {
		v.problem("hub %s: %w", id, err)
	}
}

// crl finds a list that nothing tells of.
func (v *verifier) crl(k, _ []byte) {
	id, t := v.owner(bucketCRLs, k)
	if t == nil {
		return
	}
	fields, err := revokedFields(v.tx.Bucket(bucketRevoked), id)
	if _, there := fields["c"+string(k[16:])]; err != nil || !there {
		v.problem("hub %s: the CRL of %x is on no record", id, k[16:])
	}
}

func (v *verifier) counters(k, _ []byte) {
	if len(k) != 16 || v.hubs[provision.HubID{UUID: [16]byte(k)}] == nil {
		v.problem("counters of hub %x, which does not exist", k)
	}
}

func (v *verifier) outbox() {
	var before []byte
	v.each(bucketOutbox, func(k, value []byte) {
		v.report.Events++
		if len(k) != 10 || int(binary.BigEndian.Uint16(k)) >= v.meta.partitions {
			v.problem("outbox: key %x", k)
			return
		}
		partition, seq := binary.BigEndian.Uint16(k), eventSeq(k)
		if bytes.HasPrefix(before, k[:2]) && seq != eventSeq(before)+1 {
			v.problem("partition %d: event %d comes after event %d", partition, seq, eventSeq(before))
		}
		before = k
		if err := json.Unmarshal(value, &provision.Event{}); err != nil {
			v.problem("partition %d, event %d: %w", partition, seq, err)
		}
	})
}
