package provision_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

func TestDecideOneConnection(t *testing.T) {
	t.Parallel()
	hub := &provision.Hub{ID: provision.NewHubID(), Name: "factory", AutoProvisioning: true}
	identity := &provision.Identity{Name: "SN-1", Device: provision.DeviceIDOf(hub.ID, "SN-1")}
	known := &provision.Device{ID: identity.Device, Hub: hub.ID, Name: "SN-1", Version: 1, CurrentKey: identity.Key, Anchor: identity.Anchor}
	disabled := *known
	disabled.Disabled = true
	other := &provision.Session{ID: "s", Since: time.Unix(1_790_000_000, 0), Source: source, Envoy: provision.EnvoyID{Node: "edge"}}
	for name, tt := range map[string]struct {
		policy provision.ConnectionPolicy
		device *provision.Device
		sought bool
		other  *provision.Session
		err    error
		want   provision.Reason
		detail string
	}{
		"not looked for":                   {policy: provision.Reject, device: known, other: other, want: provision.DeviceKnown},
		"alone":                            {policy: provision.Reject, device: known, sought: true, want: provision.DeviceKnown},
		"another, reject":                  {provision.Reject, known, true, other, nil, provision.DeviceAlreadyConnected, "since 2026-09-21T14:13:20Z, from 192.0.2.7, through edge"},
		"another, reject, new device":      {provision.Reject, nil, true, other, nil, provision.DeviceAlreadyConnected, "session s"},
		"another, reject, disabled device": {provision.Reject, &disabled, true, other, nil, provision.DeviceDisabled, "disabled"},
		"another, takeover":                {provision.Takeover, known, true, other, nil, provision.DeviceKnown, "known"},
		"another, no policy":               {"", nil, true, other, nil, provision.DeviceProvisioned, "first"},
		"no answer":                        {provision.Reject, known, true, nil, provision.ErrUnavailable, provision.StoreUnavailable, "unavailable"},
	} {
		h := *hub
		h.Policy.Connections = tt.policy
		f := &provision.Facts{
			Connection: provision.Connection{Protocol: provision.TCP, TLS: true, Leaf: []byte("leaf")},
			Rules:      must[*provision.Rules](t)(provision.NewRules(h)),
			Hub:        &h, Identity: identity, Looked: true, Device: tt.device, Sought: tt.sought, Other: tt.other, OtherErr: tt.err,
		}
		d, decided := provision.Decide(f)
		if !decided || d.Reason != tt.want || !strings.Contains(d.Detail, tt.detail) {
			t.Errorf("%s: %v, %s (%s), want %s (%s)", name, decided, d.Reason, d.Detail, tt.want, tt.detail)
		}
		f.Looked = false
		if d, decided := provision.Decide(f); decided {
			t.Errorf("%s: decided as %s before the device was looked up", name, d.Reason)
		}
	}
}

// sessions is a Tracker that keeps one session.
type sessions struct {
	mu      sync.Mutex
	allowed int
	held    *provision.Session
	err     error
}

func (s *sessions) Allowed(_ context.Context, session provision.Session) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed++
	return session.ID
}

func (s *sessions) Claim(_ context.Context, session provision.Session) (*provision.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.held != nil {
		return s.held, s.err
	}
	s.held = &session
	return nil, nil
}

func (s *sessions) Connected(context.Context, provision.HubID, provision.DeviceID) (*provision.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held, s.err
}

// mqtt is a connection of MQTT through an Envoy with the library.
func mqtt(c *provision.Connection) {
	c.Protocol, c.Node, c.EnvoyConnection = provision.TCP, "edge", "0123/7"
}

func dryRun(c *provision.Connection) { c.DryRun = true }

func TestAHubThatRejectsClaims(t *testing.T) {
	t.Parallel()
	tracker := &sessions{}
	r := newRig(t, func(c *provision.GateConfig) { c.Sessions = tracker })
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate), func(h *provision.Hub) { h.Policy.Connections = provision.Reject })
	id := leaf(t, vendor, "SN-1")
	r.expect(over(id, mqtt, dryRun), provision.DeviceProvisioned)
	if tracker.held != nil {
		t.Fatal("a dry run claimed")
	}
	d := r.expect(over(id, mqtt), provision.DeviceProvisioned)
	if tracker.held == nil || d.Session != tracker.held.ID || d.Hold || tracker.held.Connection != 7 || tracker.held.Confirmed {
		t.Fatalf("%+v, claimed %+v", d, tracker.held)
	}
	d = r.expect(over(id, mqtt), provision.DeviceAlreadyConnected)
	if d.Session != "" || d.Hold || !strings.Contains(d.Detail, tracker.held.ID) || d.Allowed() {
		t.Errorf("%+v", d)
	}
	d = r.expect(over(id, mqtt, dryRun), provision.DeviceAlreadyConnected)
	if last := d.Steps[len(d.Steps)-1]; last.OK || !strings.Contains(last.Detail, tracker.held.ID) {
		t.Errorf("explained as %+v", last)
	}
	// A device that was refused is created all the same, once.
	r.expect(over(leaf(t, vendor, "SN-2"), mqtt), provision.DeviceAlreadyConnected)
	if n := len(r.devices(hub)); n != 2 {
		t.Errorf("%d devices", n)
	}
	// HTTP is nobody's only connection.
	if d := r.expect(over(id), provision.DeviceKnown); d.Session == "" || d.Hold || tracker.allowed != 1 {
		t.Errorf("HTTP: %+v", d)
	}
	several := r.byHand(hub, "SN-3", func(d *provision.Device) { d.AllowMultipleConnections = true })
	if d := r.expect(over(leaf(t, vendor, several.Name), mqtt), provision.DeviceKnown); d.Session == "" || d.Hold || tracker.allowed != 2 {
		t.Errorf("one that may have several: %+v", d)
	}
	tracker.err = provision.ErrUnavailable
	if d := r.expect(over(id, mqtt), provision.StoreUnavailable); d.Session != "" {
		t.Errorf("no answer: %+v", d)
	}
}

func TestAHubThatLetsTheNewestTakeOverHolds(t *testing.T) {
	t.Parallel()
	tracker := &sessions{}
	r := newRig(t, func(c *provision.GateConfig) { c.Sessions = tracker })
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	r.byHand(hub, "several", func(d *provision.Device) { d.AllowMultipleConnections = true })
	for name, tt := range map[string]struct {
		edit func(*provision.Connection)
		hold bool
	}{
		"first":    {mqtt, true},
		"SN-1":     {mqtt, true},
		"HTTP":     {func(*provision.Connection) {}, false},
		"several":  {mqtt, false},
		"no Envoy": {leafOnly, false},
		"bare": {func(c *provision.Connection) {
			mqtt(c)
			c.EnvoyConnection = "7" // without the library
		}, false},
	} {
		if d := r.gate.Admit(t.Context(), over(leaf(t, vendor, name), tt.edit)); !d.Allowed() || d.Session == "" || d.Hold != tt.hold {
			t.Errorf("%s: %+v, want hold %v", name, d, tt.hold)
		}
	}
	d := r.expect(over(leaf(t, vendor, "SN-1"), mqtt, dryRun), provision.DeviceKnown)
	if last := d.Steps[len(d.Steps)-1]; !last.OK || last.Detail != "no other connection of the device is open" {
		t.Errorf("explained as %+v", last)
	}
	tracker.held = &provision.Session{ID: "older"}
	d = r.expect(over(leaf(t, vendor, "SN-1"), mqtt, dryRun), provision.DeviceKnown)
	if last := d.Steps[len(d.Steps)-1]; !last.OK || !strings.Contains(last.Detail, "this one ends another: session older") {
		t.Errorf("explained as %+v", last)
	}
}
