package envoy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/process"
)

const (
	hubID    = "0b7d5c1e-0000-4000-8000-000000000001"
	deviceID = "0b7d5c1e-0000-8000-8000-000000000002"
)

// nobody is where no server of ours or of other tests ever listens.
const nobody = "127.0.0.1:1"

// startEnvoy runs the real Envoy with a configuration until the test ends.
func startEnvoy(t testing.TB, config []byte, o Options) *process.Process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := process.Start(ctx, process.Spec{
		Name: "envoy",
		Path: envoyPath(t),
		Args: []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn",
			"--file-flush-interval-msec", "50"}, // access logs: 10 s otherwise
		Ready: func(ctx context.Context) error {
			for _, listen := range []string{o.HTTPS.Listen, o.HTTPS.Insecure, o.MQTT.Listen, o.MQTT.Insecure} {
				if listen == "" {
					continue
				}
				if err := process.Accepts(listen)(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("envoy ended with %v:\n%s", err, p.Output())
		}
	})
	return p
}

func envoyPath(t testing.TB) string {
	t.Helper()
	path, err := envoybin.Path(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	ports, err := process.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	addresses := make([]string, n)
	for i, port := range ports {
		addresses[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return addresses
}

// authorizer stands in for hubgate. It decides by the prefix of the leaf's CN, or
// of the user name without one, and remembers what Envoy asked.
type authorizer struct {
	authv3.UnimplementedAuthorizationServer
	address string
	stop    func() // before the test ends

	mu     sync.Mutex
	checks map[string][]check // by CN of the leaf, or user name
}

// check is one question of Envoy's.
type check struct {
	attributes *authv3.AttributeContext
	metadata   metadata.MD
	patience   time.Duration // until the deadline that Envoy sent along
}

func startAuthorizer(t testing.TB, options ...grpc.ServerOption) *authorizer {
	t.Helper()
	return startAuthorizerAt(t, "127.0.0.1:0", options...)
}

func startAuthorizerAt(t testing.TB, address string, options ...grpc.ServerOption) *authorizer {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	a := &authorizer{address: listener.Addr().String(), checks: make(map[string][]check)}
	server := grpc.NewServer(append(options, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
		MinTime: pingInterval / 2, PermitWithoutStream: true,
	}))...)
	authv3.RegisterAuthorizationServer(server, a)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	a.stop = sync.OnceFunc(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(a.stop)
	return a
}

func (a *authorizer) Check(ctx context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	c := check{attributes: request.GetAttributes()}
	c.metadata, _ = metadata.FromIncomingContext(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		c.patience = time.Until(deadline)
	}
	name := "denied-without-certificate"
	if c.attributes.GetSource().GetCertificate() != "" {
		leaf, err := c.leaf()
		if err != nil {
			return nil, err
		}
		name = leaf.Subject.CommonName
	} else if user := c.user(); user != "" {
		name = user
	}
	a.mu.Lock()
	a.checks[name] = append(a.checks[name], c)
	a.mu.Unlock()
	switch verdict, _, _ := strings.Cut(name, "-"); verdict {
	case "denied":
		return denial(), nil
	case "faulty":
		return fault(), nil
	case "hanging":
		<-ctx.Done()
		return nil, ctx.Err()
	case "hold":
		answer := allowance(name)
		answer.DynamicMetadata.Fields["hold"] = structpb.NewStringValue("true")
		return answer, nil
	case "other": // than the device that all others are
		answer := allowance(name)
		answer.DynamicMetadata.Fields["device_id"] = structpb.NewStringValue(strings.Replace(deviceID, "2", "3", 1))
		return answer, nil
	default:
		answer := allowance(name)
		if c.attributes.GetSource().GetCertificate() == "" {
			ok := answer.GetOkResponse()
			ok.HeadersToRemove = append(ok.HeadersToRemove, "authorization")
		}
		return answer, nil
	}
}

// of gives the checks made for a device so far.
func (a *authorizer) of(name string) []check {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.checks[name]
}

// total is how many checks there were.
func (a *authorizer) total() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, checks := range a.checks {
		n += len(checks)
	}
	return n
}

// one gives the only check made for a device.
func (a *authorizer) one(t testing.TB, name string) check {
	t.Helper()
	checks := a.of(name)
	if len(checks) != 1 {
		t.Fatalf("%d checks for %s, want 1", len(checks), name)
	}
	return checks[0]
}

func (c check) leaf() (*x509.Certificate, error) {
	chain, err := parseChain(c.attributes.GetSource().GetCertificate())
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// user is the user name of a connection without TLS.
func (c check) user() string {
	encoded, _, _ := strings.Cut(strings.Join(c.metadata["hubgate-credentials"], ","), ".")
	if user, err := base64.RawURLEncoding.DecodeString(encoded); err == nil && len(user) > 0 {
		return string(user)
	}
	user, _, _ := (&http.Request{Header: http.Header{"Authorization": {c.header("authorization")}}}).BasicAuth()
	return user
}

func (c check) header(name string) string {
	return c.attributes.GetRequest().GetHttp().GetHeaders()[name]
}

func (c check) sourceIP() string {
	return c.attributes.GetSource().GetAddress().GetSocketAddress().GetAddress()
}

// parseChain reads Envoy's URL-encoded PEM.
func parseChain(encoded string) ([]*x509.Certificate, error) {
	rest, err := url.PathUnescape(encoded)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for data := []byte(rest); ; {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("no certificate in %q", encoded)
	}
	return chain, nil
}

// allowance is what hubgate answers for an admitted device, over both
// protocols.
func allowance(name string) *authv3.CheckResponse {
	set := func(key, value string) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: key, Value: value},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}
	}
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				set("x-hub-id", hubID), set("x-device-id", deviceID), set("x-device-name", name),
			},
			HeadersToRemove: []string{"x-forwarded-client-cert"},
		}},
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"hub_id":      structpb.NewStringValue(hubID),
			"device_id":   structpb.NewStringValue(deviceID),
			"device_name": structpb.NewStringValue(name),
			"session_id":  structpb.NewStringValue("session of " + name),
		}},
	}
}

func denial() *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden}, Body: `{"reason":"device_disabled"}`,
		}},
	}
}

func fault() *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.Unavailable)},
		HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable}, Body: `{"reason":"store_unavailable"}`,
		}},
	}
}

// seen is how a request arrived at the backend, which answers with it.
type seen struct {
	Host, Path string
	Header     http.Header
	Trailer    http.Header
}

// startBackend answers every request with what it saw; requests counts by
// device name. WebSocket upgrades are echoed.
func startBackend(t testing.TB) (address string, requests func(path string) int) {
	t.Helper()
	var mu sync.Mutex
	counts := make(map[string]int)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		counts[r.URL.Path]++
		mu.Unlock()
		if r.Header.Get("Upgrade") != "" {
			echoUpgrade(w)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // trailers come after it
		_ = json.NewEncoder(w).Encode(seen{Host: r.Host, Path: r.URL.Path, Header: r.Header, Trailer: r.Trailer})
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), func(path string) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[path]
	}
}

// echoUpgrade switches protocols and sends back what comes.
func echoUpgrade(w http.ResponseWriter) {
	conn, stream, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = stream.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_ = stream.Flush()
	_, _ = io.Copy(conn, stream)
}

// broker echoes every byte and counts connections by their first line.
type broker struct {
	address string
	mu      sync.Mutex
	open    int
}

func startBroker(t testing.TB) *broker {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{address: listener.Addr().String()}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.open++
			b.mu.Unlock()
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return b
}

// connections is how many there have been.
func (b *broker) connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// eventually waits for something that another process does in its own time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

// deadline bounds what a test waits for on a connection.
func deadline(t testing.TB, conn *tls.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
}
