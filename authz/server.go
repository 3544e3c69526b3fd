package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/hubgate/hubgate/internal/tlsfiles"
)

const (
	// maxHeaderList bounds the metadata of one check, which may carry a chain.
	// gRPC counts it decompressed. TLS lets a device send 100 KiB of
	// certificates, 134 KiB in base64, and their fingerprints beside them: all
	// that can get as far as Envoy has to fit, so that a chain that is too long
	// is refused by a decision instead of failing the call.
	maxHeaderList = 256 << 10
	// maxMessage bounds one CheckRequest. It holds the request's headers (60
	// KiB by Envoy's default), the leaf, and in XFCC leaf and chain once more,
	// URL-encoded; 100 KiB of certificates make less than 500 KiB.
	maxMessage = 1 << 20

	// Envoy may be told to send HTTP/2 pings as often as it likes, with and
	// without checks under way; grpc-go's default would hang up on it after a
	// few. Once a second is more than anybody needs.
	minPingInterval = time.Second
	// Our own pings find the connection of an Envoy that vanished.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
	// streamWorkers answer checks with a stack that has grown already; more at
	// once get a goroutine each.
	streamWorkers = 64
	// handshakeTimeout bounds TLS and the HTTP/2 preface.
	handshakeTimeout = 10 * time.Second
)

// Config is what a Server is made of. Only Gate is required.
type Config struct {
	// Gate decides.
	Gate Gate
	// Sessions is told what access logs say of connections. Nil: the
	// AccessLogService is not served.
	Sessions Sessions
	// TLS names the files for mTLS: all three or none. They are read again when
	// they change.
	TLS tlsfiles.Config
	// DenyDetail is how much a refused device learns. "": DetailFull.
	DenyDetail DenyDetail
	// MaxInFlight bounds the checks evaluated at once; those beyond are refused
	// as overloaded. 0: 1024.
	MaxInFlight int
	// MaxConnections bounds the connections of Envoys, which hold one per
	// worker thread; those beyond are closed at once. 0: 4096.
	MaxConnections int
	// DrainDelay is how long checks go on being served as before while the
	// health service already says that they soon will not be. 0: not at all.
	DrainDelay time.Duration
	// DrainDeadline bounds how long the checks in flight then have to end.
	// 0: 10 seconds.
	DrainDeadline time.Duration
	// Logger hears of panics and of certificates; decisions are the Gate's to
	// log. Nil: slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
}

// Server serves envoy.service.auth.v3.Authorization, grpc.health.v1.Health and,
// for Envoys without hubgate's library, envoy.service.accesslog.v3.
type Server struct {
	config   Config
	grpc     *grpc.Server
	health   *health.Server
	metrics  *metrics
	draining chan struct{} // closed when streams have to end
}

// New makes a Server; nothing runs before Serve. It reads the TLS files, so
// that a broken one stops the start.
func New(c Config) (*Server, error) {
	if err := c.normalize(); err != nil {
		return nil, fmt.Errorf("authz: %w", err)
	}
	slots := make(chan struct{}, c.MaxInFlight)
	m, err := newMetrics(c.Registerer, func() float64 { return float64(len(slots)) })
	if err != nil {
		return nil, fmt.Errorf("authz: metrics: %w", err)
	}
	s := &Server{config: c, health: health.NewServer(), metrics: m, draining: make(chan struct{})}
	options := []grpc.ServerOption{
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(uint32(c.MaxInFlight)),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.StreamInterceptor(s.endWithDrain),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.InTapHandle(withMetadata),
		experimental.BufferPool(new(buffers)),
	}
	if c.TLS.Enabled() {
		config, err := tlsfiles.Server(c.TLS)
		if err != nil {
			return nil, fmt.Errorf("authz: %w", err)
		}
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	s.grpc = grpc.NewServer(options...)
	checks := &checker{
		gate:    c.Gate,
		replies: replies{detail: c.DenyDetail},
		log:     c.Logger,
		metrics: m,
		slots:   slots,
	}
	s.grpc.RegisterService(checks.service(), nil)
	if c.Sessions != nil {
		alsv3.RegisterAccessLogServiceServer(s.grpc, &accessLogs{sessions: c.Sessions})
	}
	healthpb.RegisterHealthServer(s.grpc, s.health)
	s.SetReady(true)
	return s, nil
}

func (c *Config) normalize() error {
	if c.Gate == nil {
		return errors.New("no gate")
	}
	if c.TLS.Enabled() && c.TLS.ClientCA == "" {
		return errors.New("TLS without a client CA would let anybody ask: name the CA of Envoy's certificate")
	}
	switch c.DenyDetail {
	case "":
		c.DenyDetail = DetailFull
	case DetailFull, DetailOpaque:
	default:
		return fmt.Errorf("deny detail %q: use %s or %s", c.DenyDetail, DetailFull, DetailOpaque)
	}
	if c.MaxInFlight < 0 || c.MaxConnections < 0 || c.DrainDelay < 0 || c.DrainDeadline < 0 {
		return errors.New("a limit is negative")
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 1024
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 4096
	}
	if c.DrainDeadline == 0 {
		c.DrainDeadline = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.TLS.Logger == nil {
		c.TLS.Logger = c.Logger
	}
	return nil
}

// SetReady sets what the health service says from now on: SERVING or not. A
// new Server is ready; one that drains never is again.
func (s *Server) SetReady(ready bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if ready {
		state = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", state)
	s.health.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, state)
}

// Serve answers checks on the listener until the context ends, then drains: it
// turns unhealthy, after DrainDelay takes no more checks, and waits for those
// in flight up to DrainDeadline. It closes the listener, returns nil after a
// complete drain, and can be called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	go func() {
		served <- s.grpc.Serve(&limitedListener{Listener: l, limit: int64(s.config.MaxConnections), metrics: s.metrics})
	}()
	select {
	case err := <-served:
		return fmt.Errorf("authz: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	err := s.drain()
	// It may have been stopped before it began.
	if ended := <-served; ended != nil && !errors.Is(ended, grpc.ErrServerStopped) {
		err = errors.Join(err, fmt.Errorf("authz: serve %s: %w", l.Addr(), ended))
	}
	return err
}

func (s *Server) drain() error {
	s.health.Shutdown()
	time.Sleep(s.config.DrainDelay)
	close(s.draining)
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	deadline := time.NewTimer(s.config.DrainDeadline)
	defer deadline.Stop()
	select {
	case <-stopped:
		return nil
	case <-deadline.C:
		s.grpc.Stop()
		<-stopped
		return fmt.Errorf("authz: checks were still in flight %s after the drain began and were cut off", s.config.DrainDeadline)
	}
}

// endWithDrain ends streams when the drain begins. Someone who watches the
// health of a server has no reason to hang up, and GracefulStop waits for
// streams as long as for checks.
func (s *Server) endWithDrain(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-s.draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	return handler(srv, boundStream{stream, ctx})
}

// boundStream is a stream with another context.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s boundStream) Context() context.Context { return s.ctx }
