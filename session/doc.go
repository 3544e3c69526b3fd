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
