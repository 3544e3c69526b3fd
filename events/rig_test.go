package events_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/events"
	"github.com/hubgate/hubgate/internal/process"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/storetest"
)

// patience bounds every step: many servers share few cores.
const patience = 60 * time.Second

// soak is whether there is time for long loops.
var soak = os.Getenv("HUBGATE_SOAK") == "1"

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// openBolt opens an embedded store that lives as long as the test.
func openBolt(t *testing.T, c boltstore.Config) *boltstore.Store {
	t.Helper()
	if c.Path == "" {
		c.Path = filepath.Join(t.TempDir(), "hubgate.db")
	}
	s := must(boltstore.Open(c))(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// running are relays that run.
type running struct {
	*events.Relays
	t    *testing.T
	reg  *prometheus.Registry
	log  *buffer
	stop func()
}

// relay runs relays until the test ends.
func relay(t *testing.T, store events.Store, edit func(*events.Config), sinks ...events.Sink) *running {
	t.Helper()
	r := &running{t: t, reg: prometheus.NewRegistry(), log: &buffer{}}
	c := events.Config{Store: store, Sinks: sinks, Poll: 10 * time.Millisecond, Registerer: r.reg,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if edit != nil {
		edit(&c)
	}
	r.Relays = must(events.New(c))(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("what relays logged:\n%s", r.log)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// metric is the value of a series of a sink.
func (r *running) metric(name, sink string) float64 {
	r.t.Helper()
	for _, family := range must(r.reg.Gather())(r.t) {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == sink {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	r.t.Fatalf("no metric %s of %s", name, sink)
	return 0
}

// buffer can be written and read by many.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// source makes events of a hub of its own, numbered in their order.
type source struct {
	t     *testing.T
	store events.Store
	hub   provision.Hub
	made  int
}

func newSource(t *testing.T, store events.Store) *source {
	return &source{t: t, store: store, hub: storetest.NewHub()}
}

// make appends n events.
func (s *source) make(n int, edit ...func(*provision.Event)) {
	s.t.Helper()
	for range n {
		s.made++
		e := storetest.HubEvent(s.hub, fmt.Sprint(s.made))
		for _, f := range edit {
			f(&e)
		}
		p := s.hub.ID.Partition(s.store.Partitions())
		if err := s.store.AppendEvents(s.t.Context(), p, []provision.Event{e}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// inbox is what somebody received, in order.
type inbox struct {
	mu     sync.Mutex
	events []provision.Event
	topics []string
}

func (b *inbox) put(e provision.Event, topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
	b.topics = append(b.topics, topic)
}

// of are the events of a hub, each once, in the order in which they first came.
func (b *inbox) of(hub provision.HubID) []provision.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[string]bool{}
	var all []provision.Event
	for _, e := range b.events {
		if e.Hub == hub && !seen[e.ID] {
			seen[e.ID] = true
			all = append(all, e)
		}
	}
	return all
}

// has waits until all that the source made is there, in order.
func (b *inbox) has(s *source) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d events", s.made), func() bool { return len(b.of(s.hub.ID)) >= s.made })
	for i, e := range b.of(s.hub.ID) {
		if e.Message != fmt.Sprint(i+1) {
			s.t.Fatalf("event %d is %q", i+1, e.Message)
		}
	}
}

// receiver is a webhook.
type receiver struct {
	inbox
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request, e provision.Event) bool // true: it has answered

	mu       sync.Mutex
	requests []*http.Request
	bodies   [][]byte
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewUnstartedServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var c cloudevents.Event
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	var e provision.Event
	if err == nil {
		err = json.Unmarshal(c.Data(), &e)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.mu.Lock()
	r.requests, r.bodies = append(r.requests, request), append(r.bodies, body)
	answer := r.answer
	r.mu.Unlock()
	if answer != nil && answer(w, request, e) {
		return
	}
	r.put(e, "")
}

func (r *receiver) set(answer func(http.ResponseWriter, *http.Request, provision.Event) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) sink(t *testing.T, label string, edit ...func(*events.WebhookConfig)) events.Sink {
	t.Helper()
	if r.URL == "" {
		r.Start()
	}
	c := events.WebhookConfig{Label: label, URL: r.URL + "/hook"}
	for _, f := range edit {
		f(&c)
	}
	return must(events.NewWebhook(c))(t)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// broker is a mosquitto.
type broker struct {
	t      *testing.T
	port   int
	config string
	proc   *process.Process
}

// startBroker starts a mosquitto with these lines of configuration after its
// listener's.
func startBroker(t *testing.T, config ...string) *broker {
	t.Helper()
	self := must(user.Current())(t)
	b := &broker{t: t, port: must(process.FreePorts(1))(t)[0]}
	// Started by root, it would change to a user that cannot read the files.
	lines := append([]string{fmt.Sprintf("listener %d 127.0.0.1", b.port)}, config...)
	lines = append(lines, "persistence false", "user "+self.Username, "log_dest stdout", "log_type error", "log_type warning", "log_type notice")
	b.config = write(t, "mosquitto.conf", strings.Join(lines, "\n")+"\n")
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil { // Debian installs it where users' PATH does not lead
		path = must(exec.LookPath("/usr/sbin/mosquitto"))(b.t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b.proc = must(process.Start(ctx, process.Spec{
		Name: "mosquitto", Path: path, Args: []string{"-c", b.config}, Ready: process.Accepts(b.address()),
	}))(b.t)
}

func (b *broker) kill() {
	if b.proc == nil {
		return
	}
	b.proc.Kill()
	if b.t.Failed() {
		text := b.proc.Output()
		b.t.Logf("the end of what mosquitto wrote:\n%s", text[max(0, len(text)-4<<10):])
	}
	b.proc = nil
}

func (b *broker) address() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

func messagesOf(all []provision.Event) []string {
	texts := make([]string, len(all))
	for i, e := range all {
		texts[i] = e.Message
	}
	return texts
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}
