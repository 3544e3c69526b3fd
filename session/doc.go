// Package session knows which connections of devices are open, and ends them.
//
// It exists because a decision is made once, and what it was made of changes:
// a device is disabled, a hub's anchor is removed, an operator wants somebody
// out. Envoy itself neither says when a connection has closed nor closes one
// when told. hubgate's library in Envoy does both, over one link per Envoy
// process (package link), and this package is hubgate's end of it.
//
//	            check allowed                 Open on the link
//	(nothing) ───────────────▶ pending ─────────────────────────▶ open ──Closed──▶ gone
//	                              │ 10 s                           │  ▲              ▲
//	                              ▼                   change: judge│  │may go on     │
//	                             gone                              ▼  │              │
//	                                                              End ───Closed, Ended
//
// # Who knows what
//
// A Tracker holds the connections of the Envoys that are linked to it, in
// memory, and judges them (provision.MustEnd) when they open and whenever the
// change feed says that their hub or device has changed. The store holds all
// sessions, so that they can be listed anywhere, and so that replicas can tell
// each other of two things that one alone does not know:
//
//   - A request of HTTP is checked by any replica, while the link of its Envoy
//     ends at one, and Envoy's side of the link does not know the device. The
//     replica that checked records the session and announces it; the one with
//     the link finds it by the number of the connection.
//   - A device that may hold one connection holds two. The replica that
//     confirms one finds the other on record and announces it.
//
// # One connection at a time
//
// What a device may have one of are connections of TCP, unless an operator
// allowed it several. Where the newest takes over, the answer to its check tells
// the library to hold it: nothing of it gets to the broker before a Release.
//
//	              put, alone on record           Release
//	Open (held) ─────────────────────────────────────────▶ at the broker
//	    │ others are open                           ▲
//	    ▼                                           │ none is left: closed, or
//	 is it the newest? ──yes──▶ the others are ended, it waits  the lease of its
//	    │ no                    (again each second)             Envoy ran out
//	    ▼
//	   End
//
// A connection is put on record before it is looked what else is there, and of
// two that are put at once one at least sees the other: so no two are released.
// The newest is the one that was checked last; of two at one instant, the one
// with the greater ID. An older one that is elsewhere is announced, and so is its
// end. One of an Envoy without the library cannot be ended: nothing waits for it,
// its record says so, and an event tells. If the store does not answer, a
// connection is released that is not known to have to wait: two of a device may
// then be open until the store is back. How long the library waits for a Release
// is its own matter (package filter).
//
// Where a second one is rejected, it is the check that claims, in one step of the
// store: nothing is held, and without the store nobody gets in. A claim lasts as
// a session does that is pending, then open.
//
// # What outlives what
//
// What a link's Envoy has open is what its latest snapshot and the messages
// since say: memory and store follow it. So nothing here has to survive a cut
// link or a restart: each new link begins with a snapshot, every connection in
// it is judged by how its hub and device are then, and an end that was ordered
// meanwhile happens then. Orders to end are never stored; what they follow from
// is.
//
// While the store does not answer, links go on: connections open, close, and
// are judged by the hub as far as the Gate knows it. What needed the store is
// tried again until it answers.
//
// An Envoy without the library is followed by its access log, as well as that
// goes (Logged), and nothing of it can be ended.
package session
