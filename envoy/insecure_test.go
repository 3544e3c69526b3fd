package envoy

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
)

// startInsecure is an edge that listens without TLS as well.
func startInsecure(t *testing.T, m *Module) (*edge, *hub) {
	t.Helper()
	addresses := freeAddresses(t, 2)
	return startModule(t, Options{HTTPS: &HTTPS{Insecure: addresses[0]}, MQTT: &MQTT{Insecure: addresses[1]}, Module: m})
}

// dialPlain is a connection without TLS of which nothing was sent yet.
func dialPlain(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// credentialsOf is how the library tells hubgate credentials.
func credentialsOf(user, password string) string {
	hash := sha256.Sum256([]byte(password))
	return base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + base64.RawURLEncoding.EncodeToString(hash[:])
}

// TestInsecureMQTT: without TLS, hubgate is told the credentials of the CONNECT
// when it is asked; the broker and the logs never are.
func TestInsecureMQTT(t *testing.T) {
	t.Parallel()
	e, h := startInsecure(t, nil)
	const secret = "n0b0dy-e1se-sh0u1d-read-this"
	for _, version := range []byte{mqtt311, mqtt5} {
		user := "device-plain-" + string('0'+version)
		sent := fullConnect(version, "c", user, secret)
		conn := dialPlain(t, e.options.MQTT.Insecure)
		for _, piece := range []string{sent[:1], sent[1:20], sent[20:] + "\xc0\x00"} {
			write(t, conn, piece)
			time.Sleep(20 * time.Millisecond) // so that it is a read of its own
		}
		id, name := identified(user, "c")
		_, want, _ := readPacket(strings.NewReader(fullConnect(version, id, name, "")))
		assertPacket(t, conn, 0x10, want)
		assertPacket(t, conn, 0xc0, "")
		asked := e.authorizer.one(t, user)
		if got := asked.metadata["hubgate-credentials"]; len(got) != 1 || got[0] != credentialsOf(user, secret) {
			t.Errorf("hubgate-credentials %q", got)
		}
		if got := asked.metadata["hubgate-connection"]; len(got) != 1 || !strings.HasPrefix(got[0], h.epoch()+"/") {
			t.Errorf("hubgate-connection %q, want epoch %s", got, h.epoch())
		}
		open := h.await(t, user)
		h.end(&link.End{Seq: uint64(version), Connection: open.Connection, Session: open.Session, Code: link.AdministrativeAction})
		if rest, err := io.ReadAll(conn); err != nil || version == mqtt5 && string(rest) != "\x20\x03\x00\x88\x00" {
			t.Errorf("read %q, %v at the end", rest, err)
		}
	}
	if strings.Contains(e.envoy.Output(), secret) {
		t.Errorf("Envoy's log has the secret:\n%s", e.envoy.Output())
	}
}

// TestInsecureMQTTRefuses: what brings no credentials, or is no proper CONNECT, or
// comes too slowly, ends without the broker hearing of it.
func TestInsecureMQTTRefuses(t *testing.T) {
	t.Parallel()
	e, _ := startInsecure(t, &Module{ConnectTimeout: 700 * time.Millisecond, MaxConnect: 1024})
	large := strings.Repeat("x", 1024)
	for name, tc := range map[string]struct {
		sends, want string
		asked       bool
	}{
		"none":           {connectPacket(mqtt5, "c"), "", true},
		"denied":         {fullConnect(mqtt5, "c", "denied-plain", "x"), "", true},
		"user alone":     {fullConnect(mqtt5, "c", "device-alone", ""), "", true},
		"password alone": {fullConnect(mqtt5, "c", "", "secret"), "", true},
		"long user":      {fullConnect(mqtt5, "c", strings.Repeat("u", 513), "secret"), "", true},
		"http":           {"GET / HTTP/1.1\r\n\r\n", "", false},
		"malformed":      {packet(0x10, str("MQTT")+"\x05\x03\x00\x3c\x00"+str("c")), "\x20\x03\x00\x81\x00", false},
		"large":          {connectPacket(mqtt5, large)[:20], "\x20\x03\x00\x95\x00", false},
		"two at once":    {strings.Repeat(fullConnect(mqtt5, "c", "device-two", "secret"), 2), "\x20\x03\x00\x82\x00", true},
		"slow":           {fullConnect(mqtt5, "c", "device-slow", "secret")[:12], "", false},
		"silent":         {"", "", false},
	} {
		before := e.authorizer.total()
		conn := dialPlain(t, e.options.MQTT.Insecure)
		start := time.Now()
		write(t, conn, tc.sends)
		if got, err := io.ReadAll(conn); string(got) != tc.want || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: read %q, %v; want %q", name, got, err, tc.want)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
		if asked := e.authorizer.total() != before; asked != tc.asked {
			t.Errorf("%s: hubgate was asked: %t, want %t", name, asked, tc.asked)
		}
	}
	if n := e.broker.connections(); n != 0 {
		t.Errorf("the broker got %d connections", n)
	}
	for _, c := range e.authorizer.of("denied-without-certificate") {
		if got := c.metadata["hubgate-credentials"]; len(got) > 0 && got[0] != "-" {
			t.Errorf("hubgate-credentials %q, want none", got)
		}
	}
}

// TestInsecureMQTTPanic: a mistake in the filter ahead of the check costs one
// connection, not Envoy.
func TestInsecureMQTTPanic(t *testing.T) {
	t.Parallel()
	library, err := buildTripped()
	if err != nil {
		t.Fatal(err)
	}
	e, _ := startInsecure(t, &Module{Library: library})
	conn := dialPlain(t, e.options.MQTT.Insecure)
	write(t, conn, fullConnect(mqtt5, "c", "device-tripped", "trip"))
	if got, err := io.ReadAll(conn); len(got) > 0 || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v", got, err)
	}
	eventually(t, "Envoy's log says where it happened", func() bool {
		output := e.envoy.Output()
		return strings.Contains(output, "tripped on purpose") && strings.Contains(output, "ahead")
	})
	conn = dialPlain(t, e.options.MQTT.Insecure)
	write(t, conn, fullConnect(mqtt5, "c", "device-after", "secret"))
	if first, _, err := readPacket(conn); err != nil || first != 0x10 {
		t.Errorf("packet %#x, %v; want the CONNECT", first, err)
	}
}

// TestInsecureHTTP: without TLS, hubgate is told the credentials, and the backend
// is not; with TLS it is the other way round.
func TestInsecureHTTP(t *testing.T) {
	t.Parallel()
	e, h := startInsecure(t, nil)
	const header = "Authorization: Basic ZGV2aWNlLWh0dHA6c2VjcmV0\n" // device-http:secret
	conn := dialPlain(t, e.options.HTTPS.Insecure)
	s := backendSees(t, conn, get("plain", header+"X-Device-Id: forged\nX-Forwarded-Client-Cert: Hash=00\n"))
	if got := s.Header["Authorization"]; got != nil {
		t.Errorf("the backend saw Authorization: %q", got)
	}
	if got := s.Header["X-Device-Id"]; len(got) != 1 || got[0] != deviceID {
		t.Errorf("the backend saw X-Device-Id: %q", got)
	}
	asked := e.authorizer.one(t, "device-http")
	if got := asked.header("x-forwarded-client-cert"); got != "" || asked.attributes.GetSource().GetCertificate() != "" {
		t.Errorf("hubgate was told of a certificate: %q", got)
	}
	open := h.connection(t, asked)
	eventually(t, "hubgate knows the connection", func() bool {
		return h.find(func(o *link.Open) bool { return o.Connection == open && o.Protocol == link.HTTP }) != nil
	})
	if status, _ := send(t, dialPlain(t, e.options.HTTPS.Insecure), get("none", "")); status != http.StatusForbidden {
		t.Errorf("without credentials: %d, want 403", status)
	}
	s = backendSees(t, e.connect(t, "device-tls"), get("tls", header))
	if got := s.Header["Authorization"]; len(got) != 1 {
		t.Errorf("with TLS the backend saw Authorization: %q", got)
	}
	if got := e.authorizer.one(t, "device-tls").header("authorization"); got != "" {
		t.Errorf("with TLS hubgate was told %q", got)
	}
}
