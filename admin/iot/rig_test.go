package iot_test

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	sdk "github.com/scaleway/scaleway-sdk-go/api/iot/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/admin/iot"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

const (
	domain = "iot.example.com"
	region = "fr-par"
	// patience bounds each step: many servers share few cores.
	patience = 30 * time.Second
)

// store is all that hubgate needs of one.
type store interface {
	provision.Store
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Announcer
	provision.Sessions
	provision.Claims
}

// stores are both kinds.
var stores = map[string]func(*testing.T) store{"bolt": openBolt, "redis": openRedis}

func openBolt(t *testing.T) store {
	t.Helper()
	s := must(boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")}))(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openRedis(t *testing.T) store {
	t.Helper()
	s := must(redisstore.Open(t.Context(), redisstore.Config{URL: redistest.Start(t).URL(), Timeout: 10 * time.Second}))(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Who asks.
var (
	admin    = access.Principal{Name: "admin", Role: access.Admin}
	operator = access.Principal{Name: "operator", Role: access.Operator}
	viewer   = access.Principal{Name: "viewer", Role: access.Viewer}
	tenant   = access.Principal{Name: "tenant", Role: access.Admin, Project: uuid.New()}
	stranger = access.Principal{Name: "stranger", Role: access.Admin, Project: uuid.New()}
)

// world is a hubgate's IoT API on one store.
type world struct {
	store  store
	gate   *provision.Gate
	fleet  *fleet.Fleet
	url    string
	tokens sync.Map // to principals
}

func newWorld(t *testing.T, s store) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	gate := must(provision.NewGate(provision.GateConfig{Store: s, Domain: domain, Logger: log}))(t)
	fleet := must(fleet.New(fleet.Config{Gate: gate, Store: s, Logger: log}))(t)
	api := must(iot.New(iot.Config{Fleet: fleet, Gate: gate, Store: s, Domain: domain, Region: region, Logger: log}))(t)
	background(t, gate.Run)
	background(t, fleet.Run)
	eventually(t, "the gate is ready", gate.Ready)
	w := &world{store: s, gate: gate, fleet: fleet}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p, ok := w.tokens.Load(r.Header.Get("X-Auth-Token"))
		if !ok {
			iot.Fail(rw, r, http.StatusUnauthorized, "unauthorized", "there is no such token")
			return
		}
		api.ServeHTTP(rw, r.WithContext(access.With(r.Context(), p.(access.Principal))))
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// as is a client of that principal.
func (w *world) as(t *testing.T, p access.Principal) *client {
	t.Helper()
	secret := uuid.NewString()
	w.tokens.Store(secret, p)
	return w.client(t, secret)
}

// client is the SDK's, with the status of its last answer.
type client struct {
	*sdk.API
	secret string
	status int
}

func (w *world) client(t *testing.T, secret string) *client {
	t.Helper()
	c := &client{secret: secret}
	c.API = sdk.NewAPI(must(scw.NewClient(
		scw.WithAPIURL(w.url), scw.WithAuth("SCWXXXXXXXXXXXXXXXXX", secret), scw.WithDefaultRegion(region), scw.WithHTTPClient(&http.Client{Transport: c}),
	))(t))
	return c
}

// RoundTrip remembers the status.
func (c *client) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		c.status = response.StatusCode
	}
	return response, err
}

func newName() string { return "hub-" + uuid.NewString()[:8] }

// challenge is the proof of having a CA's key.
func challenge(t *testing.T, ca *pki.Authority, hub string, options ...pki.Option) string {
	t.Helper()
	leaf := must(ca.Leaf(hub, append([]pki.Option{pki.WithValidity(time.Now().Add(-time.Minute), time.Now().Add(time.Hour))}, options...)...))(t)
	return encode(leaf.Certificate)
}

func encode(certs ...*x509.Certificate) string { return string(pki.EncodeCertificates(certs...)) }

// background runs something until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// must takes a result whose error ends the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventually waits for what happens in its own time.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < patience; time.Sleep(5 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, patience, err)
}
