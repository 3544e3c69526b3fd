package brokerauth

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/hubgate/hubgate/brokerauth/username"
	"github.com/hubgate/hubgate/internal/tlsfiles"
	"github.com/hubgate/hubgate/provision"
)

const (
	// maxBody bounds a question. A topic, a user name and a client ID have up to
	// 64 KiB each, and JSON may write a byte as six.
	maxBody = 2 << 20
	// maxHeader bounds a question's headers, maxConnections a broker's
	// connections; those beyond wait.
	maxHeader      = 16 << 10
	maxConnections = 4096
	// askTimeout is less than the patience of any of the brokers, which is five
	// seconds if nobody set it.
	askTimeout     = 4 * time.Second
	requestTimeout = 5 * time.Second
	// Refusals and faults logged each second, at most, and how much of what a
	// client calls itself.
	maxLines = 200
	maxShown = 200
)

// Config is what a Server is made of. Gate and Sessions are required.
type Config struct {
	Gate     Gate
	Sessions Sessions
	// Username is the form of devices' user names, as hubgate's library in Envoy
	// is told to write them. "": username.Default.
	Username string
	// Services are the clients that are no devices.
	Services []Service
	// TLS names the files for mTLS: all three or none.
	TLS tlsfiles.Config
	// MaxInFlight bounds the questions under way; those beyond are refused. 0:
	// 1024.
	MaxInFlight int
	// DrainDelay is how long questions are answered after the end was ordered.
	// 0: not at all.
	DrainDelay time.Duration
	// DrainDeadline bounds how long the questions under way then have. 0: 10
	// seconds.
	DrainDeadline time.Duration
	// Logger hears of refusals and faults, a bounded number each second; with
	// LogAll of every answer. Nil: slog.Default.
	Logger *slog.Logger
	LogAll bool
	// Registerer gets the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
}

// Server answers brokers.
type Server struct {
	config  Config
	tls     *tls.Config // nil: none
	asker   asker
	slots   chan struct{}
	denied  *provision.LineLimit
	faults  *provision.LineLimit
	metrics *metrics
}

// New makes a Server; nothing runs before Serve. It reads the TLS files.
func New(c Config) (*Server, error) {
	switch {
	case c.Gate == nil || c.Sessions == nil:
		return nil, errors.New("broker auth: needs a gate and sessions")
	case c.MaxInFlight < 0 || c.DrainDelay < 0 || c.DrainDeadline < 0:
		return nil, errors.New("broker auth: a limit is negative")
	}
	if c.Username == "" {
		c.Username = username.Default
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 1024
	}
	if c.DrainDeadline == 0 {
		c.DrainDeadline = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	form, err := username.Parse(c.Username)
	if err != nil {
		return nil, fmt.Errorf("broker auth: username: %w", err)
	}
	s := &Server{
		config: c, asker: asker{gate: c.Gate, sessions: c.Sessions, form: form}, slots: make(chan struct{}, c.MaxInFlight),
		denied: provision.NewLineLimit(maxLines, c.LogAll), faults: provision.NewLineLimit(maxLines, c.LogAll),
	}
	s.SetServices(c.Services)
	if c.TLS.Enabled() {
		if s.tls, err = tlsfiles.Server(c.TLS); err != nil {
			return nil, fmt.Errorf("broker auth: %w", err)
		}
	}
	if s.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, fmt.Errorf("broker auth: metrics: %w", err)
	}
	return s, nil
}

// SetServices replaces the clients that are no devices, at once.
func (s *Server) SetServices(services []Service) { s.asker.setServices(services) }

// Handler answers questions.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, d := range map[string]dialect{
		"/mosquitto/user":      mosquittoDialect(mosquittoUser),
		"/mosquitto/superuser": mosquittoDialect(mosquittoSuperuser),
		"/mosquitto/acl":       mosquittoDialect(mosquittoACL),
		"/emqx/authn":          emqxDialect(emqxAuthn),
		"/emqx/authz":          emqxDialect(emqxAuthz),
		"/vernemq":             vernemqDialect(),
		"/emqx/":               emqxDialect(func(emqxParams) (question, error) { return question{}, errors.New("there is no such path") }),
	} {
		mux.Handle(path, s.answer(d))
	}
	return mux
}

// dialect is how one broker asks, and wants to be answered.
type dialect struct {
	broker string
	read   func(r *http.Request, body []byte) (question, error)
	reply  func(r *http.Request, q question, verdicts []verdict) response
}

// response is an answer; a body that is no string is sent as JSON.
type response struct {
	status int
	body   any
}

// status is that of brokers that go by it.
func (v verdict) status() int {
	switch {
	case v.allows():
		return http.StatusOK
	case v.reason == requestMalformed:
		return http.StatusBadRequest
	case v.reason.outcome() == provision.Fault:
		return http.StatusServiceUnavailable
	}
	return http.StatusForbidden
}

func (s *Server) answer(d dialect) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		q, verdicts := s.judge(w, r, d)
		for i, v := range verdicts {
			s.note(r.Context(), d.broker, q, i, v, start)
		}
		s.metrics.duration.WithLabelValues(d.broker).Observe(time.Since(start).Seconds())
		answer := d.reply(r, q, verdicts)
		if text, ok := answer.body.(string); ok {
			w.WriteHeader(answer.status)
			_, _ = io.WriteString(w, text) // the broker hung up
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.status)
		_ = json.NewEncoder(w).Encode(answer.body)
	})
}

// judge reads the question and finds the answer. It always does.
func (s *Server) judge(w http.ResponseWriter, r *http.Request, d dialect) (q question, verdicts []verdict) {
	fault := func(r reason, err error) (question, []verdict) {
		if q.action == "" {
			q.action = unclear
		}
		q.topics = nil
		return q, []verdict{{r, err}}
	}
	defer func() {
		if p := recover(); p != nil {
			q, verdicts = fault(internal, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return fault(overloaded, nil)
	}
	switch {
	case r.Method != http.MethodPost:
		return fault(requestMalformed, errors.New("questions are asked with POST"))
	case r.Header.Get("Origin") != "":
		return fault(requestMalformed, errors.New("a web page asks"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		q, err = d.read(r, body)
	}
	if err != nil {
		return fault(requestMalformed, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	return q, s.asker.ask(ctx, q)
}

// note counts an answer and logs it, or not: of what may come in floods a
// bounded number is logged each second.
func (s *Server) note(ctx context.Context, broker string, q question, i int, v verdict, start time.Time) {
	outcome := v.reason.outcome()
	s.metrics.checks.WithLabelValues(broker, string(q.action), outcome.String()).Inc()
	level, limit := slog.LevelInfo, s.denied
	switch {
	case outcome == provision.Fault:
		level, limit = slog.LevelError, s.faults
	case outcome == provision.Allow && !s.config.LogAll:
		return
	}
	if !s.config.Logger.Enabled(ctx, level) {
		return
	}
	ok, dropped := limit.Take(start)
	if !ok {
		return
	}
	attrs := []slog.Attr{
		slog.String("broker", broker), slog.String("action", string(q.action)),
		slog.String("decision", outcome.String()), slog.String("reason", string(v.reason)),
		slog.String("username", shown(q.username)), slog.String("client_id", shown(q.clientID)),
		slog.Duration("took", time.Since(start)),
	}
	if len(q.topics) > 0 {
		attrs = append(attrs, slog.String("topic", shown(q.topics[i])))
	}
	if v.err != nil {
		attrs = append(attrs, slog.String("detail", v.err.Error()))
	}
	if dropped > 0 {
		attrs = append(attrs, slog.Int64("unlogged", dropped))
	}
	s.config.Logger.LogAttrs(ctx, level, "broker's question", attrs...)
}

func shown(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}

// Serve answers brokers until the context ends, then drains, and returns nil. It
// closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      2 * requestTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug), // strangers' broken handshakes
	}
	l = netutil.LimitListener(l, maxConnections)
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("broker auth: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	wait(context.WithoutCancel(ctx), s.config.DrainDelay)
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.DrainDeadline)
	defer cancel()
	if server.Shutdown(deadline) != nil {
		_ = server.Close() // those cut off are refused
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("broker auth: serve %s: %w", l.Addr(), err)
	}
	return nil
}
