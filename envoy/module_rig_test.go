package envoy

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/envoy/module/modulebin"
)

var (
	buildLibrary = sync.OnceValues(func() (string, error) { return modulebin.Path(context.Background()) })
	buildTripped = sync.OnceValues(func() (string, error) { return modulebin.Path(context.Background(), "hubgate_trip") })
)

// hub stands in for hubgate's end of the link: it keeps what the library
// says, and gives orders.
type hub struct {
	address string

	mu       sync.Mutex
	hello    *link.Hello
	conn     *link.Conn // nil while there is none
	conns    int
	open     map[uint64]*link.Open
	snapshot map[uint64]*link.Open // being received
	active   map[uint64]int
	ended    map[uint64]bool
}

func startHub(t *testing.T) *hub {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startHubOn(t, listener)
}

func startHubOn(t *testing.T, listener net.Listener) *hub {
	t.Helper()
	h := &hub{
		address: listener.Addr().String(),
		open:    make(map[uint64]*link.Open), active: make(map[uint64]int), ended: make(map[uint64]bool),
	}
	t.Cleanup(func() {
		_ = listener.Close()
		h.cut()
	})
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			go h.serve(raw)
		}
	}()
	return h
}

func (h *hub) serve(raw net.Conn) {
	defer func() { _ = raw.Close() }()
	conn := link.NewConn(raw, 5*time.Second)
	hello, err := conn.Accept(100 * time.Millisecond)
	if err != nil {
		return
	}
	h.mu.Lock()
	h.hello, h.conn = hello, conn
	h.conns++
	h.mu.Unlock()
	for {
		m, err := conn.Read()
		if err != nil {
			break
		}
		h.take(conn, m)
	}
	h.mu.Lock()
	if h.conn == conn {
		h.conn = nil
	}
	h.mu.Unlock()
}

func (h *hub) take(conn *link.Conn, m link.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch m := m.(type) {
	case *link.SnapshotBegin:
		h.snapshot = make(map[uint64]*link.Open)
	case *link.SnapshotEnd:
		h.open, h.snapshot = h.snapshot, nil
	case *link.Open:
		if h.snapshot != nil {
			h.snapshot[m.Connection] = m
		} else {
			h.open[m.Connection] = m
		}
	case *link.Closed:
		delete(h.open, m.Connection)
	case *link.Activity:
		for _, id := range m.Connections {
			h.active[id]++
		}
	case *link.Ended:
		h.ended[m.Seq] = true
	case *link.Ping:
		_ = conn.Write(&link.Pong{})
	}
}

// send gives an order. The library reads while it is read, so this may be
// called at any time.
func (h *hub) send(t *testing.T, m link.Message) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		t.Fatal("no link")
	}
	if err := h.conn.Write(m); err != nil {
		t.Fatal(err)
	}
}

// cut ends the link.
func (h *hub) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		_ = h.conn.Close()
	}
}

// find gives the open connection of which ok holds, nil if there is none.
func (h *hub) find(ok func(*link.Open) bool) *link.Open {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, open := range h.open {
		if ok(open) {
			return open
		}
	}
	return nil
}

func (h *hub) isEnded(seq uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended[seq]
}
