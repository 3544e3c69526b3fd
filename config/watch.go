package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
)

// WatcherConfig is what a Watcher is made of.
type WatcherConfig struct {
	// Current is the configuration that is in force.
	Current *Config
	// Apply puts a new configuration in force: what of it can change while
	// hubgate runs. If it fails, it is called again later.
	Apply func(context.Context, *Config) error
	// Logger. Nil: slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
	// Settle is how long to wait after the first sign of a change, as files
	// seldom change alone. 0: 200 ms.
	Settle time.Duration
	// Poll is how often files are compared without any sign, for file systems
	// that give none. 0: 30 s.
	Poll time.Duration
}

// Watcher reloads the configuration when its files change: the file itself,
// and the certificates and secrets that it names. A configuration with
// mistakes changes nothing.
//
// It watches directories, not files: editors and Kubernetes replace files by
// renaming, the latter by swapping a symbolic link (..data) to a directory.
type Watcher struct {
	start    *Config // settings that need a restart are those of the start
	apply    func(context.Context, *Config) error
	log      *slog.Logger
	settle   time.Duration
	poll     time.Duration
	asked    chan struct{}
	seen     sources // what was read last
	retry    bool    // the last reload failed for reasons outside the files
	failure  string  // what was logged last, "" after a success
	success  prometheus.Gauge
	lastTime prometheus.Gauge
}

// NewWatcher makes a Watcher. Nothing runs before Run.
func NewWatcher(c WatcherConfig) (*Watcher, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Settle == 0 {
		c.Settle = 200 * time.Millisecond
	}
	if c.Poll == 0 {
		c.Poll = 30 * time.Second
	}
	w := &Watcher{
		start:  c.Current,
		apply:  c.Apply,
		log:    c.Logger,
		settle: c.Settle,
		poll:   c.Poll,
		asked:  make(chan struct{}, 1),
		seen:   c.Current.sources,
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hubgate_config_last_reload_successful",
			Help: "1 if the last reading of the configuration was put in force, 0 if it had mistakes.",
		}),
		lastTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hubgate_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration that is in force was read, Unix time.",
		}),
	}
	if err := errors.Join(c.Registerer.Register(w.success), c.Registerer.Register(w.lastTime)); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	w.succeeded()
	return w, nil
}

// Reload asks for a reload even if no file changed. It does not wait for it.
func (w *Watcher) Reload() {
	select {
	case w.asked <- struct{}{}:
	default:
	}
}

// Run follows the files until the context ends and returns its error. Without
// a file there is nothing to follow.
func (w *Watcher) Run(ctx context.Context) error {
	if w.start.File == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	var events chan fsnotify.Event
	var overflows chan error
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.WarnContext(ctx, "no notice of changed files, they are compared instead", "every", w.poll, "error", err)
	} else {
		defer func() { _ = notify.Close() }()
		events, overflows = notify.Events, notify.Errors
	}
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	var settled <-chan time.Time
	for {
		// What changed before its directory was watched gave no sign.
		if notify != nil && w.watchDirectories(notify) && settled == nil {
			settled = time.After(w.settle)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event := <-events:
			// A running timer is left alone, or a busy directory would put the
			// reload off for ever.
			if settled == nil && w.matters(event) {
				settled = time.After(w.settle)
			}
		case err := <-overflows:
			w.log.WarnContext(ctx, "notices of changed files were lost, the files are compared", "error", err)
			if settled == nil {
				settled = time.After(w.settle)
			}
		case <-settled:
			settled = nil
			w.reload(ctx, false)
		case <-poll.C:
			w.reload(ctx, false)
		case <-w.asked:
			w.reload(ctx, true)
		}
	}
}

// matters leaves out what cannot concern the configuration: other files that
// are written in the same directory, the embedded store above all.
func (w *Watcher) matters(event fsnotify.Event) bool {
	if event.Op&(fsnotify.Create|fsnotify.Rename|fsnotify.Remove) != 0 {
		return true
	}
	if event.Op&fsnotify.Write == 0 {
		return false
	}
	name := filepath.Base(event.Name)
	for path := range w.seen {
		real, err := filepath.EvalSymlinks(path)
		if filepath.Base(path) == name || err != nil || filepath.Base(real) == name {
			return true
		}
	}
	return false
}

// watchDirectories watches every directory in which an entry's change can
// change a file: the file's own, where the file really is, and those of the
// symbolic links on the way. It reports whether there are new ones.
func (w *Watcher) watchDirectories(notify *fsnotify.Watcher) bool {
	wanted := make(map[string]bool)
	for path := range w.seen {
		wanted[filepath.Dir(path)] = true
		if real, err := filepath.EvalSymlinks(path); err == nil {
			wanted[filepath.Dir(real)] = true
		}
		for p := filepath.Dir(path); p != filepath.Dir(p); p = filepath.Dir(p) {
			if info, err := os.Lstat(p); err == nil && info.Mode()&os.ModeSymlink != 0 {
				wanted[filepath.Dir(p)] = true
			}
		}
	}
	for _, dir := range notify.WatchList() {
		if !wanted[dir] {
			_ = notify.Remove(dir) // it may be gone already
		}
		delete(wanted, dir)
	}
	added := false
	for dir := range wanted {
		if notify.Add(dir) == nil { // what cannot be watched is polled
			added = true
		}
	}
	return added
}

// reload reads the files, if they changed or it is forced, and puts them in
// force.
func (w *Watcher) reload(ctx context.Context, forced bool) {
	if !forced && !w.retry && !w.seen.changed() {
		return
	}
	c, read, err := load(w.start.File)
	w.seen, w.retry = read, false
	if err == nil {
		if err = w.apply(ctx, c); err != nil && ctx.Err() == nil {
			w.retry = true
		}
	}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		w.failed(ctx, err, forced)
		return
	}
	w.succeeded()
	w.log.InfoContext(ctx, "configuration reloaded", "file", c.File, "hubs", len(c.Hubs))
	if keys := needRestart(w.start, c); len(keys) > 0 {
		w.log.WarnContext(ctx, "some changed settings need a restart", "keys", strings.Join(keys, ", "))
	}
}

func (w *Watcher) succeeded() {
	w.failure = ""
	w.success.Set(1)
	w.lastTime.SetToCurrentTime()
}

// failed logs a failure, but not the same again and again.
func (w *Watcher) failed(ctx context.Context, err error, forced bool) {
	w.success.Set(0)
	if text := err.Error(); text != w.failure || forced {
		w.failure = text
		w.log.ErrorContext(ctx, "configuration not reloaded, the old one stays in force", "error", text)
	}
}

// changed compares the files with what was read.
func (s sources) changed() bool {
	for path, before := range s {
		data, err := readFile(path)
		if fingerprint(data, err) != before {
			return true
		}
	}
	return false
}

// needRestart names the keys that changed and that a running hubgate cannot
// follow.
func needRestart(before, after *Config) []string {
	differ := map[string]bool{
		"domain":                    before.Domain != after.Domain,
		"store":                     before.Store.Path != after.Store.Path || before.Store.URL != after.Store.URL,
		"store_password_file":       before.Store.Password != after.Store.Password,
		"store_ca_file":             before.Store.CAFile != after.Store.CAFile,
		"redis":                     before.Store.redis() != after.Store.redis(),
		"partitions":                before.Partitions != after.Partitions,
		"authz.listen":              before.Authz.Listen != after.Authz.Listen,
		"authz.tls":                 !sameFiles(before.Authz.TLS, after.Authz.TLS),
		"authz.deny_detail":         before.Authz.Opaque != after.Authz.Opaque,
		"authz.max_in_flight":       before.Authz.MaxInFlight != after.Authz.MaxInFlight,
		"authz.outage_window":       before.Authz.OutageWindow != after.Authz.OutageWindow,
		"authz.failures_per_minute": before.Authz.FailuresPerMinute != after.Authz.FailuresPerMinute,
		"admission":                 !reflect.DeepEqual(before.Admission, after.Admission),
		"link.listen":               before.Link.Listen != after.Link.Listen,
		"link.tls":                  !sameFiles(before.Link.TLS, after.Link.TLS),
		"admin.listen":              before.Admin.Listen != after.Admin.Listen,
		"admin.tls":                 !sameFiles(before.Admin.TLS, after.Admin.TLS),
		"admin.socket":              before.Admin.Socket != after.Admin.Socket,
		"admin.region":              before.Admin.Region != after.Admin.Region,
		"admin.rate":                before.Admin.Rate != after.Admin.Rate,
		"admin.failures":            before.Admin.Failures != after.Admin.Failures,
		"crl":                       !reflect.DeepEqual(before.CRL, after.CRL),
		"broker_auth.listen":        before.BrokerAuth.Listen != after.BrokerAuth.Listen,
		"broker_auth.tls":           !sameFiles(before.BrokerAuth.TLS, after.BrokerAuth.TLS),
		"broker_auth.username":      before.BrokerAuth.Username != after.BrokerAuth.Username,
		"metrics.listen":            before.Metrics.Listen != after.Metrics.Listen,
		"events":                    !reflect.DeepEqual(before.Events, after.Events),
		"log.format":                before.Log.JSON != after.Log.JSON,
	}
	maps.DeleteFunc(differ, func(_ string, yes bool) bool { return !yes })
	return slices.Sorted(maps.Keys(differ))
}

func sameFiles(a, b *TLS) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// redis is what the section of that name says.
func (s Store) redis() [5]any {
	return [5]any{s.Cert, s.Key, s.SentinelUsername, s.SentinelPassword, s.WaitReplicas}
}
