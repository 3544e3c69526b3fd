package session

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/provision"
)

// retry has what the store did not do tried again in a while. The lock is held.
func (t *Tracker) retry(err error) {
	if now := t.now(); now.Sub(t.complained) >= complaintPause {
		t.complained = now
		t.log.Warn("the store cannot be told of sessions, trying again until it can", "error", err)
	}
	if t.retrying {
		return
	}
	t.retrying = true
	time.AfterFunc(retryPause, func() { t.changes.add(t.tryAgain) })
}

// tryAgain asks one thing of the store first, so that one that is still down is
// not asked for everything.
func (t *Tracker) tryAgain(ctx context.Context) {
	err := t.renewLinks(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retrying = false
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		t.retry(err)
		return
	}
	connections, links, changes := t.unsettled, t.unsorted, t.unjudged
	t.unsettled = make(map[*connection]struct{})
	t.unsorted = make(map[*envoyLink]struct{})
	t.unjudged = make(map[provision.Change]struct{})
	for change := range changes {
		t.changed(change)
	}
	for l := range links {
		t.sort(l)
	}
	for c := range connections {
		if !c.gone {
			t.want(c)
		}
	}
}

// renew says that the link's Envoy lives. If its lease had run out, its
// sessions are gone from the store, and are all written again.
func (t *Tracker) renew(ctx context.Context, l *envoyLink) error {
	t.mu.Lock()
	gone := l.gone
	t.mu.Unlock()
	if gone {
		return nil
	}
	start := t.now()
	ctx, cancel := call(ctx)
	defer cancel()
	if err := t.store.RenewEnvoy(ctx, l.envoy, t.lease()); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !l.renewed.IsZero() && start.Sub(l.renewed) >= t.lease() {
		for _, c := range l.connections {
			t.want(c)
		}
	}
	l.renewed = start
	return nil
}

// renewAll renews every Envoy's lease.
func (t *Tracker) renewAll(ctx context.Context) {
	if err := t.renewLinks(ctx); err != nil && ctx.Err() == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.retry(err)
	}
}

func (t *Tracker) renewLinks(ctx context.Context) error {
	t.mu.Lock()
	links := make([]*envoyLink, 0, len(t.links))
	for _, l := range t.links {
		links = append(links, l)
	}
	t.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(judges)
	for _, l := range links {
		group.Go(func() error { return t.renew(ctx, l) })
	}
	return group.Wait()
}

// expiringWithin is how far ahead connections are noted that have to end: twice
// as far as the pause between two looks at all of them.
const expiringWithin = 2 * time.Hour

// schedule notes when a connection has to end, going by its hub as it is. The
// lock is held.
func (t *Tracker) schedule(c *connection, hub *provision.Hub) {
	c.ends, c.endsBy = c.session.EndsAt(hub)
	t.expire(c, t.now())
}

// expire notes a connection that has to end soon. The lock is held.
func (t *Tracker) expire(c *connection, now time.Time) {
	if c.gone || c.ends.IsZero() || c.ends.Sub(now) > expiringWithin {
		delete(t.expiring, c)
		return
	}
	t.expiring[c] = struct{}{}
}

// sweep forgets what never opened and what no access log mentions any more, ends
// what is due, and has the store told again of what has been open for very long.
func (t *Tracker) sweep() {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.waiting {
		if now.Sub(c.heard) >= provision.PendingSession {
			t.closed(c)
		}
	}
	for _, c := range t.logged {
		if now.Sub(c.heard) >= t.logLease() {
			t.take(c) // the store's lease has run out with it
		}
	}
	for c := range t.expiring {
		if !now.Before(c.ends) {
			t.end(c, c.endsBy)
		}
	}
	for _, l := range t.links {
		if now.Sub(l.swept) < expiringWithin/2 {
			continue
		}
		l.swept = now
		t.sort(l) // in case a replica that had the link before wrote late
		for _, c := range l.connections {
			t.expire(c, now)
			if now.Sub(c.put) >= provision.SessionRefresh {
				t.want(c)
			}
		}
	}
}
