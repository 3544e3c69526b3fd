package session

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// place is where a connection is.
type place struct {
	envoy  provision.EnvoyID
	number uint64
}

// distant is the session of an HTTP connection whose Envoy is linked to another
// replica, if to any.
type distant struct {
	session provision.Session
	told    atomic.Int64 // when it was last announced, Unix nanoseconds
}

// Allowed implements provision.Tracker. A connection of TCP is checked once; of
// one of HTTP each request is, and the first makes its session. HTTP without
// the library cannot be followed: nobody would say when it is closed.
func (t *Tracker) Allowed(_ context.Context, s provision.Session) string {
	if s.Protocol != provision.HTTP {
		t.allowedTCP(s)
		return s.ID
	}
	if s.Envoy.Epoch == "" || s.Connection == 0 {
		return ""
	}
	// The connection is open: it has just sent a request.
	s.Confirmed = true
	if id, here := t.allowedHere(s); here {
		return id
	}
	return t.allowedAfar(s)
}

// allowedTCP keeps what the Envoy will not tell again when it tells that the
// connection is open, in memory or, if it will tell another replica, for that.
func (t *Tracker) allowedTCP(s provision.Session) {
	t.allowed.Set(s.ID, s)
	t.mu.Lock()
	_, here := t.links[s.Envoy]
	t.mu.Unlock()
	if here {
		return
	}
	t.behind(func(ctx context.Context) {
		t.mu.Lock()
		opened := t.find(s) != nil
		t.mu.Unlock()
		if opened {
			return
		}
		ctx, cancel := call(ctx)
		defer cancel()
		// Whatever comes of it, the Envoy will tell.
		_, _, _ = t.store.PutSession(ctx, s)
	})
}

// allowedHere finds the session of a request on an Envoy that is linked here.
func (t *Tracker) allowedHere(s provision.Session) (id string, here bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.links[s.Envoy]
	if l == nil {
		return "", false
	}
	c := l.connections[s.Connection]
	switch {
	case c == nil && t.count >= t.config.MaxConnections:
		return "", true
	case c == nil: // its Open is on the way
		c = &connection{link: l, number: s.Connection, http: true, heard: t.now()}
		t.add(c)
	case c.session.ID != "" && c.session.Hub == s.Hub && c.session.Device == s.Device:
		t.active(c, s.Since)
		return c.session.ID, true
	}
	t.rebind(c, s)
	return s.ID, true
}

// rebind makes it the connection of another session than before, if it had any.
func (t *Tracker) rebind(c *connection, s provision.Session) {
	if c.session.ID != "" {
		old := c.session
		t.settling.add(func(ctx context.Context) { t.removeRecord(ctx, c.link, old) })
	}
	t.bind(c, s)
	c.detailed = true
	t.want(c)
}

// active notes that bytes were seen. The lock is held.
func (t *Tracker) active(c *connection, at time.Time) {
	if at.After(c.session.LastActivity) {
		c.session.LastActivity = at
	}
	// Reports come once in a step: those that come a little early count.
	if c.session.ID != "" && at.Sub(c.put) >= activityStep*9/10 {
		t.want(c)
	}
}

// allowedAfar finds the session of a request on an Envoy that is linked to
// another replica, or to none yet. Whoever holds the link is told once, and
// then now and again, in case it was not heard, or is another by now.
func (t *Tracker) allowedAfar(s provision.Session) string {
	at := place{s.Envoy, s.Connection}
	d, ok := t.afar.GetIfPresent(at)
	if !ok || d.session.Hub != s.Hub || d.session.Device != s.Device {
		fresh := &distant{session: s}
		if ok {
			t.afar.Set(at, fresh)
			d = fresh
		} else {
			d, _ = t.afar.SetIfAbsent(at, fresh)
		}
	}
	now, last := s.Since.UnixNano(), d.told.Load()
	if now-last < int64(activityStep) || !d.told.CompareAndSwap(last, now) {
		return d.session.ID
	}
	told := d.session
	told.LastActivity = s.Since
	if !t.behind(func(ctx context.Context) {
		if t.announce(ctx, told) != nil {
			d.told.Store(0) // the next request tries again
		}
	}) {
		d.told.Store(0)
	}
	return d.session.ID
}

// announce records the session of another replica's connection and says so.
func (t *Tracker) announce(ctx context.Context, s provision.Session) error {
	ctx, cancel := call(ctx)
	defer cancel()
	if _, _, err := t.store.PutSession(ctx, s); err != nil {
		return err
	}
	return t.store.AnnounceSessions(ctx, s.Hub, s.Device)
}

// behind adds work for a check, unless too much waits already.
func (t *Tracker) behind(work task) bool {
	if t.settling.length() >= t.config.MaxBehind {
		t.metrics.dropped.Inc()
		return false
	}
	t.settling.add(work)
	return true
}
