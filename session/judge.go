package session

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

// orders is what an Envoy is told for each reason: the reason code for an MQTT
// 5 client, and a sentence for it and for Envoy's log.
var orders = map[provision.EndReason]struct {
	code byte
	text string
}{
	provision.EndHubGone:        {link.NotAuthorized, "the hub was deleted"},
	provision.EndHubDisabled:    {link.AdministrativeAction, "the hub is disabled"},
	provision.EndDeviceGone:     {link.NotAuthorized, "the device was deleted"},
	provision.EndDeviceDisabled: {link.AdministrativeAction, "the device is disabled"},
	provision.EndSecretChanged:  {link.NotAuthorized, "the device may not connect with this secret any more"},
	provision.EndCustomChanged:  {link.NotAuthorized, "the device may not connect with this certificate any more"},
	provision.EndAnchorRemoved:  {link.NotAuthorized, "the device's trust anchor was removed"},
	provision.EndElsewhere:      {link.SessionTakenOver, "the device connected elsewhere"},
	provision.EndRevoked:        {link.NotAuthorized, "a certificate of the device's chain was revoked"},
	provision.EndChainExpired:   {link.NotAuthorized, "a certificate of the device's chain expired"},
	provision.EndTooOld:         {link.MaximumConnectTime, "the connection is as old as the hub lets one be"},
	provision.EndOrdered:        {link.AdministrativeAction, "an operator ended the connection"},
}

// end orders the end of a connection, unless that was done. The order stands
// until the Envoy says that the connection is closed, or its link ends: on the
// next one it is judged anew. The lock is held.
func (t *Tracker) end(c *connection, reason provision.EndReason) {
	if c.gone || c.ending != "" {
		return
	}
	c.ending, c.ordered = reason, t.now()
	l := c.link
	if l == nil {
		t.changes.add(func(ctx context.Context) { t.logUnable(ctx, c) })
		return
	}
	order := orders[reason]
	l.seq++
	l.ends[l.seq] = c
	l.send(&link.End{Seq: l.seq, Connection: c.number, Session: c.told, Code: order.code, Text: order.text})
}

func (t *Tracker) logEnd(ctx context.Context, c *connection) {
	t.mu.Lock()
	s, reason, took := c.session, c.ending, c.ended.Sub(c.ordered)
	t.mu.Unlock()
	if reason == "" || c.link == nil {
		return
	}
	t.log.InfoContext(ctx, "session ended", "reason", string(reason), "session", s.ID,
		"hub_id", s.Hub.String(), "device", s.DeviceName, "device_id", s.Device.String(), "protocol", string(s.Protocol),
		"node", s.Envoy.Node, "connection", s.Connection, "took", took)
}

func (t *Tracker) logUnable(ctx context.Context, c *connection) {
	t.mu.Lock()
	s, reason := c.session, c.ending
	s.Unended = reason
	t.want(c) // so that its record says so, too
	t.mu.Unlock()
	if reason == "" {
		return
	}
	t.gate.Unended(s)
	t.log.WarnContext(ctx, "session cannot be ended: Envoy without the module", "reason", string(reason), "session", s.ID,
		"hub_id", s.Hub.String(), "device", s.DeviceName, "device_id", s.Device.String(), "node", s.Envoy.Node)
}

// judged takes in a verdict over a connection, and what it was made of. The lock
// is held.
func (t *Tracker) judged(c *connection, hub *provision.Hub, device *provision.Device, reason provision.EndReason) {
	if device != nil {
		c.judged, c.anchor = true, c.session.AnchorOf(device)
		c.custom = device.Custom != nil && len(c.session.Certificates) == 0
	}
	if hub != nil {
		t.schedule(c, hub)
	}
	t.named(c.session.Hub, hub)
	switch {
	case reason != "":
		t.end(c, reason)
	case c.link == nil && c.ending != provision.EndElsewhere:
		c.ending = "" // could not be ended, and need not be any more
	}
}

// Changed implements provision.Observer.
func (t *Tracker) Changed(change provision.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed(change)
}

// changed has a change looked into, if it can concern a connection that is
// here. A connection that becomes known later is judged then.
func (t *Tracker) changed(change provision.Change) {
	var act func(context.Context, provision.Change) error
	switch change.Kind {
	case provision.DeviceChanged:
		if t.devices[change.Device] == nil {
			return
		}
		act = t.deviceChanged
	case provision.HubChanged, provision.RevocationsChanged:
		if t.hubs[change.Hub] == nil {
			return
		}
		act = t.hubChanged
	case provision.SessionsChanged:
		if len(t.links) == 0 && t.devices[change.Device] == nil {
			return
		}
		act = t.sessionsChanged
	default:
		return
	}
	if _, waits := t.dirty[change]; waits {
		return
	}
	t.dirty[change] = struct{}{}
	t.changes.add(func(ctx context.Context) {
		t.mu.Lock()
		delete(t.dirty, change)
		t.mu.Unlock()
		ctx, cancel := call(ctx)
		defer cancel()
		if err := act(ctx, change); err != nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.unjudged[change] = struct{}{}
			t.retry(err)
		}
	})
}

func (t *Tracker) deviceChanged(ctx context.Context, change provision.Change) error {
	var device *provision.Device
	switch d, err := t.store.DeviceByID(ctx, change.Hub, change.Device); {
	case err == nil:
		device = &d
	case !errors.Is(err, provision.ErrNotFound):
		return err
	}
	hub, err := t.gate.CurrentHub(ctx, change.Hub)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.ofDevice(change.Device) {
		t.judged(c, hub, device, provision.MustEnd(c.session, hub, device, t.now()))
	}
	return nil
}

// hubChanged judges all connections of a hub by what is known of their devices:
// a change of a device is told by itself.
func (t *Tracker) hubChanged(ctx context.Context, change provision.Change) error {
	hub, err := t.gate.CurrentHub(ctx, change.Hub)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.judgeHub(change.Hub, hub)
	return nil
}

// judgeHub is hubChanged once the hub was read. The lock is held.
func (t *Tracker) judgeHub(id provision.HubID, hub *provision.Hub) {
	h := t.hubs[id]
	if h == nil {
		return
	}
	whole := wholeHub(hub)
	anew := hub != nil && !h.created.IsZero() && !h.created.Equal(hub.CreatedAt)
	now := t.now()
	verdicts := make(map[[32]byte]provision.EndReason) // anchors are few, and costly to compare
	for c := range h.connections {
		reason := whole
		if reason == "" && c.judged {
			var ok bool
			switch {
			case c.custom && !hub.Policy.CustomCertificates:
				reason = provision.EndCustomChanged
			case c.anchor != [32]byte{}:
				if reason, ok = verdicts[c.anchor]; !ok {
					reason = provision.MustEnd(provision.Session{Since: now}, hub, &provision.Device{Anchor: c.anchor}, now)
					verdicts[c.anchor] = reason
				}
			}
			if reason == "" {
				reason = c.session.EndedBy(hub, now)
				t.schedule(c, hub)
			}
		}
		switch {
		case reason != "":
			t.end(c, reason)
		case anew, !c.judged:
			// Its device went with the hub that was; or it is being judged, maybe
			// by the hub as it was.
			t.want(c)
		}
	}
	t.named(id, hub)
}

// named notes what was read of a hub, nil if it is gone. The lock is held.
func (t *Tracker) named(id provision.HubID, hub *provision.Hub) {
	h := t.hubs[id]
	if h == nil || hub == nil {
		return
	}
	h.name, h.created = hub.Name, hub.CreatedAt
	if len(t.labels) < maxHubLabels {
		t.labels[h.name] = struct{}{}
	}
}

// wholeHub says why none of a hub's sessions may go on, "" if that depends on
// their devices.
func wholeHub(hub *provision.Hub) provision.EndReason {
	if reason := provision.MustEnd(provision.Session{}, hub, nil, time.Time{}); reason != provision.EndDeviceGone {
		return reason
	}
	return ""
}

// judgeHubsOf judges a link's connections by what can be known of their hubs
// while the store does not answer.
func (t *Tracker) judgeHubsOf(l *envoyLink) {
	hubs := make(map[provision.HubID]struct{})
	t.mu.Lock()
	for _, c := range l.connections {
		if c.session.ID != "" {
			hubs[c.session.Hub] = struct{}{}
		}
	}
	t.mu.Unlock()
	for id := range hubs {
		t.Changed(provision.Change{Kind: provision.HubChanged, Hub: id})
	}
}

// sessionsChanged looks for what another replica has announced: the device of an
// HTTP connection, a second connection of a device that may hold one, or one
// that is on record and perhaps not open any more.
func (t *Tracker) sessionsChanged(ctx context.Context, change provision.Change) error {
	sessions, err := t.store.DeviceSessions(ctx, change.Hub, change.Device)
	if err != nil {
		return err
	}
	var closed []provision.Session
	confirmed := 0
	t.mu.Lock()
	for _, s := range sessions {
		if s.Protocol == provision.TCP && s.Confirmed {
			confirmed++
		}
		// A link that has not listed its connections yet asks for all sessions
		// when it has.
		if l := t.links[s.Envoy]; l != nil && l.round > 0 && !l.listing && !t.adopt(l, s) {
			closed = append(closed, s)
		}
	}
	here, waits := t.devices[change.Device] != nil, t.anew(change.Device)
	t.mu.Unlock()
	for _, s := range closed {
		if err := t.store.RemoveSession(ctx, s); err != nil {
			return err
		}
	}
	if !here || waits || confirmed < 2 {
		return nil // or those that wait see to it
	}
	device, err := t.store.DeviceByID(ctx, change.Hub, change.Device)
	switch {
	case errors.Is(err, provision.ErrNotFound):
		return nil // which is a change of its own
	case err != nil:
		return err
	case device.AllowMultipleConnections:
		return nil
	}
	return t.keepNewest(ctx, change.Hub, change.Device, false)
}

// Lost implements provision.Observer: everything of the partition is judged
// anew, and what may have been announced is looked up.
func (t *Tracker) Lost(partition int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost[partition] = struct{}{}
	if len(t.lost) > 1 {
		return
	}
	t.changes.add(func(context.Context) {
		t.mu.Lock()
		defer t.mu.Unlock()
		lost := maps.Clone(t.lost)
		clear(t.lost)
		for id, h := range t.hubs {
			if _, ok := lost[id.Partition(t.store.Partitions())]; !ok {
				continue
			}
			for c := range h.connections {
				t.want(c)
			}
		}
		for _, l := range t.links {
			t.sort(l)
		}
	})
}
