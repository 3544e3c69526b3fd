package envoy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
)

func openConnections(t *testing.T, e *edge, h *hub) {
	conn := e.dialMQTT(t, "device-open")
	write(t, conn, connectPacket(mqtt311, "c"))
	ofDevice := func(o *link.Open) bool { return o.Session == "session of device-open" }
	eventually(t, "an open connection", func() bool { return h.find(ofDevice) != nil })
	got := h.find(ofDevice)
	check := e.authorizer.one(t, "device-open")
	if got.Protocol != link.TCP || got.Hub != hubID || got.Device != deviceID ||
		check.metadata["hubgate-connection"][0] != h.name(got.Connection) {
		t.Errorf("open: %+v, hubgate was asked about %s", got, check.metadata["hubgate-connection"])
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end", func() bool { return h.find(ofDevice) == nil })
}

// endings needs a broker that answers, which the echo does for a device that
// writes the broker's part as well.
func endings(t *testing.T, e *edge, h *hub) {
	const connack5, connack311 = "\x20\x03\x00\x00\x00", "\x20\x02\x00\x00"
	text := strings.Repeat("x", 1000)
	for name, tc := range map[string]struct {
		version byte
		answers string // of the broker
		code    byte
		text    string
		want    string
	}{
		"device-end-5":        {mqtt5, connack5, link.AdministrativeAction, "", "\xe0\x02\x98\x00"},
		"device-end-taken":    {mqtt5, connack5, link.SessionTakenOver, "taken over", "\xe0\x0f\x8e\x0d\x1f" + str("taken over")},
		"device-end-early":    {mqtt5, "", link.NotAuthorized, "device is not enabled", "\x20\x03\x00\x87\x00"},
		"device-end-311":      {mqtt311, connack311, link.AdministrativeAction, "", ""},
		"device-end-long":     {mqtt5, connack5 + packet(0x30, str("t")+text), link.NotAuthorized, "", "\xe0\x02\x87\x00"},
		"device-end-midst":    {mqtt5, connack5 + packet(0x30, str("t")+text)[:500], link.NotAuthorized, "", ""},
		"device-end-midst311": {mqtt311, connack311 + "\x30", link.NotAuthorized, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, open := h.established(t, e, name, tc.version)
			assertEcho(t, conn, tc.answers)
			start := time.Now()
			h.end(&link.End{Seq: open.Connection, Connection: open.Connection, Session: open.Session, Code: tc.code, Text: tc.text})
			got, err := io.ReadAll(conn)
			if string(got) != tc.want || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("device read %q, %v; want %q", got, err, tc.want)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %s", took)
			}
			eventually(t, "an acknowledgement", func() bool { return h.isEnded(open.Connection) })
			if h.find(func(o *link.Open) bool { return o.Connection == open.Connection }) != nil {
				t.Error("acknowledged before it was closed")
			}
		})
	}
}

func httpEndings(t *testing.T, e *edge, h *hub) {
	const name = "device-end-http"
	conn := e.connect(t, name)
	send(t, conn, "GET /socket HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n")
	assertEcho(t, conn, "frame")
	id := h.connection(t, e.authorizer.one(t, name))
	eventually(t, "an open connection", func() bool {
		return h.find(func(o *link.Open) bool { return o.Connection == id && o.Protocol == link.HTTP && o.Session == "" }) != nil
	})
	h.end(&link.End{Seq: id, Connection: id, Code: link.AdministrativeAction})
	assertClosed(t, conn)
	eventually(t, "an acknowledgement", func() bool { return h.isEnded(id) })
}

func holding(t *testing.T, e *edge, h *hub) {
	conn := e.dialMQTT(t, "hold-released")
	write(t, conn, connectPacket(mqtt5, "c")+"\xc0\x00")
	open := h.await(t, "hold-released")
	time.Sleep(200 * time.Millisecond)
	write(t, conn, "\xc0\x00") // Envoy keeps this one
	h.release(t, open)
	id, user := identified("hold-released", "c")
	assertPacket(t, conn, 0x10, str("MQTT")+"\x05\x82\x00\x3c\x00"+str(id)+str(user))
	assertPacket(t, conn, 0xc0, "")
	assertPacket(t, conn, 0xc0, "")

	// Nobody says that it may go on.
	for version, want := range map[byte]string{mqtt311: "", mqtt5: "\x20\x03\x00\x88\x00"} {
		conn = e.dialMQTT(t, "hold-forgotten")
		write(t, conn, connectPacket(version, "c"))
		if got, err := io.ReadAll(conn); string(got) != want {
			t.Errorf("device read %q, %v; want %q", got, err, want)
		}
	}
}

func endOfNothing(t *testing.T, _ *edge, h *hub) {
	h.end(&link.End{Seq: 1 << 40, Connection: 1 << 40})
	eventually(t, "an acknowledgement", func() bool { return h.isEnded(1 << 40) })
}

func endOfAnother(t *testing.T, e *edge, h *hub) {
	conn, open := h.established(t, e, "device-another", mqtt5)
	h.end(&link.End{Seq: open.Connection, Connection: open.Connection, Session: "another"})
	eventually(t, "an acknowledgement", func() bool { return h.isEnded(open.Connection) })
	assertEcho(t, conn, "\xc0\x00")
}

// TestLinkCut: what is ordered while the link is down happens later.
func TestLinkCut(t *testing.T) {
	t.Parallel()
	e, h := startModule(t, Options{})
	_, gone := h.established(t, e, "device-gone", mqtt5)
	conn, stays := h.established(t, e, "device-stays", mqtt5)
	left, leaves := h.established(t, e, "device-leaves", mqtt5)

	h.cut(true)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, e.dialMQTT(t, "device-later"), connectPacket(mqtt5, "c"))
	eventually(t, "a check of device-later", func() bool { return len(e.authorizer.of("device-later")) == 1 })
	h.end(&link.End{Seq: 1, Connection: gone.Connection, Session: gone.Session, Code: link.NotAuthorized})
	h.end(&link.End{Seq: 2, Connection: leaves.Connection, Session: leaves.Session, Code: link.NotAuthorized})
	h.cut(false)
	eventually(t, "both acknowledgements", func() bool { return h.isEnded(1) && h.isEnded(2) })
	if got := h.await(t, "device-stays"); got.Connection != stays.Connection {
		t.Errorf("connection %d, want %d", got.Connection, stays.Connection)
	}
	assertEcho(t, conn, "\xc0\x00")
	h.await(t, "device-later")
	if h.find(func(o *link.Open) bool { return o.Connection == gone.Connection || o.Connection == leaves.Connection }) != nil {
		t.Error("a connection that is closed is among those that are open")
	}
}

// TestModuleLinkSecured: the link goes over mutual TLS, and over a Unix socket
// where the first address does not answer.
func TestModuleLinkSecured(t *testing.T) {
	t.Parallel()
	ours := newVendor(t)
	pair := ours.server(t)
	certificate, err := tls.LoadX509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mutual := startHubOn(t, tls.NewListener(plain, &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientCAs: ours.pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}))
	socket := filepath.Join(t.TempDir(), "link.sock")
	local, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	overSocket := startHubOn(t, local)
	for h, links := range map[*hub][]string{mutual: {mutual.address}, overSocket: {nobody, "unix://" + socket}} {
		e, _ := startModuleAt(t, h, Options{Module: &Module{
			Links: links, TLS: &ClientTLS{CA: ours.ca(t), Client: ours.client(t), ServerName: "localhost"},
		}})
		h.established(t, e, "device-secured", mqtt311)
	}
}

// TestModuleLinkHangs: hubgate that hangs holds up no connection, neither those
// that are open nor those that come and go meanwhile: no hook waits for the link.
func TestModuleLinkHangs(t *testing.T) {
	t.Parallel()
	e, h := startModule(t, Options{})
	other, _ := h.established(t, e, "device-other", mqtt5)
	h.hang(t)
	const cycles = 200
	for i := range cycles {
		conn := e.dialMQTT(t, "device-passing")
		write(t, conn, connectPacket(mqtt311, "c"))
		if first, _, err := readPacket(conn); err != nil || first != 0x10 {
			t.Fatalf("connection %d: packet %#x, %v; want the CONNECT", i, first, err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		assertEcho(t, other, "\xc0\x00")
	}
}
