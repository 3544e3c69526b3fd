package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
)

// rig is an API on a real store and a real gate with the hubs a and b.
type rig struct {
	t      testing.TB
	url    string
	store  *boltstore.Store
	gate   *provision.Gate
	server *Server
	tokens *access.Tokens
	keys   *access.Keyring
	lines  map[string]*pki.Authority // by hub: who signs its devices
	stop   func()
}

// retention is how many events the rig's store keeps of a partition.
const retention = 20

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	store, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db"), Retention: retention})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	gate, err := provision.NewGate(provision.GateConfig{Store: store, Domain: "iot.example.com", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	administration, err := fleet.New(fleet.Config{Gate: gate, Store: store, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	keys := access.NewKeyring(store, nil)
	tokens, err := access.NewTokens(access.TokensConfig{Store: store, Keyring: keys, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Gate: gate, Store: store, Fleet: administration, Backup: store, Tokens: tokens, Logger: log, Poll: 5 * time.Millisecond,
		About: About{Version: "1.0.0", Domain: "iot.example.com", Region: "fr-par"},
	}
	if change != nil {
		change(&c)
	}
	server, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, url: "http://" + listener.Addr().String(), store: store, gate: gate, server: server,
		tokens: tokens, keys: keys, lines: map[string]*pki.Authority{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	go func() { ended <- store.Run(ctx) }()
	go func() { ended <- gate.Run(ctx) }()
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- server.Serve(serving, listener) }()
	r.stop = func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		served <- nil
	}
	t.Cleanup(func() {
		r.stop()
		cancel()
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	var hubs []provision.Hub
	for _, name := range []string{"a", "b"} {
		root, err := pki.NewRoot("root " + name)
		if err != nil {
			t.Fatal(err)
		}
		r.lines[name] = root
		hubs = append(hubs, provision.Hub{
			ID: provision.DeclaredHubID(name), Name: name, Declared: "hubgate.yaml", AutoProvisioning: true,
			Anchors: [][]byte{root.Certificate.Raw},
		})
	}
	if err := gate.Declare(t.Context(), hubs); err != nil {
		t.Fatal(err)
	}
	return r
}

// connect has a device of the hub connect.
func (r *rig) connect(hub, name string) {
	r.t.Helper()
	leaf, err := r.lines[hub].Leaf(name)
	if err != nil {
		r.t.Fatal(err)
	}
	d := r.gate.Admit(r.t.Context(), provision.Connection{
		Protocol: provision.TCP, TLS: true, Leaf: leaf.Certificate.Raw, Source: netip.MustParseAddr("192.0.2.7"),
	})
	if !d.Allowed() {
		r.t.Fatalf("%s: %s (%s)", name, d.Reason, d.Detail)
	}
}

// chain is the PEM of a fresh device of the hub.
func (r *rig) chain(hub, name string) string {
	r.t.Helper()
	leaf, err := r.lines[hub].Leaf(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(pki.EncodeCertificates(leaf.Certificate))
}

func (r *rig) do(method, path, body string) (int, string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	return r.send(request, body)
}

// send sends a request, which has that body.
func (r *rig) send(request *http.Request, body string) (int, string) {
	r.t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	r.hold(request, body, response, string(text))
	return response.StatusCode, string(text)
}

// get demands success and decodes the answer.
func (r *rig) get(path string, into any) {
	r.t.Helper()
	status, text := r.do("GET", path, "")
	if status != http.StatusOK {
		r.t.Fatalf("GET %s: %d %s", path, status, text)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		r.t.Fatal(err)
	}
}
