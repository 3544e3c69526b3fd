package provision

import (
	"context"
	"fmt"
	"time"
)

// holdsOne reports whether the connection is one that its device may have one of:
// of TCP, unless an operator allowed the device several. Requests of HTTP come on
// as many as a client likes.
func (f *Facts) holdsOne() bool {
	return f.Connection.Protocol == TCP && (f.Device == nil || !f.Device.AllowMultipleConnections)
}

// oneConnection is step 9 of the design. Where the newest connection takes over,
// it refuses nothing: which is the newest turns out when connections open.
func oneConnection(f *Facts, d *Decision) finding {
	switch {
	case d.Reason == "" || !f.Sought:
		return finding{}
	case f.OtherErr != nil:
		return finding{StoreUnavailable, f.OtherErr.Error()}
	case f.Other == nil:
		return finding{detail: "no other connection of the device is open"}
	}
	other := fmt.Sprintf("session %s, since %s, from %s, through %s",
		f.Other.ID, f.Other.Since.UTC().Format(time.RFC3339), f.Other.Source, f.Other.Envoy.Node)
	if f.Hub.Policy.Connections == Reject {
		return finding{DeviceAlreadyConnected, "another connection is open: " + other}
	}
	return finding{detail: "this one ends another: " + other}
}

// seek looks for another connection of a known device, for who wants an
// explanation.
func (g *Gate) seek(ctx context.Context, f *Facts, d Decision) {
	if !f.Connection.DryRun || f.Device == nil || !f.holdsOne() || g.sessions == nil {
		return
	}
	f.Sought = true
	f.Other, f.OtherErr = g.sessions.Connected(ctx, d.Hub, d.Device)
}

// connect makes the session of a connection whose device may connect, and has it
// decided whether another one is in its way.
func (g *Gate) connect(ctx context.Context, f *Facts, d Decision) Decision {
	if g.sessions == nil {
		return d
	}
	s := newSession(f, d)
	if f.holdsOne() && f.Hub.Policy.Connections == Reject {
		f.Sought = true
		f.Other, f.OtherErr = g.sessions.Claim(ctx, s)
		if d, _ = Decide(f); d.Allowed() {
			d.Session = s.ID
		}
		return d
	}
	d.Session = g.sessions.Allowed(ctx, s)
	d.Hold = f.holdsOne() && s.Envoy.HasLibrary()
	return d
}
