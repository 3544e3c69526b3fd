package session

import (
	"maps"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

// connection is one that an Envoy has open, or is about to tell of.
type connection struct {
	link   *envoyLink // nil: of an Envoy without the library
	number uint64
	told   string // the session's ID as the Envoy knows it; HTTP has none
	http   bool
	// opened is set once its Envoy said that it is open. Until then it is
	// known from a check only.
	opened bool
	heard  time.Time // when it was first known; with an access log, when it was last heard of
	round  int       // of the snapshot it was last in
	bytes  uint64    // received, going by an access log

	// session has no ID while the device is not known: HTTP before its first
	// request. Its details (source, …) are the check's, which may have been
	// made elsewhere.
	session  provision.Session
	detailed bool
	put      time.Time // when it was last written to the store

	// judged is set once it was judged by its device; anchor is all that a
	// change of the hub needs of it.
	judged bool
	anchor [32]byte // zero: it came by none
	custom bool     // it may have come with a custom certificate: nobody knows

	gone   bool // closed, or its link is
	remove bool // the store is to forget it
	// working: it is in the queue, or being settled; again: once more then.
	working, again bool

	released bool // it was told that it need not wait
	blocked  bool // it has to: an older one is open
	// ends is when it has to end if nothing changes, zero if it need not, and
	// endsBy is why.
	ends   time.Time
	endsBy provision.EndReason

	ending         provision.EndReason // "" = it may go on
	ordered, ended time.Time
	next           *connection // of the same device
}

// hubConnections are the known connections of a hub.
type hubConnections struct {
	name        string    // "" until it was read
	created     time.Time // a hub that was made anew has none of its old devices
	connections map[*connection]struct{}
}

// table finds connections. The Tracker's lock guards it, and all connections in
// it.
type table struct {
	links   map[provision.EnvoyID]*envoyLink
	logged  map[string]*connection // by session ID, of Envoys without the library
	devices map[provision.DeviceID]*connection
	hubs    map[provision.HubID]*hubConnections
	labels  map[string]struct{}      // names of hubs that are counted by themselves
	waiting map[*connection]struct{} // not opened
	held    map[*connection]struct{} // of TCP, not released
	// expiring have to end soon.
	expiring map[*connection]struct{}
	count    int
}

func newTable() table {
	return table{
		links:   make(map[provision.EnvoyID]*envoyLink),
		logged:  make(map[string]*connection),
		devices: make(map[provision.DeviceID]*connection),
		hubs:    make(map[provision.HubID]*hubConnections),
		labels:  make(map[string]struct{}),
		waiting: make(map[*connection]struct{}),
		held:    make(map[*connection]struct{}),

		expiring: make(map[*connection]struct{}),
	}
}

// add adds a connection to its link.
func (t *table) add(c *connection) {
	c.link.connections[c.number] = c
	t.count++
	if !c.opened {
		t.waiting[c] = struct{}{}
	}
}

func (t *table) opened(c *connection) {
	c.opened = true
	delete(t.waiting, c)
}

// take removes a connection.
func (t *table) take(c *connection) {
	if c.gone {
		return
	}
	c.gone = true
	t.count--
	t.unbind(c)
	delete(t.waiting, c)
	delete(t.held, c)
	if c.link == nil {
		delete(t.logged, c.session.ID)
	} else if c.link.connections[c.number] == c {
		delete(c.link.connections, c.number)
	}
}

// bind says whose connection it is.
func (t *table) bind(c *connection, s provision.Session) {
	t.unbind(c)
	c.session = s
	c.judged, c.ends = false, time.Time{}
	c.next = t.devices[s.Device]
	t.devices[s.Device] = c
	h := t.hubs[s.Hub]
	if h == nil {
		h = &hubConnections{connections: make(map[*connection]struct{})}
		t.hubs[s.Hub] = h
	}
	h.connections[c] = struct{}{}
}

func (t *table) unbind(c *connection) {
	if c.session.ID == "" {
		return
	}
	delete(t.expiring, c)
	id := c.session.Device
	if t.devices[id] == c {
		t.devices[id] = c.next
		if c.next == nil {
			delete(t.devices, id)
		}
	} else {
		for p := t.devices[id]; p != nil; p = p.next {
			if p.next == c {
				p.next = c.next
				break
			}
		}
	}
	c.next = nil
	if h := t.hubs[c.session.Hub]; h != nil {
		delete(h.connections, c)
		if len(h.connections) == 0 {
			delete(t.hubs, c.session.Hub)
		}
	}
}

// ofDevice returns the device's connections.
func (t *table) ofDevice(id provision.DeviceID) []*connection {
	var all []*connection
	for c := t.devices[id]; c != nil; c = c.next {
		all = append(all, c)
	}
	return all
}

// find returns the connection of a session that is here, nil if it is not.
func (t *table) find(s provision.Session) *connection {
	if l := t.links[s.Envoy]; l != nil {
		if c := l.connections[s.Connection]; c != nil && c.session.ID == s.ID {
			return c
		}
	}
	return t.logged[s.ID]
}

// envoyLink is the link of one Envoy process. The Tracker's lock guards what
// changes.
type envoyLink struct {
	envoy provision.EnvoyID
	conn  *link.Conn
	wake  chan struct{} // there is something to send
	done  chan struct{} // closed with the link

	gone        bool // replaced, or closed
	connections map[uint64]*connection
	round       int // snapshots begun
	listing     bool
	sorting     bool      // waits to be reconciled
	renewed     time.Time // when its lease was last renewed
	swept       time.Time // when its old sessions were last written again
	seq         uint64
	ends        map[uint64]*connection // by the number of the End, until Ended
	out         []link.Message
	pong        bool
}

// send queues a message.
func (l *envoyLink) send(m link.Message) {
	l.out = append(l.out, m)
	l.signal()
}

func (l *envoyLink) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// join makes the link its Envoy's, and returns the one it replaces.
func (t *table) join(l *envoyLink) *envoyLink {
	old := t.links[l.envoy]
	if old != nil {
		t.leave(old)
	}
	t.links[l.envoy] = l
	return old
}

// leave forgets a link and its connections: whether those are still open is for
// the Envoy's next link to say, here or elsewhere.
func (t *table) leave(l *envoyLink) {
	if l.gone {
		return
	}
	l.gone = true
	delete(t.links, l.envoy)
	for _, c := range maps.Clone(l.connections) {
		t.take(c)
	}
	l.ends, l.out = nil, nil
}
