package console

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/uuid"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/hubgate/hubgate/envoy"
	"github.com/hubgate/hubgate/envoy/module/modulebin"
	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
)

const domain = "iot.example.com"

// world is a hubgate behind an Envoy with its library, before a broker.
type world struct {
	t       *testing.T // of all stories
	dir     string
	binary  string
	url     string // of the console and the API
	metrics string
	mqtt    string // Envoy's
	token   string // an admin's: the one that hubgate made at its first start
	servers *x509.CertPool
	hubgate *process.Process
}

// declared is the hub that the configuration file declares.
const declared = "declared"

func newWorld(t *testing.T) *world {
	t.Helper()
	// Not t.TempDir: its paths are too long for a socket.
	dir := must(os.MkdirTemp("", "hubgate-console-"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ports := must(process.FreePorts(3))(t)
	w := &world{
		t: t, dir: dir, binary: filepath.Join(dir, "hubgate"), servers: x509.NewCertPool(),
		url: address("http://", ports[0]) + "/", metrics: address("", ports[1]), mqtt: address("", ports[2]),
	}
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", w.binary, "github.com/hubgate/hubgate/cmd/hubgate").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	root := must(pki.NewRoot("Declared CA"))(t)
	w.write(t, "declared-ca.pem", pki.EncodeCertificates(root.Certificate))
	w.write(t, "hubgate.yaml", fmt.Appendf(nil, `domain: %s
store: bolt:hubgate.db
authz: {listen: "unix://%s"}
link: {listen: "unix://%s"}
metrics: {listen: "%s"}
admin: {listen: "%s"}
hubs:
  - name: %s
    trust_anchors: [declared-ca.pem]
`, domain, w.file("authz.sock"), w.file("link.sock"), w.metrics, address("", ports[0]), declared))
	w.serve(t)
	w.token = strings.TrimSpace(string(w.read(t, "hubgate.token")))
	w.startEnvoy(t, startBroker(t))
	return w
}

func address(scheme string, port int) string { return fmt.Sprintf("%s127.0.0.1:%d", scheme, port) }

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(w.file(name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *world) read(t *testing.T, name string) []byte {
	t.Helper()
	return must(os.ReadFile(w.file(name)))(t)
}

// serve starts `hubgate serve`.
func (w *world) serve(t *testing.T) {
	t.Helper()
	w.hubgate = start(w.t, process.Spec{
		Name: "hubgate", Path: w.binary, Args: []string{"serve", "--config", "hubgate.yaml", "--drain-delay", "0s"}, Dir: w.dir,
		Ready: func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.metrics+"/readyz", nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != http.StatusOK {
				return errors.New(response.Status)
			}
			return nil
		},
	})
}

func (w *world) startEnvoy(t *testing.T, broker string) {
	t.Helper()
	ca := must(pki.NewRoot("Server CA"))(t)
	w.servers.AddCert(ca.Certificate)
	certificate, key, err := must(ca.Server(domain, "*."+domain))(t).WriteFiles(w.dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	library := must(modulebin.Path(t.Context()))(t)
	w.write(t, "envoy.yaml", must(envoy.Bootstrap(envoy.Options{
		Domain: domain, MQTT: &envoy.MQTT{Listen: w.mqtt, Brokers: []string{broker}},
		Certificates: []envoy.KeyPair{{Certificate: certificate, Key: key}}, NodeID: "edge",
		Hubgate: envoy.Hubgate{Addresses: []string{"unix://" + w.file("authz.sock")}, CheckTimeout: 20 * time.Second},
		Module:  &envoy.Module{Library: library, Links: []string{"unix://" + w.file("link.sock")}, ConnectTimeout: time.Minute},
		// Two cores, many tests: each step may have to wait for its turn.
		HandshakeTimeout: time.Minute,
	}))(t))
	start(t, process.Spec{
		Name: "Envoy", Path: must(envoybin.Path(t.Context(), t.Output()))(t),
		Args:  []string{"-c", w.file("envoy.yaml"), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"},
		Ready: process.Accepts(w.mqtt),
	})
}

// start starts a process that ends with the test.
func start(t *testing.T, spec process.Spec) *process.Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := must(process.Start(ctx, spec))(t)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			out := p.Output()
			t.Logf("the end of what %s wrote:\n%s", spec.Name, out[max(0, len(out)-4<<10):])
		}
	})
	return p
}

// startBroker starts an MQTT broker that lets everybody do everything: who may
// connect is decided before it.
func startBroker(t *testing.T) string {
	t.Helper()
	broker := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	listener := listeners.NewTCP(listeners.Config{ID: "broker", Address: "127.0.0.1:0"})
	if err := errors.Join(broker.AddHook(new(auth.AllowHook), nil), broker.AddListener(listener), broker.Serve()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	return listener.Address()
}

// api makes a request with the admin's token, demands success and decodes the
// answer.
func (w *world) api(t *testing.T, method, path string, body, into any) {
	t.Helper()
	var sent io.Reader
	kind := "application/json"
	switch body := body.(type) {
	case nil:
	case string:
		sent, kind = strings.NewReader(body), "application/x-ndjson"
	default:
		sent = bytes.NewReader(must(json.Marshal(body))(t))
	}
	request := must(http.NewRequestWithContext(t.Context(), method, w.url+"v1/"+path, sent))(t)
	request.Header.Set("Authorization", "Bearer "+w.token)
	if sent != nil {
		request.Header.Set("Content-Type", kind)
	}
	response := must(http.DefaultClient.Do(request))(t) //nolint:bodyclose // it is closed
	defer func() { _ = response.Body.Close() }()
	text := must(io.ReadAll(response.Body))(t)
	if response.StatusCode >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %s: %s", method, path, response.Status, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
}

// fleet is a hub, with the vendor whose chips it trusts.
type fleet struct {
	*world
	id, name string
	root     *pki.Authority
}

// fleet makes a hub of its own, with a trust anchor. Its proof is waived: what
// a proof needs is told by the story of the trust anchor.
func (w *world) fleet(t *testing.T, name string, autoProvisioning bool) *fleet {
	t.Helper()
	f := &fleet{world: w, name: name, root: must(pki.NewRoot("Root of " + name))(t)}
	var hub struct{ ID string }
	w.api(t, http.MethodPost, "hubs", map[string]any{"name": name}, &hub)
	f.id = hub.ID
	w.api(t, http.MethodPost, "hubs/"+name+"/anchors", map[string]any{
		"certificate": string(pki.EncodeCertificates(f.root.Certificate)), "waive_proof": true, "waiver_reason": "a test",
	}, nil)
	if autoProvisioning {
		w.api(t, http.MethodPatch, "hubs/"+name, map[string]any{"auto_provisioning": true}, nil)
	}
	return f
}

// device is a chip with a certificate.
type device struct {
	name string
	cert tls.Certificate
}

func (f *fleet) device(t *testing.T, name string) *device {
	t.Helper()
	return &device{name, must(f.root.Leaf(name))(t).TLS()}
}

// connection is a device's open MQTT connection.
type connection struct {
	client paho.Client
	lost   chan struct{}
}

// dial connects a device to the broker, through Envoy.
func (f *fleet) dial(d *device) (*connection, error) {
	c := &connection{lost: make(chan struct{})}
	c.client = paho.NewClient(paho.NewClientOptions().
		AddBroker("ssl://" + f.mqtt).
		SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: f.servers, ServerName: f.name + "." + domain, Certificates: []tls.Certificate{d.cert}}).
		SetDialer(&net.Dialer{Timeout: patience}).SetClientID(uuid.NewString()).SetUsername(d.name).
		SetProtocolVersion(4). // 3.1.1; else a refusal is followed by a second try
		SetConnectTimeout(patience).SetAutoReconnect(false).
		SetConnectionLostHandler(func(paho.Client, error) { close(c.lost) }))
	token := c.client.Connect()
	if !token.WaitTimeout(patience) {
		return nil, errors.New("no answer")
	}
	return c, token.Error()
}

// connect has a device connect, and stay until the test ends.
func (f *fleet) connect(t *testing.T, d *device) *connection {
	t.Helper()
	c := must(f.dial(d))(t)
	t.Cleanup(func() { c.client.Disconnect(0) })
	return c
}

// ends waits for the connection to be ended.
func (c *connection) ends(t *testing.T) {
	t.Helper()
	select {
	case <-c.lost:
	case <-time.After(patience):
		t.Fatal("the device's connection was not ended")
	}
}

// must takes a result whose error ends the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
