package session

import (
	"context"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

const (
	// recheckInterval is how often it is looked whether what a connection waits
	// for is gone, though nobody said so: an Envoy's lease ran out. Or whether it
	// is the store that it waits for.
	recheckInterval = time.Second
	// maxPaused bounds the claims that wait at once.
	maxPaused = 64
)

// claimPauses are how long a claim waits for the end of a connection that its
// device may just have closed, before each of its further tries.
var claimPauses = []time.Duration{10 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond}

// keepNewest ends the connections of a device that may hold one, but the newest
// that is confirmed; that one is released when no other is left that can be
// ended. Others that are elsewhere are announced, if that is asked.
//
// It is called after a connection was put on record. So of two that are put at
// once one at least finds the other, and no two are released.
func (t *Tracker) keepNewest(ctx context.Context, hub provision.HubID, device provision.DeviceID, announce bool) error {
	sessions, err := t.store.DeviceSessions(ctx, hub, device)
	if err != nil {
		return err
	}
	var newest *provision.Session
	var stays *connection // the newest, if it is here
	afar, blocked := false, false
	t.mu.Lock()
	for i := len(sessions) - 1; i >= 0; i-- {
		s := &sessions[i]
		switch {
		case s.Protocol != provision.TCP || !s.Confirmed || t.closedHere(s):
			continue
		case newest == nil:
			newest = s
			continue
		}
		if c := t.find(*s); c != nil {
			t.end(c, provision.EndElsewhere)
		} else {
			afar = true
		}
		blocked = blocked || s.Envoy.HasLibrary()
	}
	if newest != nil {
		stays = t.find(*newest)
	}
	switch {
	case stays != nil && !blocked:
		t.stays(stays)
	case stays != nil:
		announce = announce && !stays.blocked // once is enough
		stays.blocked = true
	}
	t.mu.Unlock()
	if !announce || !afar {
		return nil
	}
	err = t.store.AnnounceSessions(ctx, hub, device)
	if err != nil && stays != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		stays.blocked = false
	}
	return err
}

// closedHere reports whether a session that is on record as open is not: its
// Envoy, which is linked here, has said what is. The lock is held.
func (t *Tracker) closedHere(s *provision.Session) bool {
	l := t.links[s.Envoy]
	return s.Confirmed && l != nil && l.round > 0 && !l.listing && t.find(*s) == nil
}

// stays takes in that no other connection is in this one's way: if it was told
// to wait for that, it waits no longer. The lock is held.
func (t *Tracker) stays(c *connection) {
	delete(t.held, c)
	c.blocked = false
	switch {
	case c.link == nil:
		if c.ending == provision.EndElsewhere {
			c.ending = "" // could not be ended, and need not be any more
			t.want(c)
		}
	case !c.http && !c.released && !c.gone && c.ending == "":
		c.released = true
		c.link.send(&link.Release{Connection: c.number, Session: c.told})
	}
}

// anew has the device's connections that wait looked at again. The lock is held.
func (t *Tracker) anew(device provision.DeviceID) (waits bool) {
	for c := t.devices[device]; c != nil; c = c.next {
		if _, held := t.held[c]; held && c.blocked {
			t.want(c)
			waits = true
		}
	}
	return waits
}

// recheck does so for all devices. What waits for no more than a store that does
// not answer waits no longer: known devices are let in meanwhile.
func (t *Tracker) recheck() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.held {
		switch {
		case c.blocked:
			t.want(c)
		case t.retrying:
			t.stays(c)
		}
	}
}

// announceTaken tells whoever waits for it that a connection is closed which was
// ended for a newer one, unless that is here and knows.
func (t *Tracker) announceTaken(ctx context.Context, c *connection) error {
	t.mu.Lock()
	s, taken := c.session, c.link != nil && c.ending == provision.EndElsewhere
	here := taken && t.anew(s.Device)
	t.mu.Unlock()
	if !taken || here {
		return nil
	}
	return t.store.AnnounceSessions(ctx, s.Hub, s.Device)
}

// Claim implements provision.Tracker. A device that comes back at once may do so
// before hubgate knows that it left, so a claim that meets another connection is
// made again a few times.
func (t *Tracker) Claim(ctx context.Context, s provision.Session) (*provision.Session, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	other, err := t.claim(ctx, s)
	if err != nil || other == nil || t.paused.Load() >= maxPaused {
		return other, err
	}
	t.paused.Add(1)
	defer t.paused.Add(-1)
	t.mu.Lock()
	here := t.find(*other) != nil
	t.mu.Unlock()
	if !here { // whoever has its link looks after it
		if err := t.store.AnnounceSessions(ctx, s.Hub, s.Device); err != nil {
			return nil, err
		}
	}
	for _, d := range claimPauses {
		pause(ctx, d)
		if other, err = t.claim(ctx, s); err != nil || other == nil {
			break
		}
	}
	return other, err
}

func (t *Tracker) claim(ctx context.Context, s provision.Session) (*provision.Session, error) {
	other, err := t.store.ClaimSession(ctx, s)
	if err != nil {
		return nil, err
	}
	if other == nil {
		t.allowed.Set(s.ID, s)
		return nil, nil
	}
	t.mu.Lock()
	closed := t.closedHere(other)
	t.mu.Unlock()
	if !closed {
		return other, nil
	}
	// Its record is about to go; or it was put by a replica that wrote late.
	return other, t.store.RemoveSession(ctx, *other)
}

// Connected implements provision.Tracker.
func (t *Tracker) Connected(ctx context.Context, hub provision.HubID, device provision.DeviceID) (*provision.Session, error) {
	ctx, cancel := call(ctx)
	defer cancel()
	sessions, err := t.store.DeviceSessions(ctx, hub, device)
	if err != nil {
		return nil, err
	}
	for i := len(sessions) - 1; i >= 0; i-- {
		if sessions[i].Protocol == provision.TCP {
			return &sessions[i], nil
		}
	}
	return nil, nil
}
