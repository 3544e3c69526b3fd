package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

// acceptPause is the pause after the listener failed, for want of file
// descriptors, say.
const acceptPause = 100 * time.Millisecond

// Serve accepts the links of Envoys until the context ends; then it closes
// them, so that each Envoy turns to another replica at once, and returns nil.
// It closes the listener. Run has to run.
func (t *Tracker) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var links sync.WaitGroup
	defer links.Wait()
	slots := make(chan struct{}, t.config.MaxLinks)
	for {
		raw, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = raw.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("session: serve %s: %w", l.Addr(), err)
		case err != nil:
			t.log.WarnContext(ctx, "accepting a link failed, going on", "error", err)
			pause(ctx, acceptPause)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			t.metrics.refused.Inc()
			_ = raw.Close()
			continue
		}
		links.Go(func() {
			defer func() { <-slots }()
			t.serve(ctx, raw)
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// serve is one link from its greeting to its end.
func (t *Tracker) serve(ctx context.Context, raw net.Conn) {
	conn := link.NewConn(raw, greetTimeout)
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	log := t.log.With("address", raw.RemoteAddr().String())
	hello, err := conn.Accept(t.config.Heartbeat)
	if err != nil {
		level := slog.LevelWarn
		if errors.Is(err, io.EOF) || ctx.Err() != nil { // somebody looked whether the port is open
			level = slog.LevelDebug
		}
		log.Log(ctx, level, "link refused", "error", err)
		return
	}
	l := &envoyLink{
		envoy: provision.EnvoyID{Node: hello.Node, Epoch: hello.Epoch}, conn: conn,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		connections: make(map[uint64]*connection), ends: make(map[uint64]*connection),
	}
	log = log.With("node", hello.Node, "epoch", hello.Epoch)
	t.mu.Lock()
	old := t.join(l)
	t.mu.Unlock()
	if old != nil {
		_ = old.conn.Close()
	}
	log.InfoContext(ctx, "Envoy linked", "library", hello.Library)
	t.changes.add(func(ctx context.Context) { _ = t.renew(ctx, l) })

	var writing sync.WaitGroup
	writing.Go(func() { t.write(l) })
	err = t.read(l)
	close(l.done)
	_ = conn.Close()
	writing.Wait()
	t.mu.Lock()
	replaced := l.gone
	t.leave(l)
	t.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		log.InfoContext(ctx, "Envoy's link closed: draining")
	case replaced:
		log.InfoContext(ctx, "Envoy's link was replaced by a newer one")
	default:
		log.WarnContext(ctx, "Envoy's link ended", "error", err)
	}
}

// write sends what there is to send until the link ends.
func (t *Tracker) write(l *envoyLink) {
	for {
		select {
		case <-l.done:
			return
		case <-l.wake:
		}
		t.mu.Lock()
		messages := l.out
		l.out = nil
		if l.pong {
			messages = append(messages, &link.Pong{})
			l.pong = false
		}
		t.mu.Unlock()
		if err := l.conn.Write(messages...); err != nil {
			_ = l.conn.Close() // which ends read, with less to tell
			return
		}
	}
}

// errTooMany ends a link whose Envoy has more connections than may be known.
var errTooMany = errors.New("too many open connections")

// read follows what the Envoy tells until the link ends, and returns why.
func (t *Tracker) read(l *envoyLink) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	for {
		m, err := l.conn.Read()
		if err != nil {
			return err
		}
		if err := t.heard(l, m); err != nil {
			return err
		}
	}
}

// heard takes in one message.
func (t *Tracker) heard(l *envoyLink, m link.Message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.gone {
		return net.ErrClosed
	}
	switch m := m.(type) {
	case *link.Ping:
		l.pong = true
		l.signal()
	case *link.Open:
		return t.heardOpen(l, m)
	case *link.Closed:
		if c := l.connections[m.Connection]; c != nil {
			t.closed(c)
		}
	case *link.Ended:
		c := l.ends[m.Seq]
		delete(l.ends, m.Seq)
		if c != nil {
			t.closed(c) // its Closed has come before, unless it was not there
		}
	case *link.Activity:
		for _, number := range m.Connections {
			if c := l.connections[number]; c != nil {
				t.active(c, t.now())
			}
		}
	case *link.SnapshotBegin:
		l.round++
		l.listing = true
	case *link.SnapshotEnd:
		if !l.listing {
			return fmt.Errorf("%T: %w", m, link.ErrUnexpected)
		}
		l.listing = false
		for _, c := range l.connections {
			if c.opened && c.round < l.round {
				t.closed(c)
			}
		}
		t.sort(l)
	default:
		return fmt.Errorf("%T: %w", m, link.ErrUnexpected)
	}
	return nil
}

func (t *Tracker) heardOpen(l *envoyLink, m *link.Open) error {
	c := l.connections[m.Connection]
	if c != nil && c.told != m.Session && m.Protocol == link.TCP {
		t.closed(c) // an Envoy never uses a number twice; this one is the newer
		c = nil
	}
	if c == nil {
		if t.count >= t.config.MaxConnections {
			t.metrics.refused.Inc()
			return errTooMany
		}
		c = &connection{link: l, number: m.Connection, told: m.Session, http: m.Protocol == link.HTTP, opened: true, heard: t.now()}
		t.add(c)
		if !c.http {
			if err := t.identify(c, m); err != nil {
				// Nothing to judge it by. It was let in by somebody else than us.
				t.log.Warn("connection without a session of ours", "node", l.envoy.Node, "connection", m.Connection, "error", err)
			}
		}
	}
	t.opened(c)
	c.round = l.round
	if !l.listing { // else once the snapshot is complete
		t.want(c)
	}
	return nil
}

// identify finds out whose connection of TCP it is: from the check, if that was
// made here, else from what the Envoy was told by whoever made it.
func (t *Tracker) identify(c *connection, m *link.Open) error {
	hub, err := provision.ParseHubID(m.Hub)
	if err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	device, err := provision.ParseDeviceID(m.Device)
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	s, ok := t.allowed.GetIfPresent(m.Session)
	if ok && s.Hub == hub && s.Device == device {
		t.allowed.Invalidate(m.Session)
		c.detailed = true
	} else {
		id, err := uuid.Parse(m.Session)
		if err != nil {
			id = uuid.Must(uuid.NewV7())
		}
		s = provision.Session{ID: id.String(), Hub: hub, Device: device, Protocol: provision.TCP, Since: minted(id, t.now())}
		s.LastActivity = s.Since
	}
	s.Envoy, s.Connection, s.Confirmed = c.link.envoy, c.number, true
	t.bind(c, s)
	t.held[c] = struct{}{}
	return nil
}

// minted is when a session's ID was made, which was at its check: the ID is a
// UUIDv7, which holds the time.
func minted(id uuid.UUID, otherwise time.Time) time.Time {
	if id.Version() != 7 {
		return otherwise
	}
	return time.Unix(id.Time().UnixTime())
}

// closed takes in that a connection is closed, whoever closed it. The lock is
// held.
func (t *Tracker) closed(c *connection) {
	if c.gone {
		return
	}
	t.take(c)
	if c.session.ID == "" {
		return
	}
	if c.ending != "" && c.link != nil {
		t.metrics.ended.WithLabelValues(string(c.ending)).Inc()
		c.ended = t.now()
		t.metrics.took.Observe(c.ended.Sub(c.ordered).Seconds())
	}
	c.remove = true
	t.want(c)
	t.anew(c.session.Device)
}
