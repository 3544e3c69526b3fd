package authz

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/tlsfiles"
	"github.com/hubgate/hubgate/provision"
)

// gateFunc is a Gate that is told what to decide.
type gateFunc func(context.Context, provision.Connection) provision.Decision

func (f gateFunc) Admit(ctx context.Context, c provision.Connection) provision.Decision {
	if c.Evidence != nil {
		c.Evidence.Read(&c)
	}
	if c.Problem != nil {
		return provision.Decision{ID: "problem", Reason: c.Problem.Reason, Detail: c.Problem.Detail}
	}
	return f(ctx, c)
}

func admitAll(context.Context, provision.Connection) provision.Decision {
	return allowed("sensor-0001")
}

// running is a server and what ends it.
type running struct {
	*Server
	address string
	drain   context.CancelFunc
	served  chan error // what Serve returned
}

func start(t *testing.T, c Config, address string) *running {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), address, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{Server: s, address: l.Addr().String(), drain: cancel, served: make(chan error, 1)}
	if l.Addr().Network() == "unix" {
		r.address = "unix://" + r.address
	}
	ended := make(chan struct{})
	go func() {
		r.served <- s.Serve(ctx, l)
		close(ended)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return r
}

func (r *running) dial(t *testing.T, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// check sends a fixture and fails the test if the call itself fails.
func check(t *testing.T, conn *grpc.ClientConn, f fixture) *authv3.CheckResponse {
	t.Helper()
	resp, err := tryCheck(t, conn, f)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func tryCheck(t *testing.T, conn *grpc.ClientConn, f fixture) (*authv3.CheckResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(t.Context(), f.md), 10*time.Second)
	defer cancel()
	return authv3.NewAuthorizationClient(conn).Check(ctx, f.req)
}

func reasonOf(resp *authv3.CheckResponse) provision.Reason {
	return provision.Reason(resp.GetDynamicMetadata().GetFields()["reason"].GetStringValue())
}

func healthOf(t *testing.T, conn *grpc.ClientConn, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetStatus()
}

func TestServe(t *testing.T) {
	f := readFixture(t, "http-three-certificates")
	for _, address := range []string{"127.0.0.1:0", "unix://" + filepath.Join(t.TempDir(), "s")} {
		t.Run(strings.SplitN(address, ":", 2)[0], func(t *testing.T) {
			var seen provision.Connection
			r := start(t, Config{Gate: gateFunc(func(_ context.Context, c provision.Connection) provision.Decision {
				seen = c
				return allowed("sensor-0001")
			})}, address)
			resp := check(t, r.dial(t, nil), f)
			if reasonOf(resp) != provision.DeviceKnown || resp.GetOkResponse() == nil {
				t.Errorf("answered %v", resp)
			}
			if want := f.connection(t); string(seen.Leaf) != string(want.Leaf) || len(seen.Attested) != 3 || seen.Node != "envoy-1" {
				t.Errorf("the gate saw %d bytes of leaf, %d fingerprints, node %q", len(seen.Leaf), len(seen.Attested), seen.Node)
			}
		})
	}
}

// An Envoy in front: its client certificate is checked, TLS 1.2 is good enough
// (its default), and files are read anew when they change.
func TestMTLSWithReload(t *testing.T) {
	dir := t.TempDir()
	old, next := newFleet(t, "old"), newFleet(t, "next")
	files := old.write(t, dir)
	r := start(t, Config{Gate: gateFunc(admitAll), TLS: files, Logger: slog.New(slog.DiscardHandler)}, "127.0.0.1:0")
	f := readFixture(t, "tcp")

	if _, err := tryCheck(t, r.dial(t, old.client(&old.envoy)), f); err != nil {
		t.Errorf("Envoy is refused: %v", err)
	}
	for name, creds := range map[string]credentials.TransportCredentials{
		"no certificate": old.client(nil),
		"another CA":     old.client(&next.envoy),
		"plaintext":      insecure.NewCredentials(),
	} {
		if _, err := tryCheck(t, r.dial(t, creds), f); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want no connection", name, err)
		}
	}

	next.write(t, dir)
	if _, err := tryCheck(t, r.dial(t, next.client(&next.envoy)), f); err != nil {
		t.Errorf("after the change the new certificate is refused: %v", err)
	}
	if _, err := tryCheck(t, r.dial(t, next.client(&old.envoy)), f); err == nil {
		t.Error("after the change the old certificate still gets in")
	}
}

// fleet is a CA with hubgate's certificate and an Envoy's.
type fleet struct {
	ca     *pki.Authority
	server *pki.Identity
	envoy  tls.Certificate
}

func newFleet(t *testing.T, name string) fleet {
	t.Helper()
	ca, err := pki.NewRoot(name)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	envoy, err := ca.Leaf("envoy")
	if err != nil {
		t.Fatal(err)
	}
	return fleet{ca, server, envoy.TLS()}
}

func (f fleet) write(t *testing.T, dir string) tlsfiles.Config {
	t.Helper()
	cert, key, err := f.server.WriteFiles(dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pki.EncodeCertificates(f.ca.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	return tlsfiles.Config{Cert: cert, Key: key, ClientCA: ca}
}

func (f fleet) client(own *tls.Certificate) credentials.TransportCredentials {
	roots := x509.NewCertPool()
	roots.AddCert(f.ca.Certificate)
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return credentials.NewTLS(config)
}

// The drain says so first, goes on serving, then lets the last check end.
func TestDrain(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	r := start(t, Config{
		Gate: gateFunc(func(_ context.Context, c provision.Connection) provision.Decision {
			if c.Protocol == provision.HTTP { // the slow one
				entered <- struct{}{}
				<-release
			}
			return allowed("sensor-0001")
		}),
		DrainDelay: time.Second,
	}, "127.0.0.1:0")
	conn := r.dial(t, nil)
	service := authv3.Authorization_ServiceDesc.ServiceName
	if got := healthOf(t, conn, service); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v before the drain", got)
	}
	watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := watch.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("watching: %v, %v", resp, err)
	}
	slow := make(chan error, 1)
	go func() {
		_, err := tryCheck(t, conn, readFixture(t, "http-three-certificates"))
		slow <- err
	}()
	<-entered

	r.drain()
	if resp, err := watch.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Fatalf("watching the drain: %v, %v", resp, err)
	}
	for _, name := range []string{"", service} {
		if got := healthOf(t, conn, name); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health of %q is %v while draining", name, got)
		}
	}
	r.SetReady(true)
	if got := healthOf(t, conn, ""); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health %v: a draining server became ready", got)
	}
	check(t, conn, readFixture(t, "tcp"))
	if _, err := watch.Recv(); err == nil {
		t.Error("the watch outlives the server")
	}
	select {
	case err := <-r.served:
		t.Fatalf("Serve returned %v with a check in flight", err)
	default:
	}
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the check in flight failed: %v", err)
	}
	if err := <-r.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestDrainDeadline(t *testing.T) {
	entered := make(chan struct{})
	r := start(t, Config{
		Gate: gateFunc(func(ctx context.Context, _ provision.Connection) provision.Decision {
			close(entered)
			<-ctx.Done()
			return provision.Decision{Reason: provision.StoreUnavailable}
		}),
		DrainDeadline: 10 * time.Millisecond,
	}, "127.0.0.1:0")
	conn := r.dial(t, nil)
	cut := make(chan error, 1)
	go func() {
		_, err := tryCheck(t, conn, readFixture(t, "tcp"))
		cut <- err
	}()
	<-entered
	r.drain()
	if err := <-r.served; err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("Serve: %v, want to hear of the check cut off", err)
	}
	if err := <-cut; status.Code(err) != codes.Unavailable {
		t.Errorf("the check that was cut off: %v", err)
	}
}

func TestReadiness(t *testing.T) {
	r := start(t, Config{Gate: gateFunc(admitAll)}, "127.0.0.1:0")
	conn := r.dial(t, nil)
	for ready, want := range map[bool]healthpb.HealthCheckResponse_ServingStatus{
		false: healthpb.HealthCheckResponse_NOT_SERVING,
		true:  healthpb.HealthCheckResponse_SERVING,
	} {
		r.SetReady(ready)
		if got := healthOf(t, conn, ""); got != want {
			t.Errorf("ready %v: health %v", ready, got)
		}
	}
}

// A panic is a fault with one log line that its ID finds, and no more.
func TestPanic(t *testing.T) {
	for fixture, protocol := range map[string]provision.Protocol{"http-three-certificates": provision.HTTP, "tcp": provision.TCP} {
		t.Run(string(protocol), func(t *testing.T) {
			var log bytes.Buffer
			calls := 0
			r := start(t, Config{
				Gate: gateFunc(func(context.Context, provision.Connection) provision.Decision {
					if calls++; calls == 1 {
						panic(errors.New("boom"))
					}
					return allowed("sensor-0001")
				}),
				MaxInFlight: 1,
				Logger:      slog.New(slog.NewJSONHandler(&log, nil)),
			}, "127.0.0.1:0")
			conn := r.dial(t, nil)
			resp := check(t, conn, readFixture(t, fixture))
			if resp.GetErrorResponse() == nil || reasonOf(resp) != provision.Internal {
				t.Errorf("answered %v", resp)
			}
			id := resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()
			if protocol == provision.HTTP && !strings.Contains(resp.GetErrorResponse().GetBody(), id) {
				t.Errorf("body %s without the ID %s", resp.GetErrorResponse().GetBody(), id)
			}
			// The slot was given back, and the server lives.
			if resp := check(t, conn, readFixture(t, fixture)); reasonOf(resp) != provision.DeviceKnown {
				t.Errorf("the next check: %v", resp)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if len(lines) != 1 || id == "" || !strings.Contains(lines[0], id) || !strings.Contains(lines[0], "boom") || !strings.Contains(lines[0], "server_test.go") {
				t.Errorf("log:\n%s\nwant one line with the ID %q, the panic and its stack", log.String(), id)
			}
		})
	}
}

func TestNewErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.pem")
	for name, tt := range map[string]struct {
		config Config
		want   string
	}{
		"no gate":          {Config{}, "no gate"},
		"unknown detail":   {Config{Gate: gateFunc(admitAll), DenyDetail: "some"}, `deny detail "some": use full or opaque`},
		"negative limit":   {Config{Gate: gateFunc(admitAll), MaxInFlight: -1}, "negative"},
		"no client CA":     {Config{Gate: gateFunc(admitAll), TLS: tlsfiles.Config{Cert: missing, Key: missing}}, "without a client CA"},
		"no key":           {Config{Gate: gateFunc(admitAll), TLS: tlsfiles.Config{Cert: missing, ClientCA: missing}}, "both a certificate and a key"},
		"no such file":     {Config{Gate: gateFunc(admitAll), TLS: tlsfiles.Config{Cert: missing, Key: missing, ClientCA: missing}}, "no such file"},
		"metrics it lacks": {Config{Gate: gateFunc(admitAll), Registerer: taken(t)}, "duplicate"},
	} {
		if _, err := New(tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want …%s…", name, err, tt.want)
		}
	}
}

// taken is a registry that has the server's metrics already.
func taken(t *testing.T) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewRegistry()
	if _, err := New(Config{Gate: gateFunc(admitAll), Registerer: r}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestServeWithoutListener(t *testing.T) {
	s, err := New(Config{Gate: gateFunc(admitAll)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), l); err == nil {
		t.Error("served on a closed listener")
	}
}
