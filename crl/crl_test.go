package crl

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/trust"
)

// must is for what cannot fail unless the test is a mistake.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// site is a fetcher on an embedded store.
type site struct {
	t       *testing.T
	gate    *provision.Gate
	store   *boltstore.Store
	fetcher *Fetcher
	reg     *prometheus.Registry
	root    *pki.Authority
	ahead   atomic.Int64 // of the fetcher's clock
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func newSite(t *testing.T, networks []netip.Prefix) *site {
	t.Helper()
	s := &site{t: t, reg: prometheus.NewRegistry(), root: must(pki.NewRoot("Acme Root"))}
	s.store = must(boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")}))
	quiet := slog.New(slog.DiscardHandler)
	s.gate = must(provision.NewGate(provision.GateConfig{Store: s.store, Logger: quiet}))
	s.fetcher = must(New(Config{
		Gate: s.gate, Store: s.store, Refresh: time.Second, Networks: networks, Logger: quiet, Registerer: s.reg,
		Now: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.store.Run(ctx) })
	running.Go(func() { _ = s.gate.Run(ctx) })
	running.Go(func() { _ = s.fetcher.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not so: %s", what)
		}
	}
}

// stored makes a stored hub whose lists come from there.
func (s *site) stored(sources ...string) provision.Hub {
	s.t.Helper()
	h := provision.Hub{ID: provision.NewHubID(), Name: "factory", Anchors: [][]byte{s.root.Certificate.Raw}, CRLSources: sources}
	return must(s.store.CreateHub(s.t.Context(), h, provision.Created.OnHub(h, time.Now())))
}

// declared makes a declared one.
func (s *site) declared(sources ...string) provision.Hub {
	s.t.Helper()
	h := provision.Hub{
		ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "hubgate.yaml",
		Anchors: [][]byte{s.root.Certificate.Raw}, CRLSources: sources,
	}
	if err := s.gate.Declare(s.t.Context(), []provision.Hub{h}); err != nil {
		s.t.Fatal(err)
	}
	return h
}

// number is that of the list in force, 0 if there is none.
func (s *site) number(hub provision.Hub) int64 {
	c, there := must(s.store.Revocations(s.t.Context(), hub.ID)).CRLs[trust.KeyHashOf(s.root.Certificate)]
	if !there {
		return 0
	}
	return c.Number.Int64()
}

// events counts the hub's events of a reason.
func (s *site) events(hub provision.Hub, reason string) (n int) {
	for _, e := range must(s.store.Events(s.t.Context(), hub.ID.Partition(s.store.Partitions()), 0, 1000)) {
		if e.Event.Hub == hub.ID && e.Event.Reason == reason {
			n++
		}
	}
	return n
}

func (s *site) fetches(result string) float64 {
	return testutil.ToFloat64(s.fetcher.fetched.WithLabelValues(result))
}

// publisher serves a list that can be replaced.
type publisher struct {
	mu     sync.Mutex
	list   []byte
	status int
}

func (p *publisher) publish(status int, list []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status, p.list = status, list
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.URL.Path == "/moved" {
		http.Redirect(w, r, "/line.crl", http.StatusFound)
		return
	}
	if r.URL.Path == "/round" {
		http.Redirect(w, r, "/round", http.StatusFound)
		return
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.list)
}

func TestListsAreGotAndReloaded(t *testing.T) {
	t.Parallel()
	p := new(publisher)
	server := httptest.NewServer(p)
	defer server.Close()
	for name, path := range map[string]string{"an address": "/line.crl", "an address that moved": "/moved"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, loopback)
			leaf := must(s.root.Leaf("SN-1")).Certificate
			p.publish(http.StatusOK, must(s.root.CRL(1, nil)))
			hub := s.stored(server.URL + path)
			s.eventually("list 1 is in force", func() bool { return s.number(hub) == 1 })
			p.publish(http.StatusOK, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: must(s.root.CRL(2, []*x509.Certificate{leaf}))}))
			s.eventually("list 2 is in force", func() bool { return s.number(hub) == 2 })
			s.eventually("it is told of", func() bool { return s.events(hub, string(provision.CRLAdded)) == 2 })

			// An old list, a broken one, a failure: told of once each, and list 2
			// stays.
			for i, bad := range []func(){
				func() { p.publish(http.StatusOK, must(s.root.CRL(1, nil))) },
				func() { p.publish(http.StatusOK, []byte("<html>")) },
				func() { p.publish(http.StatusNotFound, nil) },
			} {
				failed := s.fetches("failed")
				bad()
				s.eventually("it fails twice", func() bool { return s.fetches("failed") >= failed+2 })
				if n := s.events(hub, provision.ReasonCRLUnavailable); n != i+1 {
					t.Errorf("%d events of failures, want %d", n, i+1)
				}
			}
			if n := s.number(hub); n != 2 {
				t.Errorf("list %d is in force", n)
			}
			p.publish(http.StatusOK, must(s.root.CRL(3, nil)))
			s.eventually("list 3 is in force", func() bool { return s.number(hub) == 3 })
		})
	}
}

func TestAFileIsReloaded(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	file := filepath.Join(t.TempDir(), "line.crl")
	hub := s.declared(file)
	s.eventually("that it is missing is told of", func() bool { return s.events(hub, provision.ReasonCRLUnavailable) == 1 })
	write := func(list []byte) {
		if err := os.WriteFile(file, list, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(must(s.root.CRL(1, nil)))
	s.eventually("list 1 is in force", func() bool { return s.number(hub) == 1 })
	write(must(s.root.CRL(2, nil)))
	s.eventually("list 2 is in force", func() bool { return s.number(hub) == 2 })
	s.ahead.Store(int64(48 * time.Hour))
	s.eventually("that it is overdue is told of", func() bool { return s.events(hub, provision.ReasonCRLOverdue) == 1 })
	if n := testutil.CollectAndCount(s.fetcher.due, "hubgate_crl_next_update_timestamp_seconds"); n != 1 {
		t.Errorf("%d lists are measured, want 1", n)
	}
}

// TestGuard: what an administrator of a hub may have hubgate connect to.
func TestGuard(t *testing.T) {
	t.Parallel()
	p := new(publisher)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	ca := must(pki.NewRoot("Acme Root"))
	p.publish(http.StatusOK, must(ca.CRL(1, nil)))
	file := filepath.Join(t.TempDir(), "line.crl")
	if err := os.WriteFile(file, must(ca.CRL(1, nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		source   string
		networks []netip.Prefix
		trusted  bool
		want     string // of the error, "" if there is none
	}{
		"an address of this machine":        {server.URL, nil, false, "not a public address"},
		"by name":                           {strings.Replace(server.URL, "127.0.0.1", "localhost", 1), nil, false, "not a public address"},
		"that is allowed":                   {server.URL, loopback, false, ""},
		"of a declared hub":                 {server.URL, nil, true, ""},
		"a cloud's metadata":                {"http://169.254.169.254/latest/meta-data", nil, false, "not a public address"},
		"a private one":                     {"http://10.0.0.1/", loopback, false, "not a public address"},
		"IPv4 in IPv6":                      {"http://[::ffff:127.0.0.1]:1/", nil, false, "not a public address"},
		"round and round":                   {server.URL + "/round", loopback, false, "more than 3 times"},
		"a file of a stored hub":            {file, loopback, false, "is no address"},
		"a file of a stored hub by its URL": {"file://" + file, loopback, false, "is no address"},
		"a file of a declared hub":          {file, nil, true, ""},
		"a file that is missing":            {file + ".new", nil, true, "no such file"},
		"a file without an end":             {"/dev/zero", nil, true, "more than"},
		"a directory":                       {filepath.Dir(file), nil, true, "directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			data, err := newReader(c.networks).read(ctx, c.source, c.trusted)
			switch {
			case c.want == "" && (err != nil || len(data) == 0):
				t.Errorf("%d bytes, %v", len(data), err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestPause is when a source is asked again.
func TestPause(t *testing.T) {
	t.Parallel()
	f := must(New(Config{Gate: new(provision.Gate), Store: new(boltstore.Store), Refresh: time.Hour}))
	list := func(left time.Duration) *trust.CRL { return &trust.CRL{NextUpdate: time.Now().Add(left)} }
	for name, c := range map[string]struct {
		list *trust.CRL
		err  error
		most time.Duration
	}{
		"a list for long":        {list(48 * time.Hour), nil, time.Hour},
		"a list for an hour":     {list(time.Hour), nil, 30 * time.Minute},
		"a list about to be due": {list(time.Second), nil, soonest},
		"a list that is overdue": {list(-time.Hour), nil, soonest},
		"a source that failed":   {nil, context.DeadlineExceeded, retryAfter},
	} {
		for range 100 {
			if p := f.pause(c.list, c.err); p > c.most || p < c.most*7/8-time.Second {
				t.Errorf("%s: %s, want at most %s and little less", name, p, c.most)
			}
		}
	}
}
