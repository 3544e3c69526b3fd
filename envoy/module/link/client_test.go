package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// device is an open connection: it notes its orders.
type device struct {
	mu     sync.Mutex
	orders []string
	active bool
}

func (d *device) note(order string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.orders = append(d.orders, order)
}

func (d *device) End(code byte, text string) { d.note(fmt.Sprintf("end %#x %s", code, text)) }
func (d *device) Release()                   { d.note("release") }

func (d *device) Active() bool {
	active := d.active
	d.active = false
	return active
}

func (d *device) ordered() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.orders)
}

// server is hubgate's end, one message at a time.
type server struct {
	net.Listener
	heartbeat time.Duration
}

func listen(t *testing.T, network, address string) *server {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &server{l, 10 * time.Second}
}

// accept greets the next connection.
func (s *server) accept(t *testing.T) (*Conn, *Hello) {
	t.Helper()
	raw, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	conn := NewConn(raw, 10*time.Second)
	hello, err := conn.Accept(s.heartbeat)
	if err != nil {
		t.Fatal(err)
	}
	return conn, hello
}

// run starts a client and ends it with the test.
func run(t *testing.T, config ClientConfig) *Client {
	t.Helper()
	config.Hello = Hello{Node: "edge-1", Epoch: epoch, Library: "test"}
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

// expect reads these messages, whatever pings are between them.
func expect(t *testing.T, conn *Conn, want ...Message) {
	t.Helper()
	for _, w := range want {
		for {
			got, err := conn.Read()
			if err != nil {
				t.Fatalf("%v, want %+v", err, w)
			}
			if _, ping := got.(*Ping); ping {
				continue
			}
			if fmt.Sprintf("%T %+v", got, got) != fmt.Sprintf("%T %+v", w, w) {
				t.Fatalf("got %T %+v, want %T %+v", got, got, w, w)
			}
			break
		}
	}
}

func write(t *testing.T, conn *Conn, messages ...Message) {
	t.Helper()
	if err := conn.Write(messages...); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

func TestClient(t *testing.T) {
	s := listen(t, "tcp", "127.0.0.1:0")
	c := run(t, ClientConfig{Addresses: []string{s.Addr().String()}})
	one, two := Open{Connection: 1, Protocol: TCP, Session: "s1", Hub: "h", Device: "d"}, Open{Connection: 2, Protocol: HTTP}
	d1, d2 := &device{}, &device{}
	s1 := c.Open(one, d1)
	conn, hello := s.accept(t)
	if hello.Version != Version || hello.Node != "edge-1" || hello.Epoch != epoch || hello.Library != "test" {
		t.Errorf("%+v", hello)
	}
	expect(t, conn, &SnapshotBegin{}, &one, &SnapshotEnd{})
	s2 := c.Open(two, d2)
	expect(t, conn, &two)

	write(t, conn, &Release{Connection: 1, Session: "s1"}, &Release{Connection: 1, Session: "other"}, &Release{Connection: 9},
		&End{Seq: 1, Connection: 9, Session: "s9"},
		&End{Seq: 2, Connection: 1, Session: "other"},
		&End{Seq: 3, Connection: 1, Session: "s1", Code: SessionTakenOver, Text: "why"},
		&End{Seq: 4, Connection: 1},
		&End{Seq: 5, Connection: 2, Code: NotAuthorized})
	expect(t, conn, &Ended{1}, &Ended{2})
	eventually(t, "the orders", func() bool { return len(d1.ordered()) == 3 && len(d2.ordered()) == 1 })
	if got, want := d1.ordered(), []string{"release", "end 0x8e why", "end 0x0 "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s1.Close()
	s1.Close()
	expect(t, conn, &Closed{1}, &Ended{3}, &Ended{4})
	s2.Close()
	expect(t, conn, &Closed{2}, &Ended{5})
}

// TestReconnect: a snapshot replaces what happened meanwhile, and the numbers
// of the old connection are void.
func TestReconnect(t *testing.T) {
	first, second := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.1:0")
	c := run(t, ClientConfig{Addresses: []string{first.Addr().String(), second.Addr().String()}})
	conn, _ := first.accept(t)
	expect(t, conn, &SnapshotBegin{}, &SnapshotEnd{})
	stays, goes, comes := Open{Connection: 1, Protocol: HTTP}, Open{Connection: 2, Protocol: HTTP}, Open{Connection: 3, Protocol: HTTP}
	d := &device{}
	sessions := []*Session{c.Open(stays, d), c.Open(goes, &device{})}
	expect(t, conn, &stays, &goes)
	write(t, conn, &End{Seq: 7, Connection: 1})
	eventually(t, "an order", func() bool { return len(d.ordered()) == 1 })
	_ = first.Close()
	_ = conn.Close()
	conn, _ = second.accept(t)
	expect(t, conn, &SnapshotBegin{}, &stays, &goes, &SnapshotEnd{})
	write(t, conn, &End{Seq: 1, Connection: 1})
	eventually(t, "another order", func() bool { return len(d.ordered()) == 2 })
	sessions[1].Close()
	expect(t, conn, &Closed{2})

	// Meanwhile the second is down as well.
	_ = conn.Close()
	sessions[0].Close()
	c.Open(comes, d)
	conn, _ = second.accept(t)
	expect(t, conn, &SnapshotBegin{}, &comes, &SnapshotEnd{})
}

// TestSlowServer: what waits is bounded, and what was dropped is in the next
// snapshot, with the answers that were not.
func TestSlowServer(t *testing.T) {
	tab := newTable()
	tab.link()
	if got := tab.take(); len(got) != 2 {
		t.Fatalf("%d messages, want an empty snapshot", len(got))
	}
	gone := tab.open(Open{Connection: 1 << 32, Protocol: HTTP}, &device{})
	if !tab.end(&End{Seq: 1, Connection: 1 << 32}) {
		t.Fatal("an end was refused")
	}
	gone.Close()
	for i := range uint64(maxQueue) {
		tab.open(Open{Connection: i, Protocol: HTTP}, &device{})
	}
	if len(tab.queue) > maxQueue {
		t.Errorf("%d messages wait, want at most %d", len(tab.queue), maxQueue)
	}
	got := tab.take()
	if len(got) != maxQueue+3 {
		t.Fatalf("%d messages, want a snapshot of %d and an answer", len(got), maxQueue)
	}
	if _, ok := got[0].(*SnapshotBegin); !ok {
		t.Errorf("first %T", got[0])
	}
	if _, ok := got[maxQueue+1].(*SnapshotEnd); !ok {
		t.Errorf("after the connections %T", got[maxQueue+1])
	}
	if m, ok := got[maxQueue+2].(*Ended); !ok || m.Seq != 1 {
		t.Errorf("last %+v", got[maxQueue+2])
	}
	if got := tab.take(); len(got) != 0 {
		t.Errorf("then %d messages", len(got))
	}
}

func TestTooManyEnds(t *testing.T) {
	tab := newTable()
	tab.link()
	tab.inWork = maxEnds - 1
	if !tab.end(&End{Seq: 1}) || tab.end(&End{Seq: 2}) {
		t.Errorf("ends in work: %d, want to stop at %d", tab.inWork, maxEnds)
	}
	tab.take()
	if !tab.end(&End{Seq: 3}) {
		t.Error("an end was refused after another was answered")
	}
}

func TestActivity(t *testing.T) {
	tab := newTable()
	for i := range MaxActive + 2 {
		tab.open(Open{Connection: uint64(i), Protocol: HTTP}, &device{active: i != 1})
	}
	got := tab.activity()
	if len(got) != 2 || len(got[0].(*Activity).Connections) != MaxActive || !slices.Equal(got[1].(*Activity).Connections, []uint64{MaxActive + 1}) {
		t.Errorf("%d messages", len(got))
	}
	for _, m := range got {
		encode(t, m)
	}
	if got := tab.activity(); got != nil {
		t.Errorf("then %v, want nothing", got)
	}
}

// TestSilence: an end that says nothing is gone.
func TestSilence(t *testing.T) {
	s := listen(t, "tcp", "127.0.0.1:0")
	s.heartbeat = 50 * time.Millisecond
	run(t, ClientConfig{Addresses: []string{s.Addr().String()}})
	for range 2 { // no Pong, so the client comes again
		conn, _ := s.accept(t)
		expect(t, conn, &SnapshotBegin{}, &SnapshotEnd{})
		m, err := conn.Read()
		if _, ok := m.(*Ping); !ok {
			t.Errorf("%T, %v; want a Ping", m, err)
		}
	}
	conn, _ := s.accept(t)
	for range 10 { // with one, it stays
		expectKind(t, conn, &Ping{})
		write(t, conn, &Pong{})
	}
}

// expectKind reads on until a message of want's type.
func expectKind(t *testing.T, conn *Conn, want Message) {
	t.Helper()
	for {
		m, err := conn.Read()
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%T", m) == fmt.Sprintf("%T", want) {
			return
		}
	}
}

// TestBadServers: whatever answers there, the client goes on to the next.
func TestBadServers(t *testing.T) {
	good := listen(t, "tcp", "127.0.0.1:0")
	var addresses []string
	for _, answer := range [][]byte{
		[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		{0, 0, 0, 0},
		encode(t, &Welcome{Version: Version + 1, Heartbeat: time.Second}),
		encode(t, &Ping{}),
		append(encode(t, &Welcome{Version: Version, Heartbeat: time.Second}), encode(t, &Hello{Version: 1, Epoch: epoch})...),
	} {
		s := listen(t, "tcp", "127.0.0.1:0")
		addresses = append(addresses, s.Addr().String())
		go func() {
			for {
				conn, err := s.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write(answer)
				t.Cleanup(func() { _ = conn.Close() })
			}
		}()
	}
	c := run(t, ClientConfig{Addresses: append(addresses, good.Addr().String())})
	c.Open(Open{Connection: 1, Protocol: HTTP}, &device{})
	conn, _ := good.accept(t)
	expect(t, conn, &SnapshotBegin{}, &Open{Connection: 1, Protocol: HTTP}, &SnapshotEnd{})
}

// TestPanic: a control that panics costs the connection to hubgate, no more.
func TestPanic(t *testing.T) {
	s := listen(t, "tcp", "127.0.0.1:0")
	c := run(t, ClientConfig{Addresses: []string{s.Addr().String()}})
	c.Open(Open{Connection: 1, Protocol: HTTP}, nil)
	conn, _ := s.accept(t)
	write(t, conn, &End{Seq: 1, Connection: 1})
	s.accept(t)
}

func TestServerGreets(t *testing.T) {
	for want, first := range map[error]Message{ErrUnexpected: &Ping{}, nil: &Hello{Version: Version + 1, Epoch: epoch}} {
		a, b := net.Pipe()
		go func() {
			conn := NewConn(b, time.Second)
			_ = conn.Write(first)
			_, _ = conn.Read()
		}()
		if _, err := NewConn(a, time.Second).Accept(time.Second); !errors.Is(err, want) {
			t.Errorf("%T: %v, want %v", first, err, want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "link.sock")
	s := listen(t, "unix", path)
	// TLS is for networks.
	run(t, ClientConfig{Addresses: []string{"unix://" + path}, TLS: func() (*tls.Config, error) { return nil, errors.New("asked for") }})
	s.accept(t)
}

func TestMutualTLS(t *testing.T) {
	ca, err := pki.NewRoot("CA")
	if err != nil {
		t.Fatal(err)
	}
	serverLeaf, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	clientLeaf, err := ca.Leaf("envoy")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	s := listen(t, "tcp", "127.0.0.1:0")
	s.Listener = tls.NewListener(s.Listener, &tls.Config{
		Certificates: []tls.Certificate{serverLeaf.TLSWith()}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	attempts := 0
	run(t, ClientConfig{Addresses: []string{s.Addr().String()}, TLS: func() (*tls.Config, error) {
		if attempts++; attempts == 1 {
			return nil, errors.New("being replaced") // files that change
		}
		return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{clientLeaf.TLSWith()}}, nil
	}})
	conn, _ := s.accept(t)
	expect(t, conn, &SnapshotBegin{}, &SnapshotEnd{})
}

func TestNewClientRefuses(t *testing.T) {
	for want, config := range map[string]ClientConfig{
		"no address":   {Hello: Hello{Epoch: epoch}},
		"malformed":    {Addresses: []string{"a:1"}, Hello: Hello{Epoch: "x"}},
		"over its lim": {Addresses: []string{"a:1"}, Hello: Hello{Epoch: epoch, Node: strings.Repeat("n", MaxText+1)}},
	} {
		if _, err := NewClient(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
