package envoy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// preamble is what a load balancer in front says of the device's address.
const preamble = "PROXY TCP4 203.0.113.7 127.0.0.1 4711 8443\r\n"

// TestBehindLoadBalancers is an Envoy with about every option that the other
// tests leave out.
func TestBehindLoadBalancers(t *testing.T) {
	t.Parallel()
	ours := newVendor(t)
	authorizer := startAuthorizer(t, mutualTLS(t, ours))
	ticket := filepath.Join(t.TempDir(), "ticket.key")
	if err := os.WriteFile(ticket, []byte(strings.Repeat("k", 80)), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Domain:     "iot.example.com",
		HTTPS:      &HTTPS{ProxyProtocol: true, TrustedHops: 1, BackendHTTP2: true, OnlyDomain: true, Hub: "factory"},
		MQTT:       &MQTT{ProxyProtocol: true, Hub: "line"},
		TicketKeys: []string{ticket},
		NodeID:     "edge-7",
		Hubgate: Hubgate{
			Addresses: []string{nobody, authorizer.address},
			TLS:       &ClientTLS{CA: ours.ca(t), Client: ours.client(t), ServerName: "localhost"},
		},
	}
	e := startEdge(t, o, authorizer, identityRoutes)
	for name, test := range map[string]func(*testing.T, *edge){
		"the address is the device's":        deviceAddress,
		"a PROXY header is required":         proxyRequired,
		"hub hint and node go to hubgate":    hints,
		"other authorities are not served":   otherAuthority,
		"only hubgate selects routes":        routesByIdentity,
		"forged trailers are dropped":        trailers,
		"a dead replica is passed over":      deadReplica,
		"tickets are good at the next Envoy": sharedTickets,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

// TestImpostor: another server that our CA knows is not hubgate.
func TestImpostor(t *testing.T) {
	t.Parallel()
	ours := newVendor(t)
	authorizer := startAuthorizer(t, mutualTLS(t, ours))
	e := startEdge(t, Options{HTTPS: &HTTPS{}, MQTT: &MQTT{}, Hubgate: Hubgate{
		TLS: &ClientTLS{CA: ours.ca(t), Client: ours.client(t), ServerName: "hubgate.internal"},
	}}, authorizer)
	if status, body := send(t, e.connect(t, "device-1"), get("device-1", "")); status != http.StatusServiceUnavailable {
		t.Errorf("answer %d %s, want 503", status, body)
	}
	if len(authorizer.of("device-1")) != 0 {
		t.Error("the impostor was asked")
	}
}

// mutualTLS is what hubgate demands of Envoy.
func mutualTLS(t *testing.T, v *vendor) grpc.ServerOption {
	t.Helper()
	pair := v.server(t)
	certificate, err := tls.LoadX509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientCAs:    v.pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}))
}

func (e *edge) proxied(t *testing.T, address, name string) *tls.Conn {
	t.Helper()
	return e.mustDial(t, address, preamble, &tls.Config{Certificates: []tls.Certificate{e.device(t, name)}})
}

func deviceAddress(t *testing.T, e *edge) {
	conn := e.proxied(t, e.options.MQTT.Listen, "device-far-mqtt")
	assertEcho(t, conn, "CONNECT")
	if check := e.authorizer.one(t, "device-far-mqtt"); check.sourceIP() != "203.0.113.7" || check.metadata["hubgate-source"][0] != "203.0.113.7" {
		t.Errorf("source over MQTT %q, %q, want that of the PROXY header", check.sourceIP(), check.metadata["hubgate-source"])
	}
	got := backendSees(t, e.proxied(t, e.options.HTTPS.Listen, "device-far"), get("far", "X-Forwarded-For: 192.0.2.66, 198.51.100.9\n"))
	check := e.authorizer.one(t, "device-far")
	if ip := check.sourceIP(); ip != "203.0.113.7" {
		t.Errorf("source over HTTPS %q, want that of the PROXY header", ip)
	}
	if ip := check.metadata["hubgate-source"]; len(ip) != 1 || ip[0] != "198.51.100.9" {
		t.Errorf("hubgate-source %q, want the one hop that is trusted", ip)
	}
	if internal := got.Header["X-Envoy-Internal"]; internal != nil {
		t.Errorf("backend got X-Envoy-Internal %q, want none", internal)
	}
	if want := "192.0.2.66, 198.51.100.9,203.0.113.7"; got.Header.Get("X-Forwarded-For") != want {
		t.Errorf("backend got X-Forwarded-For %q, want %q", got.Header.Get("X-Forwarded-For"), want)
	}
}

func proxyRequired(t *testing.T, e *edge) {
	for _, address := range []string{e.options.HTTPS.Listen, e.options.MQTT.Listen} {
		if _, err := e.dial(t, address, "", &tls.Config{Certificates: []tls.Certificate{e.device(t, "device-near")}}); err == nil {
			t.Errorf("%s took a connection without a PROXY header", address)
		}
	}
}

func hints(t *testing.T, e *edge) {
	assertEcho(t, e.proxied(t, e.options.MQTT.Listen, "device-hint-mqtt"), "CONNECT")
	backendSees(t, e.proxied(t, e.options.HTTPS.Listen, "device-hint"), get("", ""))
	for name, hub := range map[string]string{"device-hint-mqtt": "line", "device-hint": "factory"} {
		md := e.authorizer.one(t, name).metadata
		if got := md["hubgate-hub"]; len(got) != 1 || got[0] != hub {
			t.Errorf("hubgate-hub %q, want %q", got, hub)
		}
		if got := md["hubgate-node"]; len(got) != 1 || got[0] != "edge-7" {
			t.Errorf("hubgate-node %q, want edge-7", got)
		}
	}
}

func otherAuthority(t *testing.T, e *edge) {
	const name = "device-lost"
	conn := e.proxied(t, e.options.HTTPS.Listen, name)
	if status, body := send(t, conn, "GET /"+name+" HTTP/1.1\nHost: iot.example.org\n\n"); status != http.StatusNotFound {
		t.Errorf("answer %d %s, want 404", status, body)
	}
	assertUnasked(t, e, name)
	if len(e.authorizer.of(name)) != 0 {
		t.Error("hubgate was asked, and would have created the device")
	}
	backendSees(t, conn, "GET / HTTP/1.1\nHost: iot.example.com\n\n")
}

// identityRoutes adds routes by identity, as an operator may.
func identityRoutes(config string) string {
	const first = "              - match:\n                  prefix: /\n"
	route := func(name string, status int) string {
		return fmt.Sprintf("              - match: {prefix: /, headers: [{name: x-device-name, string_match: {exact: %s}}]}\n"+
			"                direct_response: {status: %d}\n", name, status)
	}
	return strings.Replace(config, first, route("forged", 418)+route("device-routed", 202)+first, 1)
}

func routesByIdentity(t *testing.T, e *edge) {
	conn := e.proxied(t, e.options.HTTPS.Listen, "device-routed")
	if status, _ := send(t, conn, get("", "")); status != http.StatusAccepted {
		t.Errorf("status %d, want that of the device's route", status)
	}
	backendSees(t, e.proxied(t, e.options.HTTPS.Listen, "device-unrouted"), get("", forged))
	backendSees(t, e.proxied(t, e.options.HTTPS.Listen, "device-unrouted-2"), get("", "X-Device-Name: device-routed\n"))
}

func trailers(t *testing.T, e *edge) {
	const name = "device-trailing"
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return e.dial(t, e.options.HTTPS.Listen, preamble, &tls.Config{
				Certificates: []tls.Certificate{e.device(t, name)}, NextProtos: []string{"h2"},
			})
		},
	}
	defer transport.CloseIdleConnections()
	// A body of unknown length, so that trailers may follow it.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://factory.iot.example.com/", struct{ *strings.Reader }{strings.NewReader("body")})
	if err != nil {
		t.Fatal(err)
	}
	request.Trailer = http.Header{
		"X-Hub-Id": {"forged"}, "X-Device-Id": {"forged"}, "X-Forwarded-Client-Cert": {"forged"}, "X-Checksum": {"kept"},
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var got seen
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	// The names were announced in a header, so they are there without values.
	for key, values := range got.Trailer {
		if key != "X-Checksum" && len(values) > 0 {
			t.Errorf("backend got trailer %s %q", key, values)
		}
	}
	if response.ProtoMajor != 2 || got.Trailer.Get("X-Checksum") != "kept" {
		t.Errorf("HTTP/%d backend got trailers %q, want HTTP/2 and X-Checksum", response.ProtoMajor, got.Trailer)
	}
}

func deadReplica(t *testing.T, e *edge) {
	const name = "device-lucky"
	for range 20 {
		conn := e.proxied(t, e.options.HTTPS.Listen, name)
		backendSees(t, conn, get("", ""))
	}
	if n := len(e.authorizer.of(name)); n != 20 {
		t.Errorf("%d checks, want 20", n)
	}
}

// sharedTickets takes a ticket from one Envoy to another with the same key.
func sharedTickets(t *testing.T, e *edge) {
	o := e.options
	https, mqtt := *o.HTTPS, *o.MQTT
	addresses := freeAddresses(t, 2)
	https.Listen, mqtt.Listen = addresses[0], addresses[1]
	o.HTTPS, o.MQTT = &https, &mqtt
	config, err := Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	startEnvoy(t, config, o)
	client := &tls.Config{
		ClientSessionCache: tls.NewLRUClientSessionCache(1), Certificates: []tls.Certificate{e.device(t, "device-roaming")},
	}
	for i, address := range []string{e.options.HTTPS.Listen, https.Listen} {
		conn := e.mustDial(t, address, preamble, client)
		backendSees(t, conn, get("", ""))
		if conn.ConnectionState().DidResume != (i == 1) {
			t.Errorf("at Envoy %d: resumed %t", i, conn.ConnectionState().DidResume)
		}
	}
}
