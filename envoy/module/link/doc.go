// Package link is the connection between hubgate and the library that Envoy
// loads. Envoy asks hubgate about connections, but it neither says when one
// has ended nor takes orders about it; the library does both, over one
// connection per Envoy process that it opens to hubgate. Both ends share this
// package: the messages, their framing, and the library's own loop (Client).
// It imports the standard library only, as it is loaded into Envoy.
//
//	library                                hubgate
//	   │ Hello ──────────────────────────────▶ │ who: node, epoch, version
//	   │ ◀──────────────────────────── Welcome │ how often to be heard of
//	   │ SnapshotBegin, Open…, SnapshotEnd ──▶ │ what is open; else is gone
//	   │ Open, Closed, Activity ─────────────▶ │ as it happens
//	   │ ◀──────────────────────── End(seq, …) │ close this connection
//	   │ Closed, Ended(seq) ─────────────────▶ │ it is closed, or was not there
//	   │ ◀──────────────────────────── Release │ what it held back may go on
//	   │ Ping ───────────────────────────────▶ │ every heartbeat
//	   │ ◀─────────────────────────────── Pong │
//
// What hubgate's end relies on: a snapshot may come again at any time (the
// library sends one when it could not keep up) and always replaces what was
// known of this epoch; an Open and its Closed arrive in this order; Envoy
// never reuses a connection ID within an epoch. Each End is answered by one
// Ended on the same connection. An End that got none is sent again, with a
// new number, on the next connection of the same epoch.
//
// On the wire a frame is its length (four bytes, of what follows), a byte for
// the message's type, and its fields one after the other: integers big-endian,
// texts after their length in two bytes. A type that is not known is skipped,
// and a type never changes its fields: another version has other types.
package link

import (
	"errors"
	"time"
)

const (
	// Version is the newest version of the protocol that this package speaks.
	Version = 1
	// MaxFrame bounds a frame after its length, in bytes.
	MaxFrame = 64 << 10
	// MaxText bounds each text of a message, in bytes.
	MaxText = 1 << 10
	// MaxActive is how many connections fit into one Activity.
	MaxActive = (MaxFrame - 1) / 8
	// MinHeartbeat is the shortest heartbeat that a Welcome may ask for.
	MinHeartbeat = 10 * time.Millisecond
	// MaxHeartbeat is the longest.
	MaxHeartbeat = time.Minute
	// Missed is how many heartbeats pass in silence until either end takes
	// the other for gone.
	Missed = 3
)

var (
	// ErrMalformed is a frame that is no message.
	ErrMalformed = errors.New("malformed frame")
	// ErrTooLong is a text or a list over its bound, or a frame over MaxFrame.
	ErrTooLong = errors.New("message over its limit")
	// ErrVersion is a peer without a version in common.
	ErrVersion = errors.New("no version of the protocol in common")
	// ErrUnexpected is a message that does not belong where it came.
	ErrUnexpected = errors.New("unexpected message")
)
