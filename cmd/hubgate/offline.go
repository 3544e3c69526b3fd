package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
)

// offlineTimeout bounds the loading of hubs.
const offlineTimeout = 30 * time.Second

// openOffline does in this process what a serving hubgate would do: the same
// API on the store that nobody serves. If the store may lack, and does, there
// are the hubs of the configuration and no devices.
func openOffline(ctx context.Context, c *config.Config, need presence) (*client, error) {
	quiet := slog.New(slog.DiscardHandler)
	s := &store{storeMethods: noDevices{}, run: idle, close: func() error { return nil }}
	err := checkStore(c)
	switch {
	case err == nil:
		if s, err = openStore(ctx, c, "hubgate --offline", quiet); err != nil {
			if errors.Is(err, boltstore.ErrInUse) {
				err = fmt.Errorf("%w: leave --offline out", err)
			}
			return nil, err
		}
	case need == mustExist:
		return nil, err
	}
	o, err := newOffline(c, s, quiet)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := o.start(ctx, c.Hubs); err != nil {
		return nil, errors.Join(err, o.stop())
	}
	return newClient(o.listener.dial, o.stop), nil
}

// offline is a hubgate within a command.
type offline struct {
	store    *store
	gate     *provision.Gate
	hubs     *offlineHubs
	admin    *admin.Server
	listener *pipeListener
	group    errgroup.Group
	end      context.CancelFunc
}

func newOffline(c *config.Config, s *store, log *slog.Logger) (*offline, error) {
	gate, err := provision.NewGate(provision.GateConfig{Store: readOnly{s}, Domain: c.Domain, Logger: log})
	if err != nil {
		return nil, err
	}
	o := &offline{store: s, gate: gate, hubs: &offlineHubs{Gate: gate}, listener: newPipeListener(), end: func() {}}
	administration, err := fleet.New(fleet.Config{Gate: o.hubs, Store: s, Logger: log})
	if err != nil {
		return nil, err
	}
	tokens, err := access.NewTokens(access.TokensConfig{Store: s, Keyring: access.NewKeyring(s, nil), Logger: log})
	if err != nil {
		return nil, err
	}
	o.admin, err = admin.New(admin.Config{Gate: o.hubs, Store: s, Fleet: administration, Backup: s.backup, Tokens: tokens, Logger: log})
	return o, err
}

func (o *offline) start(ctx context.Context, hubs []provision.Hub) error {
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	o.end = end
	o.group.Go(func() error { return o.store.run(background) })
	o.group.Go(func() error { return o.gate.Run(background) })
	o.group.Go(func() error { return o.admin.Serve(background, o.listener) })
	ctx, cancel := context.WithTimeout(ctx, offlineTimeout)
	defer cancel()
	if err := o.gate.Declare(ctx, hubs); err != nil {
		return err
	}
	for err := o.gate.Ready(); err != nil; err = o.gate.Ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the store is not ready: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
	return o.hubs.load(ctx, o.store)
}

func (o *offline) stop() error {
	o.end()
	_ = o.group.Wait() // that it was ended
	return o.store.close()
}

// offlineHubs are the hubs of the configuration and those of the store that no
// configuration was given for: their devices are there all the same.
type offlineHubs struct {
	*provision.Gate
	others []provision.Hub
}

func (o *offlineHubs) load(ctx context.Context, s *store) error {
	for p := range s.Partitions() {
		hubs, err := s.Hubs(ctx, p)
		if err != nil {
			return err
		}
		for _, h := range hubs {
			if _, ok := o.Gate.Hub(h.ID.String()); !ok {
				o.others = append(o.others, *h.Hub)
			}
		}
	}
	return nil
}

// Hubs implements admin.Gate.
func (o *offlineHubs) Hubs() []provision.Hub { return append(o.Gate.Hubs(), o.others...) }

// Hub implements admin.Gate.
func (o *offlineHubs) Hub(idOrName string) (provision.Hub, bool) {
	if h, ok := o.Gate.Hub(idOrName); ok {
		return h, true
	}
	for _, h := range o.others {
		if strings.EqualFold(h.Name, idOrName) || strings.EqualFold(h.ID.String(), idOrName) {
			return h, true
		}
	}
	return provision.Hub{}, false
}

// readOnly keeps a Gate that only explains from claiming the hubs of a
// configuration that may be a draft.
type readOnly struct{ provision.Store }

// ClaimHub implements provision.Store.
func (readOnly) ClaimHub(context.Context, provision.Hub) error { return nil }

// pipeListener accepts connections from within the process.
type pipeListener struct {
	connections chan net.Conn
	closed      chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{connections: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.connections <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. http.Server calls it once.
func (l *pipeListener) Close() error {
	close(l.closed)
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
