package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/uuid"

	"github.com/hubgate/hubgate/envoy"
	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
)

// domain is that of all hubs of all tests.
const domain = "iot.example.com"

// patience bounds each step of a connection.
const patience = 30 * time.Second

// upstreams are what admitted devices reach.
type upstreams struct {
	backend *backend
	broker  string
}

func startUpstreams(t *testing.T) upstreams {
	t.Helper()
	return upstreams{startBackend(t), startMosquitto(t)}
}

// front is what devices connect to: the real Envoy, as the generator
// configures it, before the upstreams.
type front struct {
	upstreams
	https, mqtt string
	servers     *x509.CertPool
}

// startFront starts an Envoy that asks that hubgate.
func startFront(t *testing.T, hubgate string, u upstreams, edits ...func(*envoy.Options)) *front {
	t.Helper()
	binary, err := envoybin.Path(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	ca := must(pki.NewRoot("Server CA"))(t)
	identity := must(ca.Server(domain, "*."+domain, "127.0.0.1"))(t)
	certificate, key, err := identity.WriteFiles(t.TempDir(), "server")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{upstreams: u, servers: x509.NewCertPool()}
	f.servers.AddCert(ca.Certificate)
	addresses := freeAddresses(t, 2)
	f.https, f.mqtt = addresses[0], addresses[1]
	o := envoy.Options{
		Domain:       domain,
		HTTPS:        &envoy.HTTPS{Listen: f.https, Backends: []string{u.backend.address}},
		MQTT:         &envoy.MQTT{Listen: f.mqtt, Brokers: []string{u.broker}},
		Certificates: []envoy.KeyPair{{Certificate: certificate, Key: key}},
		// Two cores, many tests: a check may have to wait for its turn.
		Hubgate: envoy.Hubgate{Addresses: []string{hubgate}, CheckTimeout: 20 * time.Second},
		NodeID:  "e2e",
	}
	for _, edit := range edits {
		edit(&o)
	}
	config := must(envoy.Bootstrap(o))(t)
	start(t, process.Spec{
		Name: "Envoy", Path: binary,
		Args: []string{"-c", write(t, "envoy.yaml", withRoute(t, config)), "--concurrency", "2", "--disable-hot-restart", "--log-level", "warn"},
		Ready: func(ctx context.Context) error {
			return errors.Join(process.Accepts(f.https)(ctx), process.Accepts(f.mqtt)(ctx))
		},
	})
	return f
}

// routed is a device whose requests an operator's route answers with 202.
const routed = "SN-routed"

// withRoute adds that route: what selects it must be hubgate's word alone.
func withRoute(t *testing.T, config []byte) []byte {
	t.Helper()
	const first = "              - match:\n                  prefix: /\n"
	route := "              - match: {prefix: /, headers: [{name: x-device-name, string_match: {exact: " + routed + "}}]}\n" +
		"                direct_response: {status: 202}\n"
	changed := strings.Replace(string(config), first, route+first, 1)
	if changed == string(config) {
		t.Fatal("the generated configuration has another form than this test knows")
	}
	return []byte(changed)
}

// dial is a device about to connect.
type dial struct {
	cert      tls.Certificate
	sni       string                 // "" names no host
	authority string                 // of the HTTP request; "" is what sni says
	header    http.Header            // of the HTTP request
	from      string                 // address; "" is the usual one
	cache     tls.ClientSessionCache // to resume TLS sessions
	version   uint16                 // newest TLS version; 0 is any
	http2     bool
	anyServer bool // believe whatever the server says it is
}

// as is a device that presents its leaf and intermediates, and no host.
func as(identity *pki.Identity) dial { return dial{cert: identity.TLS()} }

func (d dial) named(sni string) dial {
	d.sni = sni
	return d
}

// host is the name under which a hub, by ID or name, is reached.
func host(hub string) string { return hub + "." + domain }

// tls gives the device's TLS configuration; resumed is set by each handshake.
func (f *front) tls(d dial, resumed *bool) *tls.Config {
	name := d.sni
	if name == "" {
		name = "127.0.0.1" // which is not sent
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, MaxVersion: d.version,
		RootCAs: f.servers, ServerName: name, ClientSessionCache: d.cache, InsecureSkipVerify: d.anyServer,
		// Whatever it is, it is presented; servers name no CAs here.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &d.cert, nil },
		VerifyConnection: func(s tls.ConnectionState) error {
			*resumed = s.DidResume
			return nil
		},
	}
}

func (d dial) dialer() *net.Dialer {
	dialer := &net.Dialer{Timeout: patience}
	if d.from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(d.from)}
	}
	return dialer
}

// answer is how an HTTPS request ended.
type answer struct {
	status  int
	header  http.Header
	refusal refusal // unless status is 200
	seen    seen    // if status is 200
	path    string
	resumed bool
}

// refusal is the body of a refused request.
type refusal struct {
	Reason   string `json:"reason"`
	Message  string `json:"message"`
	Decision string `json:"decision_id"`
}

// get makes one request on a connection of its own, for a path of its own.
func (f *front) get(ctx context.Context, d dial) (*answer, error) {
	a := &answer{path: "/" + uuid.NewString()}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.dialer().DialContext(ctx, network, f.https)
		},
		TLSClientConfig: f.tls(d, &a.resumed), TLSHandshakeTimeout: patience, ForceAttemptHTTP2: d.http2,
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name := d.sni
	if name == "" {
		name = "127.0.0.1"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+name+a.path, nil)
	if err != nil {
		return nil, err
	}
	if d.authority != "" {
		request.Host = d.authority
	}
	for key, values := range d.header {
		request.Header[key] = values // in the spelling of the test
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	a.status, a.header = response.StatusCode, response.Header
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if a.status == http.StatusOK {
		return a, strictly(body, &a.seen)
	}
	if response.Header.Get("Content-Type") != "application/json" {
		a.refusal.Message = string(body) // Envoy's own
		return a, nil
	}
	return a, strictly(body, &a.refusal)
}

// strictly decodes JSON that has these fields and no others.
func strictly(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%w in %q", err, body)
	}
	return nil
}

// errDenied is what a device sees that hubgate refuses over MQTT: the TLS alert
// access_denied, and the end of the connection.
var errDenied = errors.New("TLS alert access_denied")

// client is a device as an MQTT client.
func (f *front) client(d dial, id string, resumed *bool) *paho.ClientOptions {
	return paho.NewClientOptions().
		AddBroker("ssl://" + f.mqtt).SetTLSConfig(f.tls(d, resumed)).SetDialer(d.dialer()).
		SetClientID(id).SetProtocolVersion(4). // 3.1.1; else a refusal is followed by a second try
		SetConnectTimeout(patience).SetAutoReconnect(false)
}

// converse connects to the broker, subscribes to a topic of its own, publishes
// on it and waits for the message.
func (f *front) converse(ctx context.Context, d dial) (resumed bool, err error) {
	id := uuid.NewString()
	client := paho.NewClient(f.client(d, id, &resumed))
	if err := wait(ctx, client.Connect()); err != nil {
		if strings.Contains(err.Error(), "tls: access denied") {
			return resumed, errDenied
		}
		return resumed, err
	}
	defer client.Disconnect(0)
	got := make(chan string, 1)
	if err := wait(ctx, client.Subscribe(id, 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) })); err != nil {
		return resumed, fmt.Errorf("subscribe: %w", err)
	}
	if err := wait(ctx, client.Publish(id, 1, false, "21.5")); err != nil {
		return resumed, fmt.Errorf("publish: %w", err)
	}
	select {
	case text := <-got:
		if text != "21.5" {
			return resumed, fmt.Errorf("received %q", text)
		}
		return resumed, nil
	case <-time.After(patience):
		return resumed, errors.New("the published message did not come back")
	}
}

func wait(ctx context.Context, token paho.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("no answer within %s", patience)
	}
}
