package envoy

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"time"
)

// startModule is an edge with the library, and the end of its link.
func startModule(t testing.TB, o Options, edits ...func(string) string) (*edge, *hub) {
	t.Helper()
	return startModuleAt(t, startHub(t), o, edits...)
}

func startModuleAt(t testing.TB, h *hub, o Options, edits ...func(string) string) (*edge, *hub) {
	t.Helper()
	library, err := buildLibrary()
	if err != nil {
		t.Fatal(err)
	}
	if o.Module == nil {
		o.Module = &Module{}
	}
	if o.Module.Library == "" {
		o.Module.Library = library
	}
	if len(o.Module.Links) == 0 {
		o.Module.Links = []string{h.address}
	}
	o.AccessLog = true
	if o.HTTPS == nil {
		o.HTTPS = &HTTPS{}
	}
	if o.MQTT == nil {
		o.MQTT = &MQTT{}
	}
	e := startEdge(t, o, startAuthorizer(t), edits...)
	eventually(t, "a link", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.conn != nil
	})
	return e, h
}

// TestModule is what the library does in one Envoy. The broker echoes: what a
// device reads is what the broker has read.
func TestModule(t *testing.T) {
	t.Parallel()
	e, h := startModule(t, Options{Module: &Module{ConnectTimeout: time.Second}})
	for name, test := range map[string]func(*testing.T, *edge, *hub){
		"hubgate gets the whole chain":            wholeChain,
		"not on a resumed session":                resumedChain,
		"not one over the limits":                 longChain,
		"hubgate learns who has no certificate":   noChain,
		"the broker learns who is connected":      identity,
		"a CONNECT in many pieces":                pieces,
		"a CONNECT and what follows, in one":      together,
		"hubgate learns what is open":             openConnections,
		"a connection ends, in MQTT's words":      endings,
		"an HTTP connection ends":                 httpEndings,
		"a held CONNECT":                          holding,
		"an end without its connection is acked":  endOfNothing,
		"an end of another session is only acked": endOfAnother,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, e, h)
		})
	}
}

// chainOf gives the chain that hubgate got with a check.
func chainOf(c check) []string { return c.metadata["hubgate-chain"] }

func wholeChain(t *testing.T, e *edge, h *hub) {
	// An intermediate that nobody has ever seen, too.
	line, err := e.line.Intermediate("Vendor Line never seen")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := line.Leaf("device-chain")
	if err != nil {
		t.Fatal(err)
	}
	device := leaf.TLSWith(line.Certificate, e.line.Certificate)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn := e.mustDial(t, e.options.MQTT.Listen, "", &tls.Config{Certificates: []tls.Certificate{device}, MaxVersion: version})
		write(t, conn, connectPacket(mqtt311, "c"))
		if _, _, err := readPacket(conn); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for _, der := range device.Certificate {
		want = append(want, base64.StdEncoding.EncodeToString(der))
	}
	for _, c := range e.authorizer.of("device-chain") {
		if got := chainOf(c); len(got) != 1 || got[0] != strings.Join(want, ",") {
			t.Errorf("hubgate-chain %q, want three certificates", got)
		}
		assertMetadata(t, c, device)
		connection := c.metadata["hubgate-connection"]
		if len(connection) != 1 || !strings.HasPrefix(connection[0], h.epoch()+"/") {
			t.Errorf("hubgate-connection %q, want epoch %s", connection, h.epoch())
		}
	}
}

func resumedChain(t *testing.T, e *edge, _ *hub) {
	const name = "device-chain-resumed"
	device := e.device(t, name)
	config := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1), Certificates: []tls.Certificate{device}}
	for i := range 2 {
		conn := e.mustDial(t, e.options.MQTT.Listen, "", config)
		write(t, conn, connectPacket(mqtt311, "c"))
		if _, _, err := readPacket(conn); err != nil || conn.ConnectionState().DidResume != (i == 1) {
			t.Fatalf("connection %d: resumed %t, %v", i, conn.ConnectionState().DidResume, err)
		}
	}
	resumed := e.authorizer.of(name)[1]
	assertMetadata(t, resumed, device)
	if got := chainOf(resumed); got != nil && got[0] != "-" {
		t.Errorf("hubgate-chain %q, want none", got)
	}
}

func longChain(t *testing.T, e *edge, _ *hub) {
	const name = "device-chain-long"
	device := e.device(t, name)
	for len(device.Certificate) < 11 {
		device.Certificate = append(device.Certificate, e.root.Certificate.Raw)
	}
	conn := e.mqtt(t, device)
	write(t, conn, connectPacket(mqtt311, "c"))
	if _, _, err := readPacket(conn); err != nil {
		t.Fatal(err)
	}
	if got := chainOf(e.authorizer.one(t, name)); len(got) != 1 || got[0] != ";truncated" {
		t.Errorf("hubgate-chain %.99q, want none but a mark", got)
	}
}

func noChain(t *testing.T, e *edge, _ *hub) {
	conn := e.mqtt(t)
	write(t, conn, connectPacket(mqtt311, "c"))
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("device got %v, want the alert access_denied", err)
	}
	if len(e.authorizer.of("denied-without-certificate")) == 0 {
		t.Error("hubgate was not asked")
	}
}

func identity(t *testing.T, e *edge, _ *hub) {
	for _, version := range []byte{mqtt311, mqtt5} {
		conn := e.dialMQTT(t, "device-identity")
		write(t, conn, fullConnect(version, "client", "admin", "secret"))
		id, user := identified("device-identity", "client")
		want := fullConnect(version, id, user, "")
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Errorf("version %d: the broker got %q, %v; want %q", version, got, err, want)
		}
		assertEcho(t, conn, packet(0x30, str("topic")+"payload"))
	}
	// A broker gives a name to those without, as the protocol says.
	conn := e.dialMQTT(t, "device-nameless")
	write(t, conn, connectPacket(mqtt5, ""))
	_, user := identified("device-nameless", "")
	assertPacket(t, conn, 0x10, str("MQTT")+"\x05\x82\x00\x3c\x00"+str("")+str(user))
}

func pieces(t *testing.T, e *edge, _ *hub) {
	conn := e.dialMQTT(t, "device-pieces")
	id, user := identified("device-pieces", "client")
	sent := fullConnect(mqtt5, "client", "admin", "secret")
	for i := range len(sent) {
		write(t, conn, sent[i:i+1]) // a TLS record each
		if i%10 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	write(t, conn, "\xc0\x00")
	want := fullConnect(mqtt5, id, user, "") + "\xc0\x00"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Errorf("the broker got %q, %v; want %q", got, err, want)
	}
}

func together(t *testing.T, e *edge, _ *hub) {
	conn := e.dialMQTT(t, "device-together")
	id, user := identified("device-together", "client")
	// More than Envoy buffers at once, with a body that looks like a CONNECT.
	rest := packet(0x30, str("t")+strings.Repeat(connectPacket(mqtt311, "x"), 5000)) + "\xc0\x00"
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, connectPacket(mqtt311, "client")+rest)
		sent <- err
	}()
	want := packet(0x10, str("MQTT")+"\x04\x82\x00\x3c"+str(id)+str(user)) + rest
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Errorf("the broker got something else: %v", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
