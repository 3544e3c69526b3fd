package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// probes serve /metrics, /livez and /readyz.
type probes struct {
	registry *prometheus.Registry
	// ready returns nil, or why not.
	ready    func() error
	draining atomic.Bool
	log      *slog.Logger
}

// newRegistry has what every Go process tells, and which build it is.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	b := readBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hubgate_build_info",
		Help: "Always 1; the labels tell which build this is.",
		ConstLabels: prometheus.Labels{
			"version": b.version, "revision": b.revision, "goversion": runtime.Version(),
		},
	})
	info.Set(1)
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// errDraining: the process is ending and wants no new work.
var errDraining = errors.New("draining")

// readiness is why checks should not be sent here, nil if they should.
func (p *probes) readiness() error {
	if p.draining.Load() {
		return errDraining
	}
	return p.ready()
}

func (p *probes) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn), EnableOpenMetrics: true,
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _ = say(w, "alive\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.readiness(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		_ = say(w, "ready\n") // the prober hung up
	})
	return mux
}

// serve answers until the context ends.
func (p *probes) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           p.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("metrics: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	_ = server.Close() // a scrape that is cut off is asked for again
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// build says which build this binary is.
type build struct{ version, revision string }

// version and revision are set by the linker (-X) where the build cannot see
// the repository, as in an image; see scripts/image.
var version, revision string

func readBuild() build {
	b := build{cmp.Or(version, "(devel)"), cmp.Or(revision, "unknown")}
	info, ok := debug.ReadBuildInfo()
	if !ok || version != "" {
		return b
	}
	if v := info.Main.Version; v != "" {
		b.version = v
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.revision = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		b.revision += "-modified"
	}
	return b
}
