package envoy

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// forged are the headers that would pass for something hubgate or Envoy says,
// if they came through.
const forged = `X-Forwarded-Client-Cert: Hash=00;Cert="forged";Chain="forged"
X-Forwarded-Client-Cert: Hash=01;Cert="forged"
X-Hub-Id: forged
X-Device-Id: forged
x-device-id: forged
X-DEVICE-NAME: forged
X-Device-Whatever: forged
X-Forwarded-For: 198.51.100.9
X-Real-IP: 198.51.100.9
Forwarded: for=198.51.100.9
X-Envoy-External-Address: 198.51.100.9
X-Envoy-Upstream-Rq-Timeout-Ms: 1
X-Envoy-Original-Path: /forged
Authorization: Bearer credential of the device
`

// TestHTTPS is everything one Envoy with default settings does over HTTPS.
func TestHTTPS(t *testing.T) {
	t.Parallel()
	e := startEdge(t, Options{
		HTTPS: &HTTPS{}, MQTT: &MQTT{}, AccessLog: true,
		Hubgate: Hubgate{CheckTimeout: 900 * time.Millisecond},
	}, startAuthorizer(t))
	for name, test := range map[string]func(*testing.T, *edge){
		"forged headers change nothing":      forgedHeaders,
		"hubgate learns who asks":            checkRequest,
		"underscores are refused":            underscores,
		"a denial goes to the device":        denied,
		"a fault is no denial":               faulty,
		"a check that hangs ends in 503":     hanging,
		"no certificate, no entry":           noCertificate,
		"old TLS is refused":                 oldTLS,
		"resumption keeps the chain":         resumption,
		"every accepted kind of key":         keyKinds,
		"WebSocket passes":                   webSocket,
		"paths have one spelling":            paths,
		"sockets are probed":                 probed,
		"the access log holds no credential": accessLogged,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

func forgedHeaders(t *testing.T, e *edge) {
	const name = "device-forger"
	got := backendSees(t, e.connect(t, name), get(name, forged))
	for header, want := range map[string]string{
		"X-Hub-Id": hubID, "X-Device-Id": deviceID, "X-Device-Name": name,
	} {
		if values := got.Header[header]; len(values) != 1 || values[0] != want {
			t.Errorf("backend got %s %q, want %q", header, values, want)
		}
	}
	for _, header := range []string{
		"X-Forwarded-Client-Cert", "X-Device-Whatever", "X-Envoy-Upstream-Rq-Timeout-Ms",
		"X-Envoy-Original-Path", "X-Envoy-Internal", "X-Real-Ip", "Forwarded",
	} {
		if values := got.Header[header]; values != nil {
			t.Errorf("backend got %s %q, want none", header, values)
		}
	}
	// For a peer on the loopback address, Envoy puts its own address here.
	if values := got.Header["X-Forwarded-For"]; len(values) != 1 || strings.Contains(values[0], "198.51.100.9") {
		t.Errorf("backend got X-Forwarded-For %q, want none of the device's", values)
	}
	if values := got.Header["Authorization"]; len(values) != 1 {
		t.Errorf("backend got Authorization %q, want the device's own", values)
	}
	// Nor does hubgate see any of it.
	headers := e.authorizer.one(t, name).attributes.GetRequest().GetHttp().GetHeaders()
	for header, value := range headers {
		if strings.Contains(value, "forged") || strings.HasPrefix(header, "x-device-") || header == "authorization" {
			t.Errorf("hubgate got %s: %s", header, value)
		}
	}
}

func checkRequest(t *testing.T, e *edge) {
	const name = "device-known"
	device := e.device(t, name)
	conn := e.mustDial(t, e.options.HTTPS.Listen, "", &tls.Config{Certificates: []tls.Certificate{device}})
	backendSees(t, conn, "GET / HTTP/1.1\nHost: factory.iot.example.com:8443\n\n")

	check := e.authorizer.one(t, name)
	leaf, err := check.leaf()
	if err != nil || !leaf.Equal(device.Leaf) {
		t.Errorf("source.certificate: %v, %v; want the leaf", leaf, err)
	}
	assertElement(t, check.header("x-forwarded-client-cert"), device)
	if got := check.attributes.GetTlsSession().GetSni(); got != "factory.iot.example.com" {
		t.Errorf("SNI %q", got)
	}
	if got := check.attributes.GetRequest().GetHttp().GetHost(); got != "factory.iot.example.com" {
		t.Errorf("authority %q, want it without the port", got)
	}
	if got := check.sourceIP(); got != "127.0.0.1" {
		t.Errorf("source %q", got)
	}
	assertMetadata(t, check, device)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := check.metadata["hubgate-node"]; len(got) != 1 || got[0] != host {
		t.Errorf("hubgate-node %q, want %q", got, host)
	}
	if got := check.metadata["hubgate-hub"]; got != nil {
		t.Errorf("hubgate-hub %q, want none", got)
	}
	if check.patience <= 0 || check.patience > e.options.Hubgate.CheckTimeout {
		t.Errorf("deadline in %s, want Envoy's timeout", check.patience)
	}
}

// assertElement looks for one XFCC element with every certificate sent.
func assertElement(t *testing.T, xfcc string, device tls.Certificate) {
	t.Helper()
	parts := regexp.MustCompile(`(?:^|[;,])(Hash|Chain)=("?)([^";,]*)`).FindAllStringSubmatch(xfcc, -1)
	if len(parts) != 2 {
		t.Fatalf("%d of Hash and Chain in one header, want each once: %s", len(parts), xfcc)
	}
	chain, err := parseChain(parts[1][3])
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != len(device.Certificate) {
		t.Fatalf("chain of %d, want %d", len(chain), len(device.Certificate))
	}
	for i, certificate := range chain {
		if !bytes.Equal(certificate.Raw, device.Certificate[i]) {
			t.Errorf("certificate %d of the chain is %s", i, certificate.Subject)
		}
	}
}

// assertMetadata checks what hubgate's contract says about gRPC metadata.
func assertMetadata(t *testing.T, c check, device tls.Certificate) {
	t.Helper()
	var fingerprints []string
	for _, der := range device.Certificate {
		sum := sha256.Sum256(der)
		fingerprints = append(fingerprints, hex.EncodeToString(sum[:]))
	}
	want := strings.Join(fingerprints, ",")
	if got := c.metadata["hubgate-chain-sha256"]; len(got) != 1 || got[0] != want {
		t.Errorf("hubgate-chain-sha256 %q, want %q", got, want)
	}
	if got := c.metadata["hubgate-connection"]; len(got) != 1 || !regexp.MustCompile(`^([0-9a-f]{32}/)?\d+$`).MatchString(got[0]) {
		t.Errorf("hubgate-connection %q, want a number, after an epoch if there is one", got)
	}
}

func underscores(t *testing.T, e *edge) {
	const name = "device-underscore"
	for _, header := range []string{"x_device_id: forged\n", "X_Hub-Id: forged\n", "x_forwarded_client_cert: forged\n"} {
		if status, body := send(t, e.connect(t, name), get(name, header)); status != http.StatusBadRequest {
			t.Errorf("%q: status %d, want 400: %s", header, status, body)
		}
	}
	if n := len(e.authorizer.of(name)); n != 0 {
		t.Errorf("%d checks, want none", n)
	}
}

func denied(t *testing.T, e *edge) {
	status, body := send(t, e.connect(t, "denied-1"), get("denied-1", ""))
	if status != http.StatusForbidden || body != `{"reason":"device_disabled"}` {
		t.Errorf("answer %d %s", status, body)
	}
	assertUnasked(t, e, "denied-1")
}

func faulty(t *testing.T, e *edge) {
	status, body := send(t, e.connect(t, "faulty-1"), get("faulty-1", ""))
	if status != http.StatusServiceUnavailable || body != `{"reason":"store_unavailable"}` {
		t.Errorf("answer %d %s", status, body)
	}
	assertUnasked(t, e, "faulty-1")
}

func hanging(t *testing.T, e *edge) {
	conn := e.connect(t, "hanging-1")
	start := time.Now()
	status, body := send(t, conn, get("hanging-1", ""))
	if status != http.StatusServiceUnavailable {
		t.Errorf("answer %d %s, want 503", status, body)
	}
	if took := time.Since(start); took < e.options.Hubgate.CheckTimeout*9/10 { // Envoy's clock ticks coarsely
		t.Errorf("answer after %s, before hubgate's time was over", took)
	}
	assertUnasked(t, e, "hanging-1")
	e.authorizer.one(t, "hanging-1") // retries are not for slow checks
}

func assertUnasked(t *testing.T, e *edge, name string) {
	t.Helper()
	if n := e.requests("/" + name); n != 0 {
		t.Errorf("the backend got %d requests, want none", n)
	}
}

// noCertificate shows that Envoy lets such a client finish its handshake
// (require_client_certificate notwithstanding, as no CA is set), and that
// hubgate can tell: there is a TLS session, but no fingerprint either.
func noCertificate(t *testing.T, e *edge) {
	conn := e.mustDial(t, e.options.HTTPS.Listen, "", &tls.Config{})
	if status, body := send(t, conn, get("anonymous", forged)); status != http.StatusForbidden {
		t.Errorf("answer %d %s, want hubgate's 403", status, body)
	}
	assertUnasked(t, e, "anonymous")
	check := e.authorizer.one(t, "denied-without-certificate")
	if got := check.header("x-forwarded-client-cert"); got != "" {
		t.Errorf("hubgate got X-Forwarded-Client-Cert %q, want none", got)
	}
	if check.attributes.GetTlsSession() == nil {
		t.Error("hubgate got no TLS session")
	}
	if got := check.metadata["hubgate-chain-sha256"]; got != nil {
		t.Errorf("hubgate-chain-sha256 %q, want none", got)
	}
}

func oldTLS(t *testing.T, e *edge) {
	_, err := e.dial(t, e.options.HTTPS.Listen, "", &tls.Config{
		MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		Certificates: []tls.Certificate{e.device(t, "device-old")},
	})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("error %v, want one about the protocol version", err)
	}
}

func resumption(t *testing.T, e *edge) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		name := fmt.Sprintf("device-resumed-%x", version)
		device := e.device(t, name)
		config := &tls.Config{
			MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1),
			Certificates: []tls.Certificate{device},
		}
		for range 2 {
			conn := e.mustDial(t, e.options.HTTPS.Listen, "", config)
			backendSees(t, conn, "GET / HTTP/1.1\nHost: factory.iot.example.com\n\n")
			if conn.ConnectionState().DidResume != (len(e.authorizer.of(name)) == 2) {
				t.Errorf("%s: resumed %t", tls.VersionName(version), conn.ConnectionState().DidResume)
			}
		}
		resumed := e.authorizer.of(name)[1]
		assertElement(t, resumed.header("x-forwarded-client-cert"), device)
		assertMetadata(t, resumed, device)
	}
}

func keyKinds(t *testing.T, e *edge) {
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.P256, pki.P384, pki.P521, pki.Ed25519} {
		name := "device-" + string(kind)
		device := e.device(t, name, pki.WithKey(kind))
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			conn, err := e.dial(t, e.options.HTTPS.Listen, "", &tls.Config{
				MaxVersion: version, Certificates: []tls.Certificate{device},
			})
			if err != nil {
				t.Errorf("%s, %s: %v", name, tls.VersionName(version), err)
				continue
			}
			backendSees(t, conn, "GET / HTTP/1.1\nHost: a\n\n")
		}
	}
}

func webSocket(t *testing.T, e *edge) {
	const name = "device-socket"
	conn := e.connect(t, name)
	status, _ := send(t, conn, "GET /socket HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n")
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("status %d, want 101", status)
	}
	assertEcho(t, conn, "frame")
	e.authorizer.one(t, name)
}

// assertEcho sends text and reads the same back.
func assertEcho(t *testing.T, conn io.ReadWriter, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != text {
		t.Fatalf("echo %q, %v; want %q", back, err, text)
	}
}

func paths(t *testing.T, e *edge) {
	device := e.device(t, "device-paths")
	for path, want := range map[string]string{
		"/a/../b": "/b", "//a///b": "/a/b", "/a/./b?q=/../": "/a/b",
	} {
		conn := e.mustDial(t, e.options.HTTPS.Listen, "", &tls.Config{Certificates: []tls.Certificate{device}})
		got := backendSees(t, conn, "GET "+path+" HTTP/1.1\nHost: a\n\n")
		if got.Path != want {
			t.Errorf("%s arrived as %s, want %s", path, got.Path, want)
		}
	}
	conn := e.mustDial(t, e.options.HTTPS.Listen, "", &tls.Config{Certificates: []tls.Certificate{device}})
	if status, _ := send(t, conn, "GET /a%2F..%2fb HTTP/1.1\nHost: a\n\n"); status != http.StatusTemporaryRedirect {
		t.Errorf("escaped slashes: status %d, want 307", status)
	}
}

// probed reads the kernel's table: a keep-alive timer runs on Envoy's end.
func probed(t *testing.T, e *edge) {
	conn := e.connect(t, "device-probed")
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	var local, remote int
	if _, err := fmt.Sscanf(conn.RemoteAddr().String()+" "+conn.LocalAddr().String(), "127.0.0.1:%d 127.0.0.1:%d", &local, &remote); err != nil {
		t.Fatal(err)
	}
	// sl local remote state queues timer:when ...
	row := regexp.MustCompile(fmt.Sprintf(`[0-9A-F]{8}:%04X [0-9A-F]{8}:%04X 01 \S+ (\d\d):([0-9A-F]+)`, local, remote)).FindSubmatch(table)
	if row == nil || string(row[1]) != "02" {
		t.Errorf("no keep-alive timer on Envoy's end: %q", row)
	}
}

func accessLogged(t *testing.T, e *edge) {
	const name = "device-logged"
	backendSees(t, e.connect(t, name), get(name+"?token=secret", "Authorization: Bearer secret\n"))
	eventually(t, "a line in the access log", func() bool {
		return strings.Contains(e.envoy.Output(), `"path":"/`+name+`"`)
	})
	for line := range strings.Lines(e.envoy.Output()) {
		if strings.Contains(line, name) && (!strings.Contains(line, deviceID) || strings.Contains(line, "secret")) {
			t.Errorf("access log: %s", line)
		}
	}
}
