package envoy

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/process"
)

// edge is a real Envoy with a generated configuration, and all it needs.
type edge struct {
	*vendor
	options    Options
	envoy      *process.Process
	authorizer *authorizer
	broker     *broker
	requests   func(path string) int
}

// startEdge fills in addresses and certificates, and starts everything; edits
// change the generated configuration.
func startEdge(t testing.TB, o Options, a *authorizer, edits ...func(string) string) *edge {
	t.Helper()
	e := &edge{vendor: newVendor(t), authorizer: a, broker: startBroker(t)}
	var backend string
	backend, e.requests = startBackend(t)
	addresses := freeAddresses(t, 2)
	o.HTTPS.Listen, o.MQTT.Listen = addresses[0], addresses[1]
	o.HTTPS.Backends = []string{backend}
	if len(o.MQTT.Brokers) == 0 {
		o.MQTT.Brokers = []string{e.broker.address}
	}
	if len(o.Hubgate.Addresses) == 0 {
		o.Hubgate.Addresses = []string{a.address}
	}
	o.Certificates = []KeyPair{e.server(t)}
	config, err := Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range edits {
		config = []byte(edit(string(config)))
	}
	e.options = o
	e.envoy = startEnvoy(t, config, o)
	return e
}

// dial opens a TLS connection as a device; preamble goes before TLS.
func (e *edge) dial(t testing.TB, address, preamble string, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = raw.Close() })
	if _, err := io.WriteString(raw, preamble); err != nil {
		return nil, err
	}
	config.RootCAs = e.pool()
	if config.ServerName == "" {
		config.ServerName = "factory.iot.example.com"
	}
	conn := tls.Client(raw, config)
	deadline(t, conn)
	return conn, conn.HandshakeContext(t.Context())
}

func (e *edge) mustDial(t testing.TB, address, preamble string, config *tls.Config) *tls.Conn {
	t.Helper()
	conn, err := e.dial(t, address, preamble, config)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// send makes one HTTP/1.1 request, byte for byte as given, and returns status
// and body of the answer.
func send(t *testing.T, conn net.Conn, request string) (int, string) {
	t.Helper()
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response.StatusCode, ""
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// connect is an HTTPS connection of a device of that name.
func (e *edge) connect(t *testing.T, name string) *tls.Conn {
	t.Helper()
	return e.mustDial(t, e.options.HTTPS.Listen, "", &tls.Config{Certificates: []tls.Certificate{e.device(t, name)}})
}

// get is a request for /name, with extra header lines.
func get(name, headers string) string {
	return fmt.Sprintf("GET /%s HTTP/1.1\nHost: factory.iot.example.com:8443\n%s\n", name, headers)
}

// backendSees makes a request that must be allowed, and gives it as the
// backend saw it.
func backendSees(t *testing.T, conn net.Conn, request string) seen {
	t.Helper()
	status, body := send(t, conn, request)
	if status != http.StatusOK {
		t.Fatalf("status %d, want 200: %s", status, body)
	}
	var s seen
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return s
}
