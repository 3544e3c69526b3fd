package config

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hubgate/hubgate/provision"
)

// watched is a Watcher at work on a directory of its own.
type watched struct {
	*Watcher
	dir     string
	applied chan *Config
	log     *lockedBuffer
	mu      sync.Mutex
	refuse  error // what Apply returns
}

type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
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

const oneHub = "hubs:\n  - name: factory\n    trust_anchors: [ca.pem]\n"

// watch follows dir/hubgate.yaml, which is there already.
func watch(t *testing.T, dir string, poll time.Duration) *watched {
	t.Helper()
	current, err := Load(filepath.Join(dir, "hubgate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{dir: dir, applied: make(chan *Config, 10), log: &lockedBuffer{}}
	w.Watcher, err = NewWatcher(WatcherConfig{
		Current: current,
		Apply: func(_ context.Context, c *Config) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.refuse == nil {
				w.applied <- c
			}
			return w.refuse
		},
		Logger:     slog.New(slog.NewTextHandler(w.log, nil)),
		Registerer: prometheus.NewRegistry(),
		Settle:     20 * time.Millisecond,
		Poll:       poll,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	return w
}

// next waits for a configuration to be put in force.
func (w *watched) next(t *testing.T) *Config {
	t.Helper()
	select {
	case c := <-w.applied:
		return c
	case <-time.After(10 * time.Second):
		t.Fatalf("no reload; the log says\n%s", w.log)
		return nil
	}
}

// logged waits for the log to say something as often as that.
func (w *watched) logged(t *testing.T, text string, times int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); strings.Count(w.log.String(), text) < times; {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q %d times:\n%s", text, times, w.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	// As editors do: a new file, renamed over the old one.
	temp := filepath.Join(dir, "."+name+".new")
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func fixture(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// never is a poll that does not come: the change has to be noticed.
const never = time.Hour

func TestReloadOnChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "ca.pem", fixture(t, "factory-ca.pem"))
	write(t, dir, "hubgate.yaml", oneHub)
	w := watch(t, dir, never)

	write(t, dir, "hubgate.yaml", oneHub+"    auto_provisioning: true\n")
	if c := w.next(t); !c.Hubs[0].AutoProvisioning {
		t.Error("the edited file is not in force")
	}
	write(t, dir, "ca.pem", fixture(t, "vendor-ca.pem"))
	if c := w.next(t); string(c.Hubs[0].Anchors[0]) != string(ders(t, "vendor-ca.pem")[0]) {
		t.Error("the new anchor is not in force")
	}
	// Written in place, too.
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte(fixture(t, "factory-ca.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	for c := w.next(t); string(c.Hubs[0].Anchors[0]) != string(ders(t, "factory-ca.pem")[0]); c = w.next(t) {
	}
}

// TestReloadOnLinkSwap changes a mounted ConfigMap the way Kubernetes does:
// every file is a link through ..data, which is swapped as a whole.
func TestReloadOnLinkSwap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	version := func(name, config, anchor string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), "hubgate.yaml", config)
		write(t, filepath.Join(dir, name), "ca.pem", anchor)
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", oneHub, fixture(t, "factory-ca.pem"))
	for _, name := range []string{"hubgate.yaml", "ca.pem"} {
		if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, dir, never)
	version("..2", oneHub, fixture(t, "vendor-ca.pem"))
	if c := w.next(t); string(c.Hubs[0].Anchors[0]) != string(ders(t, "vendor-ca.pem")[0]) {
		t.Error("the new anchor is not in force")
	}
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	version("..3", oneHub+"    sni_only: true\n", fixture(t, "vendor-ca.pem"))
	if c := w.next(t); !c.Hubs[0].SNIOnly {
		t.Error("the second swap is not in force")
	}
}

func TestPollFindsWhatNobodyTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "hubgate.yaml", "# one\n")
	w := watch(t, dir, 20*time.Millisecond)
	write(t, dir, "hubgate.yaml", "hubs: [{name: factory}]\n")
	if c := w.next(t); len(c.Hubs) != 1 {
		t.Error("the edited file is not in force")
	}
	time.Sleep(100 * time.Millisecond)
	if len(w.applied) > 0 {
		t.Error("an unchanged file was put in force again")
	}
}

func TestBrokenFileChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "hubgate.yaml", "log: {level: info}\n")
	w := watch(t, dir, 20*time.Millisecond)
	if got := testutil.ToFloat64(w.success); got != 1 {
		t.Errorf("successful = %v at the start", got)
	}
	before := testutil.ToFloat64(w.lastTime)

	write(t, dir, "hubgate.yaml", "log: {level: loud}\nhubs: [{name: factory, trust_anchors: [ca.pem]}]\n")
	w.logged(t, "log.level", 1)
	if got := testutil.ToFloat64(w.success); got != 0 {
		t.Errorf("successful = %v with a broken file", got)
	}
	time.Sleep(100 * time.Millisecond)
	w.logged(t, "configuration not reloaded", 1)
	if n := strings.Count(w.log.String(), "configuration not reloaded"); n != 1 {
		t.Errorf("the same mistake was logged %d times", n)
	}
	w.Reload() // whoever asks gets an answer
	w.logged(t, "configuration not reloaded", 2)

	// The file that was missing is followed as well.
	write(t, dir, "hubgate.yaml", "hubs: [{name: factory, trust_anchors: [ca.pem]}]\n")
	w.logged(t, "configuration not reloaded", 3)
	write(t, dir, "ca.pem", fixture(t, "factory-ca.pem"))
	if c := w.next(t); len(c.Hubs) != 1 {
		t.Error("the mended file is not in force")
	}
	w.logged(t, "configuration reloaded", 1)
	if got := testutil.ToFloat64(w.success); got != 1 {
		t.Errorf("successful = %v with a mended file", got)
	}
	if got := testutil.ToFloat64(w.lastTime); got <= before {
		t.Errorf("the time of the last success went from %v to %v", before, got)
	}
}

func TestApplyIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "hubgate.yaml", "# one\n")
	w := watch(t, dir, 20*time.Millisecond)
	w.mu.Lock()
	w.refuse = provision.ErrUnavailable
	w.mu.Unlock()
	write(t, dir, "hubgate.yaml", "# two\n")
	w.logged(t, "store unavailable", 1)
	w.mu.Lock()
	w.refuse = nil
	w.mu.Unlock()
	w.next(t)
	if n := strings.Count(w.log.String(), "configuration not reloaded"); n != 1 {
		t.Errorf("the failure was logged %d times", n)
	}
}

func TestNeedsRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "hubgate.yaml", "# one\n")
	w := watch(t, dir, never)
	write(t, dir, "hubgate.yaml", "metrics: {listen: 127.0.0.1:9999}\nstore: bolt:other.db\nlog: {level: debug}\n")
	if c := w.next(t); c.Log.Level != slog.LevelDebug {
		t.Error("the log level is not in force")
	}
	w.logged(t, `keys="admin.socket, metrics.listen, store"`, 1)
}

func TestReloadOnRequest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "hubgate.yaml", "# one\n")
	w := watch(t, dir, never)
	w.Reload()
	w.next(t)
}
