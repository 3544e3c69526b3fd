package link

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxQueue bounds what waits to be sent. Over it everything that waits is
	// dropped, and a snapshot says it all.
	maxQueue = 4096
	// maxEnds bounds the Ends in work. hubgate's Ends are as many as it has
	// connections to end; over this bound the link starts anew.
	maxEnds = 1 << 20
)

// Control is how a connection takes orders. Its methods are called on the
// link's goroutine: they must not block, and may come after the connection
// has closed.
type Control interface {
	// End closes the connection, with a reason for an MQTT 5 client.
	End(code byte, text string)
	// Release lets the connection go on, if it was told to wait.
	Release()
	// Active reports whether the device has sent something since it was last
	// asked.
	Active() bool
}

// Session is an open connection in a Client's table.
type Session struct {
	table   *table
	open    Open
	control Control
	index   int      // in table.sessions; -1 once closed
	ends    []uint64 // numbers of the Ends to be answered when it closes
}

// Close says that the connection is closed. It may be called again.
func (s *Session) Close() { s.table.close(s) }

// table holds what is open, and what hubgate has not been told of it. Envoy's
// worker threads call it, so that its lock is never held for long: a snapshot
// copies pointers only.
type table struct {
	wake chan struct{} // something waits to be sent

	mu       sync.Mutex
	byID     map[uint64]*Session
	sessions []*Session
	linked   bool      // somebody takes what is queued
	since    time.Time // when linked changed
	resync   bool      // a snapshot is due instead of queue
	queue    []Message
	ended    []Message // answers to Ends; never dropped while linked
	inWork   int       // Ends of open sessions plus answers
}

func newTable() *table {
	return &table{wake: make(chan struct{}, 1), byID: make(map[uint64]*Session), since: time.Now()}
}

func (t *table) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *table) push(m Message) {
	if !t.linked || t.resync {
		return
	}
	if len(t.queue) >= maxQueue {
		t.queue, t.resync = nil, true
	} else {
		t.queue = append(t.queue, m)
	}
	t.signal()
}

func (t *table) open(open Open, control Control) *Session {
	s := &Session{table: t, open: open, control: control}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.index = len(t.sessions)
	t.sessions = append(t.sessions, s)
	t.byID[open.Connection] = s
	t.push(&s.open)
	return s
}

func (t *table) close(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.index < 0 {
		return
	}
	last := len(t.sessions) - 1
	t.sessions[s.index] = t.sessions[last]
	t.sessions[s.index].index = s.index
	t.sessions[last] = nil
	t.sessions = t.sessions[:last]
	s.index = -1
	if t.byID[s.open.Connection] == s {
		delete(t.byID, s.open.Connection)
	}
	t.push(&Closed{Connection: s.open.Connection})
	for _, seq := range s.ends {
		t.ended = append(t.ended, &Ended{Seq: seq})
	}
	s.ends = nil
	t.signal()
}

// end passes an order on. It reports false if there are too many in work.
func (t *table) end(m *End) bool {
	t.mu.Lock()
	s := t.byID[m.Connection]
	full := t.inWork >= maxEnds
	switch {
	case full:
	case s == nil || m.Session != "" && m.Session != s.open.Session:
		t.inWork++
		t.ended = append(t.ended, &Ended{Seq: m.Seq})
		t.signal()
		s = nil
	default:
		t.inWork++
		s.ends = append(s.ends, m.Seq)
	}
	t.mu.Unlock()
	if full {
		return false
	}
	if s != nil {
		s.control.End(m.Code, m.Text)
	}
	return true
}

func (t *table) release(m *Release) {
	t.mu.Lock()
	s := t.byID[m.Connection]
	t.mu.Unlock()
	if s != nil && s.open.Session == m.Session {
		s.control.Release()
	}
}

// link begins a connection to hubgate: its first batch is a snapshot, and the
// numbers of an earlier connection mean nothing on it.
func (t *table) link() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.linked, t.since, t.resync = true, time.Now(), true
	t.queue, t.ended, t.inWork = nil, nil, 0
	for _, s := range t.sessions {
		s.ends = nil
	}
	t.signal()
}

func (t *table) unlink() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.linked, t.since = false, time.Now()
	t.queue, t.ended = nil, nil
}

func (t *table) down() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.linked {
		return 0
	}
	return time.Since(t.since)
}

// take gives what is to be sent, in order.
func (t *table) take() []Message {
	t.mu.Lock()
	queue, ended, resync := t.queue, t.ended, t.resync
	var open []*Session
	if resync {
		open = slices.Clone(t.sessions)
	}
	t.queue, t.ended, t.resync = nil, nil, false
	t.inWork -= len(ended)
	t.mu.Unlock()

	if !resync {
		return append(queue, ended...)
	}
	messages := make([]Message, 0, len(open)+len(ended)+2)
	messages = append(messages, &SnapshotBegin{})
	for _, s := range open {
		messages = append(messages, &s.open)
	}
	return append(append(messages, &SnapshotEnd{}), ended...)
}

// activity gives the sessions that were active since it was last asked.
func (t *table) activity() []Message {
	t.mu.Lock()
	open := slices.Clone(t.sessions)
	t.mu.Unlock()
	var messages []Message
	var m *Activity
	for _, s := range open {
		if !s.control.Active() {
			continue
		}
		if m == nil || len(m.Connections) == MaxActive {
			m = &Activity{}
			messages = append(messages, m)
		}
		m.Connections = append(m.Connections, s.open.Connection)
	}
	return messages
}
