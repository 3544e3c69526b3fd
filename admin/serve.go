package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/guard"
)

// maxConnections bounds those of the network's listener, so that they do not take
// the file descriptors that Envoy's checks need; see guard.Listener.
const maxConnections = 512

// Serve answers on the local socket until the context ends; then streams end,
// other requests get a short time to, and it returns nil. Whoever reaches the
// listener is access.Local. It closes the listener and can be called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("/", s.native)
	if s.iot != nil {
		mux.Handle("/iot/v1/", s.iot)
	}
	server := s.server(mux)
	server.BaseContext = func(net.Listener) context.Context { return access.With(context.Background(), access.Local()) }
	return s.run(ctx, server, l)
}

// ServeNetwork is Serve for a listener that others reach: the guard lets them
// in. tls is nil where there is none.
func (s *Server) ServeNetwork(ctx context.Context, l net.Listener, g *guard.Guard, config *tls.Config) error {
	mux := http.NewServeMux()
	mux.Handle("/", g.Open(s.native, s.refuse)) // there is nothing, and it says so
	mux.Handle("/v1/", g.API(s.native, s.refuse))
	mux.Handle("GET /v1/openapi.json", g.Open(s.native, s.refuse))
	if s.iot != nil {
		mux.Handle("/iot/v1/", g.API(s.iot, s.iotFail))
	}
	if s.console != nil {
		page := g.Page(s.console, s.refuse)
		mux.Handle("GET /{$}", page)
		mux.Handle("GET /console/", page)
	}
	server := s.server(g.Count(mux))
	// A response that is no stream has to be taken within this; a stream sets
	// its own limit with each write.
	server.WriteTimeout = requestTimeout + stallTimeout
	bounded := guard.Listen(l, maxConnections)
	server.ConnContext = bounded.Context
	l = bounded
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return s.run(ctx, server, l)
}

func (s *Server) refuse(w http.ResponseWriter, _ *http.Request, status int, code, text string) {
	sendError(w, status, code, text)
}

func (s *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           s.recovered(h),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // strangers' broken handshakes
	}
}

// recovered answers a request whose handler panicked, and tells the log. That it
// breaks a response off is a handler's right.
func (s *Server) recovered(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				s.log.ErrorContext(r.Context(), "administration panicked", "method", r.Method, "path", r.URL.Path,
					"panic", v, "stack", string(debug.Stack()))
				s.fail(w, r, errInternal)
			}
		}()
		h.ServeHTTP(w, r)
	})
}

func (s *Server) run(ctx context.Context, server *http.Server, l net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("admin: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.drain()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		_ = server.Close() // what still runs had its time
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: serve %s: %w", l.Addr(), err)
	}
	return nil
}
