package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/admission"
	"github.com/hubgate/hubgate/authz"
	"github.com/hubgate/hubgate/brokerauth"
	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/crl"
	"github.com/hubgate/hubgate/events"
	"github.com/hubgate/hubgate/internal/tlsfiles"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/session"
)

// declareTimeout bounds how long a store may take to claim the declared hubs.
const declareTimeout = 30 * time.Second

type serveFlags struct {
	config        string
	logLevel      string
	logFormat     string
	drainDelay    time.Duration
	drainDeadline time.Duration
}

func newServe(std streams) *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Answer Envoy's checks",
		Long: `Answer Envoy's checks until SIGTERM or SIGINT. Then health and readiness turn
negative, and checks go on for --drain-delay, so that Envoy has time to notice;
those still running get --drain-deadline. A second signal ends it at once.

SIGHUP reads the configuration again; changed files are noticed without it.
Without --config, the store is ./hubgate.db, the listeners are on the loopback
address, and there are no hubs.`,
		Example: `  hubgate serve --config hubgate.yaml`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return serve(c.Context(), f, std)
		},
	}
	c.Flags().StringVarP(&f.config, "config", "c", "", "configuration file")
	c.Flags().StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error (default: as configured, else info)")
	c.Flags().StringVar(&f.logFormat, "log-format", "", "text or json (default: as configured, else text)")
	c.Flags().DurationVar(&f.drainDelay, "drain-delay", time.Second, "how long checks go on after health turned negative")
	c.Flags().DurationVar(&f.drainDeadline, "drain-deadline", 10*time.Second, "how long running checks may then take")
	return c
}

// loadConfig reads the file, or gives the default for the working directory.
func loadConfig(file string) (*config.Config, error) {
	if file == "" {
		return config.Default(".")
	}
	return config.Load(file)
}

// logger writes to w as configured and flagged. Its level can change later.
func (f serveFlags) logger(c *config.Config, std streams) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	level.Set(c.Log.Level)
	if f.logLevel != "" {
		var l slog.Level
		if err := l.UnmarshalText([]byte(f.logLevel)); err != nil {
			return nil, nil, &usageError{fmt.Errorf("--log-level: %q is none of debug, info, warn, error", f.logLevel)}
		}
		level.Set(l)
	}
	options := &slog.HandlerOptions{Level: level}
	switch {
	case f.logFormat == "json", f.logFormat == "" && c.Log.JSON:
		return slog.New(slog.NewJSONHandler(std.err, options)), level, nil
	case f.logFormat == "text", f.logFormat == "":
		return slog.New(slog.NewTextHandler(std.err, options)), level, nil
	}
	return nil, nil, &usageError{fmt.Errorf("--log-format: %q is neither text nor json", f.logFormat)}
}

// server is a hubgate that serves: everything that is opened and made before
// anything runs.
type server struct {
	config  *config.Config
	flags   serveFlags
	log     *slog.Logger
	level   *slog.LevelVar
	store   *store
	gate    *provision.Gate
	tracker *session.Tracker
	fleet   *fleet.Fleet
	crls    *crl.Fetcher
	watcher *config.Watcher
	authz   *authz.Server
	broker  *brokerauth.Server // nil: off
	admin   administration
	events  *events.Relays
	probes  *probes
	linkTLS *tls.Config // nil: none
	// listeners, bound
	authzListener, linkListener, socketListener, metricsListener net.Listener
	adminListener, brokerListener                                net.Listener // nil: off
}

// heapGrowth is how much the heap may grow between two collections, in percent,
// unless GOGC says. A check leaves little behind, but many checks do, and what
// lives is small: collecting less often costs memory by the megabyte and saves
// a tenth of the processor time.
const heapGrowth = 400

func serve(ctx context.Context, f serveFlags, std streams) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	c, err := loadConfig(f.config)
	if err != nil {
		return err
	}
	log, level, err := f.logger(c, std)
	if err != nil {
		return err
	}
	s := &server{config: c, flags: f, log: log, level: level}
	defer func() { err = errors.Join(err, s.close()) }()
	// The store comes first: a second hubgate on the same file is told so, not
	// that some port is in use.
	if s.store, err = openStore(ctx, c, "hubgate serve", log); err != nil {
		return err
	}
	if err := s.make(); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	return s.run(ctx)
}

// make makes the parts; none of them runs yet.
func (s *server) make() (err error) {
	registry := newRegistry()
	s.tracker, err = session.New(session.Config{Store: s.store, Logger: s.log, Registerer: registry})
	if err != nil {
		return err
	}
	if s.linkTLS, err = linkTLS(s.config.Link, s.log); err != nil {
		return err
	}
	s.gate, err = provision.NewGate(provision.GateConfig{
		Store: s.store, MaxInFlight: s.config.Authz.MaxInFlight, Domain: s.config.Domain, Logger: s.log, LogAll: s.config.Log.AllChecks, Registerer: registry,
		Sessions: s.tracker, Changes: s.tracker, OutageWindow: s.config.Authz.OutageWindow,
		FailuresPerMinute: s.config.Authz.FailuresPerMinute,
		Hook: admission.New(admission.Config{
			CAFile: s.config.Admission.HookCA, SecretFile: s.config.Admission.HookSecretFile, Networks: s.config.Admission.HookNetworks,
		}),
		Denials: s.store, Warnings: s.store, FoldWindow: s.config.Events.Denials.Window, FoldNetworks: s.config.Events.Denials.Networks,
	})
	if err != nil {
		return err
	}
	if err := s.makeEvents(registry); err != nil {
		return err
	}
	if s.fleet, err = fleet.New(fleet.Config{Gate: s.gate, Store: s.store, Logger: s.log}); err != nil {
		return err
	}
	if s.crls, err = crl.New(crl.Config{
		Gate: s.gate, Store: s.store, Refresh: s.config.CRL.Refresh, Networks: s.config.CRL.Networks, Logger: s.log, Registerer: registry,
	}); err != nil {
		return err
	}
	s.probes = &probes{registry: registry, ready: s.gate.Ready, log: s.log}
	s.watcher, err = config.NewWatcher(config.WatcherConfig{
		Current: s.config, Apply: s.apply, Logger: s.log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	options := authz.Config{
		Gate: s.gate, Sessions: s.tracker, DenyDetail: denyDetail(s.config), MaxInFlight: s.config.Authz.MaxInFlight,
		DrainDelay: s.flags.drainDelay, DrainDeadline: s.flags.drainDeadline,
		Logger: s.log, Registerer: registry,
	}
	if t := s.config.Authz.TLS; t != nil {
		options.TLS = tlsfiles.Config{Cert: t.Cert, Key: t.Key, ClientCA: t.ClientCA, Logger: s.log}
	}
	if s.authz, err = authz.New(options); err != nil {
		return err
	}
	s.authz.SetReady(false)
	if err := s.makeBroker(registry); err != nil {
		return err
	}
	return s.makeAdmin(registry)
}

// makeEvents makes what brings events to their sinks.
func (s *server) makeEvents(registry prometheus.Registerer) error {
	c := s.config.Events
	sinks, err := newSinks(c, s.hubSettings, s.log)
	if err != nil {
		return err
	}
	s.events, err = events.New(events.Config{
		Store: s.store, Sinks: sinks, Logger: s.log, Registerer: registry, Lease: c.Lease, Refusals: c.Tries,
		Retention: events.Retention{MaxAge: c.Retention.MaxAge, Delivered: c.Retention.Delivered},
	})
	return err
}

// hubSettings is what a hub's owner set of its events.
func (s *server) hubSettings(id provision.HubID) events.HubSettings {
	h, _ := s.gate.Hub(id.String()) // of one that is gone nothing is set
	return events.HubSettings{Disabled: h.EventsDisabled, TopicPrefix: h.EventsTopicPrefix}
}

func denyDetail(c *config.Config) authz.DenyDetail {
	if c.Authz.Opaque {
		return authz.DetailOpaque
	}
	return authz.DetailFull
}

// listen binds every listener, before anything says that it is ready.
func (s *server) listen(ctx context.Context) (err error) {
	if s.authzListener, err = authz.Listen(ctx, s.config.Authz.Listen, 0); err != nil {
		return fmt.Errorf("authz.listen: %w", err)
	}
	if s.linkListener, err = listenLink(ctx, s.config.Link, s.linkTLS); err != nil {
		return err
	}
	var l net.ListenConfig
	if s.metricsListener, err = l.Listen(ctx, "tcp", s.config.Metrics.Listen); err != nil {
		return fmt.Errorf("metrics.listen: %w", err)
	}
	if s.adminListener, err = listenAdmin(ctx, s.config.Admin); err != nil {
		return err
	}
	if s.broker != nil {
		if s.brokerListener, err = authz.Listen(ctx, s.config.BrokerAuth.Listen, 0); err != nil {
			return fmt.Errorf("broker_auth.listen: %w", err)
		}
	}
	s.socketListener, err = listenSocket(ctx, s.config.Admin.Socket)
	return err
}

// run serves until the context ends, then drains. What checks need outlives
// them: the background ends once the front has drained.
func (s *server) run(ctx context.Context) error {
	background, endBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer endBackground()
	group, background := errgroup.WithContext(background) // a part that fails ends the others
	start := func(part func(context.Context) error) {
		group.Go(func() error {
			if err := part(background); background.Err() == nil {
				return err
			}
			return nil
		})
	}
	start(s.store.run)
	start(func(ctx context.Context) error { return s.probes.serve(ctx, s.metricsListener) })
	group.Go(func() error {
		defer endBackground()
		declaring, cancel := context.WithTimeout(ctx, declareTimeout)
		defer cancel()
		if err := s.gate.Declare(declaring, s.config.Hubs); err != nil {
			return err
		}
		s.makeFirstToken(ctx)
		s.announce()
		start(s.events.Run)
		start(s.gate.Run)
		start(s.fleet.Run)
		start(s.crls.Run)
		start(func(ctx context.Context) error { return s.tracker.Run(ctx, s.gate) })
		start(s.watcher.Run)
		start(s.followReadiness)
		start(s.followHangups)
		err := s.serveFront(ctx, background)
		s.flush(background)
		return err
	})
	return group.Wait()
}

// flush tells of the last denials and gives the sinks, while they still run, what
// they do not have yet. What they do not take now, they get later.
func (s *server) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	err := s.gate.FlushDenials(ctx)
	if err == nil {
		err = s.events.Flush(ctx)
	}
	if err != nil {
		s.log.Warn("not all events have reached their sinks; they are relayed at the next start", "error", err)
	}
}

// serveFront answers Envoy and administrators until the context ends, or the
// background fails, and returns when both have drained.
func (s *server) serveFront(ctx, background context.Context) error {
	front, drain := context.WithCancel(background)
	defer drain()
	defer context.AfterFunc(ctx, func() {
		s.probes.draining.Store(true)
		s.log.Info("draining", "delay", s.flags.drainDelay, "deadline", s.flags.drainDeadline)
		drain()
	})()
	var group errgroup.Group
	group.Go(func() error {
		defer drain()
		return s.authz.Serve(front, s.authzListener)
	})
	group.Go(func() error {
		defer drain()
		return s.admin.server.Serve(front, s.socketListener)
	})
	if s.adminListener != nil {
		group.Go(func() error {
			defer drain()
			return s.admin.server.ServeNetwork(front, s.adminListener, s.admin.guard, s.admin.tls)
		})
	}
	if s.brokerListener != nil {
		group.Go(func() error {
			defer drain()
			return s.broker.Serve(front, s.brokerListener)
		})
	}
	group.Go(func() error {
		defer drain()
		return s.tracker.Serve(front, s.linkListener)
	})
	return group.Wait()
}

// announce tells people where everything is.
func (s *server) announce() {
	s.log.Info("listening", "for", "Envoy's checks (gRPC)", "address", s.authzListener.Addr().String(),
		"guard", guardOf(s.config.Authz.TLS, s.config.Authz.Insecure, "authz.insecure"))
	s.log.Info("listening", "for", "links of Envoy's library", "address", s.linkListener.Addr().String(),
		"guard", guardOf(s.config.Link.TLS, s.config.Link.Insecure, "link.insecure"))
	s.log.Info("listening", "for", "hubgate's commands", "address", s.socketListener.Addr().String(), "guard", "file mode 0600")
	if s.adminListener != nil {
		guard := "tokens, no TLS"
		if s.admin.tls != nil {
			guard = "tokens, TLS"
		}
		s.log.Info("listening", "for", "administrators (API, console)", "address", s.adminListener.Addr().String(), "guard", guard)
	}
	if b := s.config.BrokerAuth; s.brokerListener != nil {
		s.log.Info("listening", "for", "MQTT brokers' questions", "address", s.brokerListener.Addr().String(),
			"guard", guardOf(b.TLS, b.Insecure, "broker_auth.insecure"))
	}
	s.log.Info("listening", "for", "/metrics /livez /readyz", "address", s.metricsListener.Addr().String(), "guard", "none")
}

// apply puts a new configuration in force, as far as that is possible while
// hubgate serves.
func (s *server) apply(ctx context.Context, c *config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, declareTimeout)
	defer cancel()
	if err := s.gate.Declare(ctx, c.Hubs); err != nil {
		return err
	}
	s.admin.configure(c.Admin)
	if s.broker != nil {
		s.broker.SetServices(brokerServices(c.BrokerAuth))
	}
	if s.flags.logLevel == "" {
		s.level.Set(c.Log.Level)
	}
	return nil
}

// followReadiness tells gRPC's health service and the log what /readyz says.
func (s *server) followReadiness(ctx context.Context) error {
	const every = 100 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	ready := false
	for {
		err := s.probes.readiness()
		if now := err == nil; now != ready {
			ready = now
			s.authz.SetReady(ready)
			switch {
			case ready:
				s.log.Info("ready", "hubs", s.gate.HubCount(), "store", s.store.name)
			case !errors.Is(err, errDraining):
				s.log.Warn("not ready", "reason", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// followHangups reads the configuration again on SIGHUP.
func (s *server) followHangups(ctx context.Context) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hangups:
			s.watcher.Reload()
		}
	}
}

// close closes what run did not, because it never ran, and the store.
func (s *server) close() error {
	for _, l := range []net.Listener{s.authzListener, s.linkListener, s.metricsListener, s.adminListener, s.brokerListener, s.socketListener} {
		if l != nil {
			_ = l.Close() // closed already, if it was served
		}
	}
	if s.store == nil {
		return nil
	}
	return s.store.close()
}
