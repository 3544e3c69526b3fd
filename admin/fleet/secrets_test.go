package fleet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
)

// TestSecrets: each is a new one and ends the last, with the connections that may
// have come with it; hubgate keeps its hash alone.
func TestSecrets(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		r := newRig(t, open(t))
		h := r.hub("factory")
		id := must(r.fleet.CreateDevice(t.Context(), operator, "factory", fleet.DeviceSpec{Name: "SN-1", AllowInsecure: true}))(t).ID
		device := func() provision.Device {
			t.Helper()
			return must(r.store.DeviceByID(t.Context(), h.ID, id))(t)
		}
		create := func() string {
			t.Helper()
			_, d, secret, err := r.fleet.CreateSecret(t.Context(), operator, "factory", "SN-1")
			if err != nil || d.ID != id {
				t.Fatal(d, err)
			}
			return secret
		}
		ended := func(what string, want bool) {
			t.Helper()
			if got := device().SessionsEndBefore; got.IsZero() == want {
				t.Errorf("%s: connections end before %s", what, got)
			}
			// Begin again.
			must(r.store.UpdateDevice(t.Context(), provision.Update{Hub: h.ID, Device: id,
				Change: func(d *provision.Device) error { d.SessionsEndBefore = time.Time{}; return nil },
				Event:  func(d provision.Device) provision.Event { return provision.Updated.OnDevice(d, time.Now()) }}))(t)
		}
		allow := func(ctx context.Context, insecure bool) {
			t.Helper()
			must(r.fleet.UpdateDevice(ctx, operator, "factory", "SN-1", fleet.DeviceChange{AllowInsecure: &insecure}))(t)
		}

		first := create()
		ended("the first", false)
		if d := device(); d.Secret != provision.SecretHashOf(first) {
			t.Errorf("the record has %x", d.Secret)
		}
		second := create()
		ended("another", true)
		if d := device(); first == second || d.Secret != provision.SecretHashOf(second) {
			t.Errorf("%s, then %s; the record has %x", first, second, d.Secret)
		}
		allow(t.Context(), false)
		ended("the flag taken away", true)
		allow(t.Context(), true)
		ended("the flag set", false)
		if err := r.fleet.RemoveSecret(t.Context(), operator, "factory", "SN-1"); err != nil || !device().Secret.IsZero() {
			t.Errorf("%v, %x", err, device().Secret)
		}
		ended("removed", true)
		version := device().Version
		if err := r.fleet.RemoveSecret(t.Context(), operator, "factory", "SN-1"); err != nil || device().Version != version {
			t.Errorf("removed once more: %v", err)
		}
		allow(t.Context(), false)
		ended("the flag, without a secret", false)
		if log := r.log.String(); strings.Contains(log, first) || strings.Contains(log, second) {
			t.Errorf("the log has a secret:\n%s", log)
		}
	})
}
