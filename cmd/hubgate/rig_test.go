package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"flag"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/hubgate/hubgate/internal/pki"
)

var update = flag.Bool("update", false, "write what is printed into testdata")

// factory is a vendor's line: a root, an intermediate, and what they sign.
type factory struct {
	root, line *pki.Authority
}

func newFactory(t *testing.T, name string) *factory {
	t.Helper()
	root, err := pki.NewRoot(name + " root")
	if err != nil {
		t.Fatal(err)
	}
	line, err := root.Intermediate(name + " line 1")
	if err != nil {
		t.Fatal(err)
	}
	return &factory{root, line}
}

// device makes a certificate and returns its chain, leaf first, without the
// root.
func (f *factory) device(t *testing.T, name string, options ...pki.Option) []*x509.Certificate {
	t.Helper()
	leaf, err := f.line.Leaf(name, options...)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{leaf.Certificate, f.line.Certificate}
}

// writeFile writes into dir, as editors do, and returns the path.
func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// socketDir is a directory with a path short enough for a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

const factoryHub = `domain: iot.example.com
authz: {listen: "127.0.0.1:0"}
link: {listen: "127.0.0.1:0"}
metrics: {listen: "127.0.0.1:0"}
admin: {listen: "127.0.0.1:0"}
hubs:
  - name: factory
    auto_provisioning: true
    trust_anchors: [factory.pem]
`

// site is a directory with a configuration for one hub.
type site struct {
	t       *testing.T
	dir     string
	config  string
	factory *factory
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: socketDir(t), factory: newFactory(t, "Factory")}
	writeFile(t, s.dir, "factory.pem", pki.EncodeCertificates(s.factory.root.Certificate))
	s.config = writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub))
	return s
}

// chain writes a PEM file and returns its path.
func (s *site) chain(name string, certs ...*x509.Certificate) string {
	s.t.Helper()
	return writeFile(s.t, s.dir, name, pki.EncodeCertificates(certs...))
}

// result is what a command left behind.
type result struct {
	code     int
	out, err string
}

// hubgate runs a command on the site.
func (s *site) hubgate(args ...string) result {
	s.t.Helper()
	return hubgate(s.t, append(args, "--config", s.config)...)
}

func hubgate(t *testing.T, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code := run(ctx, args, strings.NewReader(""), &out, &err)
	return result{code, out.String(), err.String()}
}

// ok demands success and returns standard output.
func (o result) ok(t *testing.T) string {
	t.Helper()
	if o.code != exitOK || o.err != "" {
		t.Fatalf("exit code %d\n%s%s", o.code, o.out, o.err)
	}
	return o.out
}

// ok2 demands success, whatever standard error says.
func (o result) ok2(t *testing.T) string {
	t.Helper()
	if o.code != exitOK {
		t.Fatalf("exit code %d\n%s%s", o.code, o.out, o.err)
	}
	return o.out
}

// fails demands that exit code and all of standard error.
func (o result) fails(t *testing.T, code int, err string) {
	t.Helper()
	if o.code != code || o.err != err {
		t.Errorf("exit code %d, standard error\n%swant %d and\n%s", o.code, o.err, code, err)
	}
}

// serving is a hubgate serve.
type serving struct {
	t       *testing.T
	stop    context.CancelFunc
	log     *lockedBuffer
	done    chan struct{}
	code    int
	authz   string
	metrics string
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// serve starts hubgate on the site and waits until it is ready.
func (s *site) serve(flags ...string) *serving {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	v := &serving{t: s.t, stop: stop, log: new(lockedBuffer), done: make(chan struct{})}
	go func() {
		defer close(v.done)
		args := append([]string{"serve", "--config", s.config, "--drain-delay", "0"}, flags...)
		v.code = run(ctx, args, strings.NewReader(""), io.Discard, v.log)
	}()
	s.t.Cleanup(func() { v.end() })
	v.logged("msg=ready")
	v.authz = v.address("gRPC")
	v.metrics = v.address("/metrics")
	return v
}

// end stops it and returns its exit code.
func (v *serving) end() int {
	v.stop()
	<-v.done
	return v.code
}

func (v *serving) address(of string) string {
	v.t.Helper()
	match := regexp.MustCompile(`for="?[^"]*` + of + `[^"]*"? address=(\S+)`).FindStringSubmatch(v.log.String())
	if match == nil {
		v.t.Fatalf("no address of %s in\n%s", of, v.log)
	}
	return match[1]
}

// logged waits until the log says it.
func (v *serving) logged(text string) {
	v.t.Helper()
	eventually(v.t, func() bool { return strings.Contains(v.log.String(), text) }, func() string {
		return "the log does not say " + text + ":\n" + v.log.String()
	})
}

func eventually(t *testing.T, is func() bool, otherwise func() string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise())
		}
	}
}

// connect has a device that presents the chain connect to an MQTT listener of an
// Envoy without the library, and returns the reason of the answer.
func (v *serving) connect(chain []*x509.Certificate) string {
	v.t.Helper()
	return reasonOf(v.check(chain, "1"))
}

// check asks, as Envoy does, about a connection to an MQTT listener.
func (v *serving) check(chain []*x509.Certificate, connection string) *authv3.CheckResponse {
	v.t.Helper()
	conn, err := grpc.NewClient(v.authz, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	encoded := make([]string, len(chain))
	for i, c := range chain {
		encoded[i] = base64.StdEncoding.EncodeToString(c.Raw)
	}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(),
		"hubgate-node", "test", "hubgate-connection", connection, "hubgate-chain", strings.Join(encoded, ",")), 10*time.Second)
	defer cancel()
	answer, err := authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.7"}}},
			// Envoy escapes all that is not safe in a URL.
			Certificate: strings.ReplaceAll(url.QueryEscape(string(pki.EncodeCertificates(chain[0]))), "+", "%20"),
		},
	}})
	if err != nil {
		v.t.Fatal(err)
	}
	if allowed := answer.GetStatus().GetCode() == int32(codes.OK); allowed != strings.HasPrefix(reasonOf(answer), "device_known") &&
		allowed != strings.HasPrefix(reasonOf(answer), "device_provisioned") {
		v.t.Errorf("status %v with reason %s", answer.GetStatus(), reasonOf(answer))
	}
	return answer
}

func reasonOf(answer *authv3.CheckResponse) string {
	return answer.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
}

// get reads a page of the metrics listener.
func (v *serving) get(path string) (int, string) {
	v.t.Helper()
	response, err := http.Get("http://" + v.metrics + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// varying is what differs from run to run.
var varying = []struct {
	pattern *regexp.Regexp
	stays   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`), "YYYY-MM-DD hh:mm:ssZ"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "YYYY-MM-DDThh:mm:ssZ"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUIDv7"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`\b[0-9a-f]{40}\b`), "KEYID"},
	{regexp.MustCompile(`"serial": "[0-9a-f]+"`), `"serial": "SERIAL"`},
	{regexp.MustCompile(`\b[0-9a-f]{16}…`), "SHA256…"},
	{regexp.MustCompile(`(?m)^(serial +)[0-9a-f]+$`), "${1}SERIAL"},
}

// golden compares what a site's command printed with testdata/name.
func (s *site) golden(name, got string) {
	s.t.Helper()
	golden(s.t, name, strings.ReplaceAll(got, s.dir, "DIR"))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	for _, v := range varying {
		got = v.pattern.ReplaceAllString(got, v.stays)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}
