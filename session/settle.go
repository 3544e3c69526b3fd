package session

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/provision"
)

// want has the connection settled: what it is now is written to the store, and
// it is judged. It is in the queue at most once. The lock is held.
func (t *Tracker) want(c *connection) {
	if c.working {
		c.again = true
		return
	}
	if c.session.ID == "" {
		return
	}
	c.working = true
	t.settling.add(func(ctx context.Context) { t.settle(ctx, c) })
}

func (t *Tracker) settle(ctx context.Context, c *connection) {
	err := t.settleOnce(ctx, c)
	var reason provision.EndReason
	if err != nil {
		// The Gate may know enough of the hub without the store.
		t.mu.Lock()
		id := c.session.Hub
		t.mu.Unlock()
		if hub, err := t.gate.CurrentHub(ctx, id); err == nil {
			reason = wholeHub(hub)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	again := c.again
	c.working, c.again = false, false
	delete(t.unsettled, c)
	switch {
	case err == nil && again:
		t.want(c)
	case err == nil:
	case !c.gone:
		if reason != "" {
			t.end(c, reason)
		}
		t.unsettled[c] = struct{}{}
		t.retry(err)
	case c.remove && c.link != nil && !c.link.gone:
		// Remembering each would have no bound. What is on record and not open
		// is found all at once.
		t.unsorted[c.link] = struct{}{}
		t.retry(err)
	}
}

// settleOnce returns an error if it has to be done again.
func (t *Tracker) settleOnce(ctx context.Context, c *connection) error {
	t.mu.Lock()
	s, gone, remove, detailed := c.session, c.gone, c.remove, c.detailed
	if s.Unended = ""; c.link == nil {
		s.Unended = c.ending
	}
	unrenewed := c.link != nil && c.link.renewed.IsZero()
	t.mu.Unlock()
	ctx, cancel := call(ctx)
	defer cancel()
	switch {
	case gone && remove:
		t.logEnd(ctx, c)
		if err := t.store.RemoveSession(ctx, s); err != nil {
			return err
		}
		return t.announceTaken(ctx, c)
	case gone:
		return nil
	}
	if !detailed {
		recorded, err := t.store.DeviceSessions(ctx, s.Hub, s.Device)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(recorded, func(o provision.Session) bool { return o.ID == s.ID }); i >= 0 {
			if c.link == nil && recorded[i].Envoy.HasLibrary() {
				t.mu.Lock()
				defer t.mu.Unlock()
				t.take(c) // another replica has its link
				return nil
			}
			s = merge(s, recorded[i])
		}
		if len(s.Certificates) == 0 && s.Secret.IsZero() {
			s.Expires = forgotten(s, t.now())
		}
	}
	// What is put before the Envoy's lease counts as gone.
	switch {
	case c.link == nil:
		if err := t.store.RenewEnvoy(ctx, s.Envoy, t.logLease()); err != nil {
			return err
		}
	case unrenewed:
		if err := t.renew(ctx, c.link); err != nil {
			return err
		}
	}
	device, alone, err := t.record(ctx, &s)
	if err != nil {
		return err
	}
	hub, err := t.gate.CurrentHub(ctx, s.Hub)
	if err != nil {
		return err
	}
	if t.judgeOpen(c, s, hub, device) || s.Protocol != provision.TCP {
		return nil
	}
	if alone || device.AllowMultipleConnections {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.stays(c)
		return nil
	}
	return t.keepNewest(ctx, s.Hub, s.Device, true)
}

// record writes the session and returns its device, nil if that is gone.
func (t *Tracker) record(ctx context.Context, s *provision.Session) (*provision.Device, bool, error) {
	var device provision.Device
	var alone bool
	var err error
	if s.DeviceName == "" { // which neither the Envoy nor its record told
		if device, err = t.store.DeviceByID(ctx, s.Hub, s.Device); err == nil {
			s.DeviceName = device.Name
		}
	}
	if err == nil {
		device, alone, err = t.store.PutSession(ctx, *s)
	}
	switch {
	case errors.Is(err, provision.ErrNotFound):
		return nil, true, nil
	case err != nil:
		return nil, false, err
	}
	return &device, alone, nil
}

// forgotten is when a connection ends of which nobody knows any more with which
// chain it was let in, so that neither its expiry nor a revocation would end it:
// an hour or two from now, each at another time, as after a restart with the
// embedded store this may be all of them.
func forgotten(s provision.Session, now time.Time) time.Time {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s.ID))
	return now.Add(time.Hour + time.Duration(h.Sum32()%3600)*time.Second)
}

// merge adds to a session what is on record of it.
func merge(s, recorded provision.Session) provision.Session {
	s.DeviceName, s.Source, s.Since, s.Unknown = recorded.DeviceName, recorded.Source, recorded.Since, recorded.Unknown
	s.Secret, s.Custom, s.Anchor = recorded.Secret, recorded.Custom, recorded.Anchor
	s.Certificates, s.Expires = recorded.Certificates, recorded.Expires
	if recorded.LastActivity.After(s.LastActivity) {
		s.LastActivity = recorded.LastActivity
	}
	return s
}

// judgeOpen takes over what was found out about a connection, and ends it if it
// may not go on. It reports whether that is so, or it is closed.
func (t *Tracker) judgeOpen(c *connection, s provision.Session, hub *provision.Hub, device *provision.Device) bool {
	reason := provision.MustEnd(s, hub, device, t.now())
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.gone || c.session.ID != s.ID {
		return true
	}
	active := c.session.LastActivity
	c.session, c.detailed, c.put = s, true, t.now()
	if active.After(s.LastActivity) {
		c.session.LastActivity = active
	}
	t.judged(c, hub, device, reason)
	return reason != ""
}

// sort has the link reconciled with what is on record. The lock is held.
func (t *Tracker) sort(l *envoyLink) {
	if l.sorting || l.gone {
		return
	}
	l.sorting = true
	t.settling.add(func(ctx context.Context) {
		err := t.reconcile(ctx, l)
		t.mu.Lock()
		defer t.mu.Unlock()
		if err != nil && !l.gone {
			t.unsorted[l] = struct{}{}
			t.retry(err)
		}
	})
}

// reconcile compares what is on record of an Envoy with what it has open: it
// finds out whose its connections are, has those settled that are not, and
// removes what is not open.
func (t *Tracker) reconcile(ctx context.Context, l *envoyLink) error {
	t.mu.Lock()
	l.sorting = false // what happens from here on has it done again
	t.mu.Unlock()
	err := t.renew(ctx, l)
	var recorded []provision.Session
	if err == nil {
		ctx, cancel := call(ctx)
		defer cancel()
		recorded, err = t.store.EnvoySessions(ctx, l.envoy)
	}
	if err != nil {
		t.judgeHubsOf(l)
		return err
	}
	t.mu.Lock()
	known := make(map[string]struct{}, len(recorded))
	var closed []provision.Session
	for _, s := range recorded {
		if t.adopt(l, s) {
			known[s.ID] = struct{}{}
		} else {
			closed = append(closed, s)
		}
	}
	for _, c := range l.connections {
		if _, ok := known[c.session.ID]; !ok || !c.judged {
			t.want(c)
		}
	}
	t.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(judges)
	for _, s := range closed {
		group.Go(func() error {
			ctx, cancel := call(ctx)
			defer cancel()
			return t.store.RemoveSession(ctx, s)
		})
	}
	return group.Wait()
}

// adopt takes in a session on record of the link's Envoy. It returns false if
// its connection is not open. The lock is held.
func (t *Tracker) adopt(l *envoyLink, s provision.Session) bool {
	c := l.connections[s.Connection]
	switch {
	case l.gone:
		return true // not ours any more
	case c == nil:
		// Allowed elsewhere a moment ago, its Open may be on the way. That of a
		// confirmed one of TCP has come.
		if t.now().Sub(s.Since) >= provision.PendingSession || s.Protocol == provision.TCP && s.Confirmed {
			return false
		}
		if s.Protocol == provision.HTTP && t.count < t.config.MaxConnections {
			c = &connection{link: l, number: s.Connection, http: true, heard: t.now(), detailed: true}
			t.add(c)
			t.bind(c, s)
			t.want(c)
		}
		return true
	case c.session.ID == s.ID:
		if !c.detailed {
			c.session, c.detailed = merge(c.session, s), true
		}
		return true
	case c.session.ID == "" && c.http:
		c.detailed = true
		t.bind(c, s)
		t.want(c)
		return true
	}
	return false
}

// removeRecord removes a session whose connection has another one now.
func (t *Tracker) removeRecord(ctx context.Context, l *envoyLink, s provision.Session) {
	ctx, cancel := call(ctx)
	defer cancel()
	if err := t.store.RemoveSession(ctx, s); err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.unsorted[l] = struct{}{}
		t.retry(err)
	}
}
