package session

import (
	"slices"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
)

// Logged takes in what the access log of an Envoy without the library says of a
// session: that its connection is open, with that many bytes received so far,
// or has closed. Delivery of access logs is best effort, so each entry keeps
// the session for a while. It does not block.
func (t *Tracker) Logged(s provision.Session, received uint64, closed bool) {
	id, err := uuid.Parse(s.ID)
	if err != nil {
		return // no session of ours
	}
	s.ID = id.String()
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.logged[s.ID]
	switch {
	case c == nil && t.linked(s):
		return // the link says it better
	case c == nil && closed:
		// Opened before this process began, or logged to another one.
		c = t.logs(s, id)
		t.closed(c)
		return
	case closed:
		t.closed(c)
		return
	case c == nil && t.count >= t.config.MaxConnections:
		t.metrics.dropped.Inc()
		return
	case c == nil:
		c = t.logs(s, id)
	}
	c.heard = now
	if received > c.bytes && now.After(c.session.LastActivity) {
		c.session.LastActivity = now
	}
	c.bytes = received
	t.want(c)
}

// linked reports whether the session is one of an Envoy with the library, as
// far as that is known here.
func (t *Tracker) linked(s provision.Session) bool {
	if known, ok := t.allowed.GetIfPresent(s.ID); ok && known.Envoy.HasLibrary() {
		return true
	}
	return slices.ContainsFunc(t.ofDevice(s.Device), func(c *connection) bool { return c.session.ID == s.ID })
}

// logs adds a connection that an access log told of.
func (t *Tracker) logs(s provision.Session, id uuid.UUID) *connection {
	c := &connection{number: s.Connection, told: s.ID, opened: true, heard: t.now()}
	if known, ok := t.allowed.GetIfPresent(s.ID); ok && known.Hub == s.Hub && known.Device == s.Device {
		t.allowed.Invalidate(s.ID)
		known.Envoy.Node = s.Envoy.Node
		s, c.detailed = known, true
	}
	s.Protocol, s.Confirmed = provision.TCP, true
	s.Since = minted(id, t.now())
	if s.LastActivity.IsZero() {
		s.LastActivity = s.Since
	}
	// Which process the Envoy is, nobody tells, so each session lives by a
	// lease of its own.
	s.Envoy.Epoch = provision.LoggedEpoch + s.ID
	t.count++
	t.logged[s.ID] = c
	t.bind(c, s)
	return c
}
