// Package filter is what the library does inside Envoy, without Envoy: one
// Filter per connection is told what happens and answers with an Action, which
// the cgo shim beside it carries out. So all of it can be tested in plain Go,
// and the shim has nothing to decide.
//
// In front of a broker a Filter does what neither Envoy nor a broker can: it
// writes into the MQTT CONNECT who hubgate says the device is, and it ends the
// connection when hubgate says so, in MQTT's own words. In front of HTTP it
// only ends connections.
//
//	            first bytes        CONNECT complete        Release
//	connected ─────────────▶ waiting ────────────▶ held ───────────▶ open
//	    │   (hubgate let it in)  │     │ (nothing to wait for) │        ▲ │
//	    │                        │     └───────────────────────┼────────┘ │
//	    │ too late               │ too late, too long,         │ too late,│ End, second
//	    │                        │ no CONNECT, End             │ End      │ CONNECT
//	    ▼                        ▼                             ▼          ▼
//	 closed ◀──────────────── closing: the last packet is on its way ◀─ ending: in the
//	                                                                    midst of a packet
//
// A connection is held if hubgate's answer says so: until an older one of its
// device is closed, wherever that is. hubgate looks for it once it hears of the
// new one, over the link, and says Release. If it does not in the time that a
// device has for its CONNECT, the connection is ended, as two at once is what
// was not wanted; the device's next try finds the older one gone, or waits again.
// While there is no link nobody could say Release: then nothing is held for
// longer than unlinkedTimeout, and hubgate ends the older one once it is linked.
//
// Nothing is passed to the broker before open, and then only what was read of
// whole, well-formed packets: a second CONNECT would be a second identity.
//
// A Filter begins with the first bytes; the shim looks after a connection until
// then, and after the time that it has for its CONNECT. Once it is open, the
// shim lets bytes pass by itself (Shared) and asks the filter only about what is
// not plain.
//
// Where there is no TLS, another Filter stands in front of the check (Ahead): it
// waits for the CONNECT in the same way, leaves its credentials for Envoy to tell
// hubgate, and then lets everything pass. It has no session.
//
// Hooks run on the connection's own worker thread, one at a time. Orders come
// from the link's goroutine and time's: they are noted under a lock, and Wake
// makes Envoy call Scheduled on the worker thread. No hook waits for anything.
package filter

import "time"

const (
	// packetTimeout is how long a broker has to finish the packet it is in the
	// midst of, so that a last packet of ours can follow it.
	packetTimeout = 100 * time.Millisecond
	// unlinkedTimeout is how long a connection is held while there is no link, as
	// of when that went. A hubgate that restarts is back, or another one there.
	unlinkedTimeout = 3 * time.Second
	// linkInterval is how often it is looked whether there is one.
	linkInterval = time.Second
	// flushTimeout is how long a device has to take the last packet.
	flushTimeout = time.Second
)
