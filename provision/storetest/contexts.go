package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// testContext: a context that has ended ends every call, at once and with its
// error, and nothing has happened.
func testContext(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	d, _, err := s.CreateDevice(ctx, NewCreation(hub, "chip-1"))
	must(t, err)
	session := NewSession(d, NewEnvoy())
	before := len(got(hubEvents(ctx, s, hub.ID))(t))

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	for what, call := range map[string]func(ctx context.Context) error{
		"Hub":         func(ctx context.Context) error { _, err := s.Hub(ctx, hub.ID); return err },
		"Hubs":        func(ctx context.Context) error { _, err := s.Hubs(ctx, 0); return err },
		"HubByName":   func(ctx context.Context) error { _, err := s.HubByName(ctx, hub.Name); return err },
		"Revocations": func(ctx context.Context) error { _, err := s.Revocations(ctx, hub.ID); return err },
		"CRL":         func(ctx context.Context) error { _, err := s.CRL(ctx, hub.ID, trust.KeyHash{}); return err },
		"UpdateRevocations": func(ctx context.Context) error {
			return s.UpdateRevocations(ctx, hub.ID, func(r *provision.Revocations) error { return r.Revoke(revocation(1)) },
				func(h provision.Hub) provision.Event { return HubEvent(h, "certificate was revoked") })
		},
		"Learned":      func(ctx context.Context) error { _, err := s.Learned(ctx, hub.ID); return err },
		"Learn":        func(ctx context.Context) error { return s.Learn(ctx, hub.ID, [][]byte{fakeDER("late")}) },
		"Device":       func(ctx context.Context) error { _, err := s.Device(ctx, hub.ID, d.Name); return err },
		"DeviceByID":   func(ctx context.Context) error { _, err := s.DeviceByID(ctx, hub.ID, d.ID); return err },
		"CountDevices": func(ctx context.Context) error { _, err := s.CountDevices(ctx, hub.ID); return err },
		"Events":       func(ctx context.Context) error { _, err := s.Events(ctx, 0, 0, 1); return err },
		"LastEvent":    func(ctx context.Context) error { _, err := s.LastEvent(ctx, 0); return err },
		"Devices": func(ctx context.Context) error {
			_, _, err := s.Devices(ctx, hub.ID, provision.ByName, "", 1)
			return err
		},
		"CreateDevice": func(ctx context.Context) error {
			_, _, err := s.CreateDevice(ctx, NewCreation(hub, "late"))
			return err
		},
		"UpdateDevice": func(ctx context.Context) error {
			_, err := updateDevice(ctx, s, d, func(d *provision.Device) error { d.Disabled = true; return nil })
			return err
		},
		"DeleteDevice": func(ctx context.Context) error { return deleteDevice(ctx, s, d) },
		"ClaimHub": func(ctx context.Context) error {
			return s.ClaimHub(ctx, provision.Hub{ID: provision.NewHubID(), Name: NewHub().Name, Declared: "late.yaml"})
		},
		"CreateHub": func(ctx context.Context) error { _, err := CreateHub(ctx, s); return err },
		"UpdateHub": func(ctx context.Context) error {
			_, err := updateHub(ctx, s, hub.ID, func(h *provision.Hub) error { h.Disabled = true; return nil })
			return err
		},
		"DeleteHub":        func(ctx context.Context) error { return s.DeleteHub(ctx, hub.ID, HubEvent(hub, "late")) },
		"PutSession":       func(ctx context.Context) error { _, _, err := s.PutSession(ctx, session); return err },
		"RemoveSession":    func(ctx context.Context) error { return s.RemoveSession(ctx, session) },
		"DeviceSessions":   func(ctx context.Context) error { _, err := s.DeviceSessions(ctx, hub.ID, d.ID); return err },
		"HubSessions":      func(ctx context.Context) error { _, _, err := s.HubSessions(ctx, hub.ID, "", 1); return err },
		"EnvoySessions":    func(ctx context.Context) error { _, err := s.EnvoySessions(ctx, session.Envoy); return err },
		"AnnounceSessions": func(ctx context.Context) error { return s.AnnounceSessions(ctx, hub.ID, d.ID) },
		"RenewEnvoy":       func(ctx context.Context) error { return s.RenewEnvoy(ctx, session.Envoy, lease) },
	} {
		started := time.Now()
		wantErr(t, what+" with a canceled context", call(canceled), context.Canceled)
		wantErr(t, what+" after its deadline", call(late), context.DeadlineExceeded)
		if took := time.Since(started); took > 2*time.Second {
			t.Errorf("%s took %s to find its context ended", what, took)
		}
	}
	wantEqual(t, "hub", got(s.Hub(ctx, hub.ID))(t), hub)
	wantEqual(t, "device", got(s.Device(ctx, hub.ID, d.Name))(t), d)
	wantEqual(t, "devices", got(s.CountDevices(ctx, hub.ID))(t), 1)
	wantEqual(t, "learned", len(got(s.Learned(ctx, hub.ID))(t)), 0)
	wantEqual(t, "events", len(got(hubEvents(ctx, s, hub.ID))(t)), before)
}
