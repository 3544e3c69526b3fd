package redisstore

import (
	"net/url"

	"github.com/hubgate/hubgate/provision"
)

// Every key of the store, with its type and how long it lives. The hash tag in
// braces decides the slot: one tag per partition, one for what is global.
//
//	hg:{meta}:store         hash    id, partitions, schema; ready once every partition carries the id
//	hg:{meta}:name:<name>   string  "<hub> <epoch>": whose the hub name is
//	hg:{meta}:epoch         string  counter of name reservations
//	hg:{meta}:tokens        hash    token name → record; "" → 1 once a token was made
//	hg:{meta}:envoy:<envoy> string  there while the Envoy's sessions are kept: the time to live is what is
//	                                left of its lease, and EnvoyID.KeptFor. <envoy> = node/epoch
//	hg:{T}:p                hash    the partition's state: id = store ID; out, chg = last entry of
//	                                the streams; link = op of the last change; op = last operation
//	hg:{T}:out              stream  events, <seq>-0, seq without gaps; capped by retention
//	hg:{T}:chg              stream  changes, <seq>-0, each naming the one before it; capped
//	hg:{T}:cur:<sink>       hash    how far the sink has read the events: s = seq, f = fence, its newest owner
//	hg:{T}:own:<sink>       string  the owner of the sink's cursor; expires with its lease
//	hg:{T}:hubs             set     the partition's hubs
//	hg:{T}:h:<hub>          hash    r = record, v = version, name, n = last creation, x = 1 while deleting;
//	                                full = when its bucket of first connections is full, microseconds
//	hg:{T}:h:<hub>:names    zset    device names, score 0
//	hg:{T}:h:<hub>:seq      zset    device names by order of creation
//	hg:{T}:h:<hub>:learned  set     intermediates (DER)
//	hg:{T}:h:<hub>:revoked  hash    what is revoked, as package record has it
//	hg:{T}:h:<hub>:crls     hash    SHA-256 of an issuer's key (32 bytes) → its newest CRL (DER)
//	hg:{T}:h:<hub>:anchors  hash    SHA-256 of an anchor's key (32 bytes) → devices that it admitted last
//	hg:{T}:h:<hub>:claims   hash    device name → 1 if the claim was used, else 0
//	hg:{T}:d:<device>       string  device record
//	hg:{T}:void:<hub>       string  newest void name reservation of the hub; expires after an hour
//	hg:{T}:s:<device>       hash    session → op that put it (8 bytes), record
//	hg:{T}:h:<hub>:sessions zset    session ‖ device, score 0
//	hg:{T}:e:<envoy>        set     session ‖ device ‖ hub; of Envoys with the library
//
// In those about sessions, IDs are 16 bytes. A session takes some 700 bytes in
// all, 150 less with hash-max-listpack-value 128. These keys expire when nothing
// was put into them for sessionTTL. A deletion leaves them: whoever ends the
// connections of what was deleted finds them there. No other key but void,
// own and envoy expires.
const (
	keyStore     = "hg:{meta}:store"
	keyNameEpoch = "hg:{meta}:epoch"
	keyTokens    = "hg:{meta}:tokens" //nolint:gosec // a name, no secret
)

// keyName is the reservation of a hub name.
func keyName(name string) string { return "hg:{meta}:name:" + name }

// keyEnvoy is the lease of an Envoy process.
func keyEnvoy(id provision.EnvoyID) string { return "hg:{meta}:envoy:" + envoyName(id) }

// envoyName has one slash that is not the epoch's: the first.
func envoyName(id provision.EnvoyID) string { return url.PathEscape(id.Node) + "/" + id.Epoch }

// partition makes the keys of one partition.
type partition struct {
	number int
	prefix string // hg:{T}:
}

func (p partition) state() string   { return p.prefix + "p" }
func (p partition) outbox() string  { return p.prefix + "out" }
func (p partition) changes() string { return p.prefix + "chg" }
func (p partition) hubs() string    { return p.prefix + "hubs" }

func (p partition) cursor(sink string) string { return p.prefix + "cur:" + sink }
func (p partition) owner(sink string) string  { return p.prefix + "own:" + sink }

func (p partition) hub(id provision.HubID) string     { return p.prefix + "h:" + id.String() }
func (p partition) names(id provision.HubID) string   { return p.hub(id) + ":names" }
func (p partition) order(id provision.HubID) string   { return p.hub(id) + ":seq" }
func (p partition) learned(id provision.HubID) string { return p.hub(id) + ":learned" }
func (p partition) anchors(id provision.HubID) string { return p.hub(id) + ":anchors" }
func (p partition) revoked(id provision.HubID) string { return p.hub(id) + ":revoked" }
func (p partition) crls(id provision.HubID) string    { return p.hub(id) + ":crls" }
func (p partition) claims(id provision.HubID) string  { return p.hub(id) + ":claims" }
func (p partition) void(id provision.HubID) string    { return p.prefix + "void:" + id.String() }

func (p partition) device(id provision.DeviceID) string { return p.prefix + "d:" + id.String() }

func (p partition) sessions(id provision.DeviceID) string     { return p.sessionsPrefix() + id.String() }
func (p partition) sessionsPrefix() string                    { return p.prefix + "s:" }
func (p partition) hubSessions(id provision.HubID) string     { return p.hub(id) + ":sessions" }
func (p partition) envoySessions(id provision.EnvoyID) string { return p.prefix + "e:" + envoyName(id) }

const (
	slots = 16384
	// maxPartitions leaves every partition a stretch of 16 slots.
	maxPartitions = 1024
	tagAlphabet   = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// newPartitions returns n partitions, spread evenly over the slots: partition i
// owns the i-th of n equal stretches, and its tag is the first, shortest first
// and in order of tagAlphabet, whose slot lies in the middle sixteenth of the
// stretch. The middle, because a cluster's nodes share the slots in stretches
// too: then no node gets partitions more than another because of where in its
// stretch a tag happened to fall. The layout is what is stored, so this never
// changes.
func newPartitions(n int) []partition {
	parts := make([]partition, n)
	left := n
	for length := 1; left > 0; length++ {
		tags(length, func(tag []byte) bool {
			// Doubled, so that the slot's own middle counts.
			at := (2*slotOf(tag) + 1) * n
			i := at / (2 * slots)
			if within := at % (2 * slots); within < 2*slots*15/32 || within >= 2*slots*17/32 {
				return true
			}
			if parts[i].prefix == "" {
				parts[i] = partition{number: i, prefix: "hg:{" + string(tag) + "}:"}
				left--
			}
			return left > 0
		})
	}
	return parts
}

// tags yields every tag of that length in order, until yield returns false.
func tags(length int, yield func([]byte) bool) {
	digits, tag := make([]int, length), make([]byte, length)
	for {
		for i, d := range digits {
			tag[i] = tagAlphabet[d]
		}
		if !yield(tag) {
			return
		}
		i := length - 1
		for ; i >= 0; i-- {
			if digits[i]++; digits[i] < len(tagAlphabet) {
				break
			}
			digits[i] = 0
		}
		if i < 0 {
			return
		}
	}
}

// slotOf is Redis Cluster's hash of a tag: CRC-16/XMODEM.
func slotOf(tag []byte) int {
	var crc uint16
	for _, b := range tag {
		crc ^= uint16(b) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
	}
	return int(crc) % slots
}
