package crl

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// rota is turns with hubs and a clock.
type rota struct {
	turns

	t    *testing.T
	hubs []provision.Hub
	now  time.Time
}

func newRota(t *testing.T) *rota {
	return &rota{t: t, turns: turns{hubs: make(map[provision.HubID]*turn)}, now: time.Unix(1e9, 0)}
}

// add adds hubs with sources.
func (r *rota) add(sources int, names ...string) {
	for _, name := range names {
		h := provision.Hub{ID: provision.DeclaredHubID(name), Name: name}
		for i := range sources {
			h.CRLSources = append(h.CRLSources, fmt.Sprint("source-", i))
		}
		r.hubs = append(r.hubs, h)
	}
	r.keep(r.hubs)
}

// start begins all that there is room for, and says of which hubs.
func (r *rota) start() (all []work, names []string) {
	for w, ok := r.begin(r.hubs, r.now); ok; w, ok = r.begin(r.hubs, r.now) {
		all, names = append(all, w), append(names, w.hub.Name)
	}
	return all, names
}

// finish ends readings, each of which is to be repeated after a second.
func (r *rota) finish(failure string, all ...work) {
	for _, w := range all {
		if s := r.end(w); s != nil {
			s.failure, s.next = failure, r.now.Add(time.Second)
		}
	}
}

func (r *rota) want(names []string, want ...string) {
	r.t.Helper()
	if !slices.Equal(names, want) {
		r.t.Errorf("read for %v, want %v", names, want)
	}
}

// TestHubsTakeTurns: however many sources a hub has, one is read at a time, and
// whoever had a turn is behind those who wait.
func TestHubsTakeTurns(t *testing.T) {
	t.Parallel()
	r := newRota(t)
	r.add(32, "a", "b")
	all, names := r.start()
	r.want(names, "a", "b")
	r.add(1, "c", "d", "e", "f")
	more, names := r.start()
	r.want(names, "c", "d") // all readers
	r.finish("", all[0])
	_, names = r.start()
	r.want(names, "e") // rather than a again
	r.finish("", all[1], more[0], more[1])
	_, names = r.start()
	r.want(names, "f", "a", "b")
}

// TestSourcesTakeTurns: a hub's sources are all read, those that wait the longest
// first, and none before its time.
func TestSourcesTakeTurns(t *testing.T) {
	t.Parallel()
	r := newRota(t)
	r.add(3, "a")
	var read []string
	for range 3 {
		all, names := r.start()
		r.want(names, "a")
		read = append(read, all[0].source)
		r.now = r.now.Add(100 * time.Millisecond)
		r.finish("", all...)
	}
	if _, names := r.start(); names != nil {
		t.Errorf("read before its time for %v", names)
	}
	for r.now = r.now.Add(time.Hour); len(read) < 6; {
		all, _ := r.start()
		read = append(read, all[0].source)
		r.finish("", all...)
	}
	if !slices.Equal(read[:3], read[3:]) {
		t.Errorf("in the order %v", read)
	}
}

// TestFailuresLeaveRoom: of however many hubs, sources that failed have half of
// the readers at most.
func TestFailuresLeaveRoom(t *testing.T) {
	t.Parallel()
	r := newRota(t)
	for i := range 3 * readers {
		r.add(2, fmt.Sprint("failing-", i))
	}
	for range 6 * readers / doubters { // until all have failed
		all, _ := r.start()
		r.finish("no answer", all...)
	}
	r.now = r.now.Add(time.Minute)
	failing, names := r.start()
	if len(names) != doubters {
		t.Errorf("read for %v, want %d", names, doubters)
	}
	r.add(1, "new", "newer", "newest")
	all, names := r.start()
	r.want(names, "new", "newer")
	r.finish("", all...)
	r.finish("no answer", failing...)
	_, names = r.start()
	if len(names) != doubters+1 || !slices.Contains(names, "newest") {
		t.Errorf("read for %v, want newest and %d of those that fail", names, doubters)
	}
}

// TestHubsGo: what is gone is forgotten, also while it is read.
func TestHubsGo(t *testing.T) {
	t.Parallel()
	r := newRota(t)
	r.add(2, "a", "b")
	all, _ := r.start()
	r.finish("", all[0])
	r.hubs = nil
	r.keep(r.hubs)
	if s := r.end(all[1]); s != nil {
		t.Errorf("it is still a source: %+v", s)
	}
	r.keep(r.hubs)
	if len(r.turns.hubs) != 0 || r.reading != 0 {
		t.Errorf("left: %+v", r.turns)
	}
}

// TestSilentSources: owners of many hubs whose sources never answer keep no other
// hub's lists from being read, nor from being watched.
func TestSilentSources(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	p := new(publisher)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	s := newSite(t, loopback)
	p.publish(http.StatusOK, must(s.root.CRL(1, nil)))
	for i := range readers + 2 {
		h := provision.Hub{ID: provision.NewHubID(), Name: fmt.Sprint("silent-", i), Anchors: [][]byte{s.root.Certificate.Raw}}
		for n := range 32 {
			h.CRLSources = append(h.CRLSources, fmt.Sprintf("%s/%d", silent.URL, n))
		}
		must(s.store.CreateHub(t.Context(), h, provision.Created.OnHub(h, time.Now())))
	}
	s.eventually("all readers wait", func() bool { return asked.Load() >= readers })
	hub := s.stored(server.URL)
	s.eventually("another hub's list is in force", func() bool { return s.number(hub) == 1 })
	s.ahead.Store(int64(48 * time.Hour))
	s.eventually("that it is overdue is told of", func() bool { return s.events(hub, provision.ReasonCRLOverdue) == 1 })
}

// TestASourceThatDoesNotEnd: that a list was not had in time is told of.
func TestASourceThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	s := newSite(t, loopback)
	f := must(New(Config{Gate: s.gate, Store: s.store, Networks: loopback, Logger: slog.New(slog.DiscardHandler)}))
	f.timeout = 20 * time.Millisecond
	hub := s.stored(server.URL)
	f.keep([]provision.Hub{hub})
	w, ok := f.begin([]provision.Hub{hub})
	if !ok {
		t.Fatal("there is nothing to read")
	}
	f.fetch(t.Context(), w)
	if n := s.events(hub, provision.ReasonCRLUnavailable); n != 1 {
		t.Errorf("%d events", n)
	}
}
