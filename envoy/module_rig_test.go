package envoy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
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
	down     bool       // refuses connections
	conns    int        // how many there have been
	open     map[uint64]*link.Open
	snapshot map[uint64]*link.Open // being received
	active   map[uint64]int
	ended    map[uint64]bool
	ends     map[uint64]*link.End // not acknowledged yet
	raw      net.Conn             // under conn
	hung     chan struct{}        // nil: it reads; else it does not, until this is closed
}

func startHub(t testing.TB) *hub {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startHubOn(t, listener)
}

func startHubOn(t testing.TB, listener net.Listener) *hub {
	t.Helper()
	h := &hub{
		address: listener.Addr().String(),
		open:    make(map[uint64]*link.Open), active: make(map[uint64]int), ended: make(map[uint64]bool),
		ends: make(map[uint64]*link.End),
	}
	t.Cleanup(func() {
		_ = listener.Close()
		h.cut(true)
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
	hello, err := conn.Accept(time.Second)
	if err != nil {
		return
	}
	h.mu.Lock()
	if h.down {
		h.mu.Unlock()
		return
	}
	h.hello, h.conn, h.raw = hello, conn, raw
	h.conns++
	h.mu.Unlock()
	for {
		h.mu.Lock()
		hung := h.hung
		h.mu.Unlock()
		if hung != nil {
			<-hung
		}
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
		for _, end := range h.ends {
			_ = conn.Write(end)
		}
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
		delete(h.ends, m.Seq)
	case *link.Ping:
		_ = conn.Write(&link.Pong{})
	}
}

// end orders an end, now or when the link is there again.
func (h *hub) end(m *link.End) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends[m.Seq] = m
	if h.conn != nil {
		_ = h.conn.Write(m)
	}
}

// release lets a connection go on.
func (h *hub) release(t testing.TB, open *link.Open) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		t.Fatal("no link")
	}
	if err := h.conn.Write(&link.Release{Connection: open.Connection, Session: open.Session}); err != nil {
		t.Fatal(err)
	}
}

// cut ends the link; while down, there is none again.
func (h *hub) cut(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
	if h.conn != nil {
		_ = h.conn.Close()
	}
}

// hang keeps the link, and the links to come, without reading from them, until
// the test ends. The little that waits to be read fills the link up.
func (h *hub) hang(t testing.TB) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if tcp, ok := h.raw.(*net.TCPConn); ok {
		if err := tcp.SetReadBuffer(1); err != nil { // the least there is
			t.Fatal(err)
		}
	}
	h.hung = make(chan struct{})
	t.Cleanup(func() { close(h.hung) })
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

// epoch is that of the Envoy at the other end.
func (h *hub) epoch() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hello.Epoch
}

// links is how many connections there have been.
func (h *hub) links() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns
}

// name is how checks name a connection.
func (h *hub) name(id uint64) string { return fmt.Sprintf("%s/%d", h.epoch(), id) }

// await gives a device's open connection once there is one.
func (h *hub) await(t testing.TB, device string) *link.Open {
	t.Helper()
	ofDevice := func(o *link.Open) bool { return o.Session == "session of "+device }
	eventually(t, "an open connection of "+device, func() bool { return h.find(ofDevice) != nil })
	return h.find(ofDevice)
}

// established is a device's connection after its CONNECT.
func (h *hub) established(t testing.TB, e *edge, device string, version byte) (*tls.Conn, *link.Open) {
	t.Helper()
	conn := e.dialMQTT(t, device)
	write(t, conn, connectPacket(version, "c"))
	if first, _, err := readPacket(conn); err != nil || first != 0x10 {
		t.Fatalf("packet %#x, %v; want the CONNECT", first, err)
	}
	return conn, h.await(t, device)
}

// connection is the ID of the connection that a check was about.
func (h *hub) connection(t testing.TB, c check) uint64 {
	t.Helper()
	id, err := strconv.ParseUint(strings.TrimPrefix(c.metadata["hubgate-connection"][0], h.epoch()+"/"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
