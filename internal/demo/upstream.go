package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// backend is an HTTP application behind Envoy. It believes the headers that
// hubgate sets and repeats them.
type backend struct {
	address string
	server  *http.Server
	ended   chan error
}

func startBackend(ctx context.Context) (*backend, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the HTTP backend: %w", err)
	}
	b := &backend{
		address: listener.Addr().String(),
		server:  &http.Server{Handler: http.HandlerFunc(hello), ReadHeaderTimeout: time.Minute},
		ended:   make(chan error, 1),
	}
	go func() { b.ended <- b.server.Serve(listener) }()
	return b, nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	h := r.Header
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, greeting(h.Get("x-device-name"), h.Get("x-device-id"), h.Get("x-hub-id")))
}

// greeting is the backend's answer to a device.
func greeting(name, device, hub string) string {
	return fmt.Sprintf("hello %s, you are device %s of hub %s\n", name, device, hub)
}

func (b *backend) stop() error {
	err := b.server.Close()
	if ended := <-b.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// broker is an MQTT broker behind Envoy. It lets everybody in: who reaches it
// has passed hubgate. It remembers who they were said to be.
type broker struct {
	address string
	server  *mochi.Server
	seen    *guests
}

// client is who a CONNECT says somebody is.
type client struct{ user, id string }

func (b *broker) knows(c client) bool {
	b.seen.mu.Lock()
	defer b.seen.mu.Unlock()
	_, ok := b.seen.clients[c]
	return ok
}

func startBroker(ctx context.Context) (*broker, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the MQTT broker: %w", err)
	}
	b := &broker{
		address: listener.Addr().String(),
		server:  mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)}),
		seen:    &guests{clients: make(map[client]struct{})},
	}
	err = b.server.AddHook(b.seen, nil)
	if err == nil {
		err = b.server.AddListener(listeners.NewNet("demo", listener))
	}
	if err == nil {
		err = b.server.Serve()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the MQTT broker: %w", err), listener.Close())
	}
	return b, nil
}

// guests is the broker's access control, which is none, and its list of who
// came.
type guests struct {
	mochi.HookBase
	mu      sync.Mutex
	clients map[client]struct{}
}

// ID implements mochi.Hook.
func (*guests) ID() string { return "guests" }

// Provides implements mochi.Hook.
func (*guests) Provides(method byte) bool {
	return method == mochi.OnConnectAuthenticate || method == mochi.OnACLCheck
}

// OnConnectAuthenticate implements mochi.Hook.
func (g *guests) OnConnectAuthenticate(_ *mochi.Client, p packets.Packet) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients[client{user: string(p.Connect.Username), id: p.Connect.ClientIdentifier}] = struct{}{}
	return true
}

// OnACLCheck implements mochi.Hook.
func (*guests) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func (b *broker) stop() error { return b.server.Close() }
