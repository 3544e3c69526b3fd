package fleet_test

import (
	"context"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// TestOutcomes holds, for every act, who may do it and what else can come of it.
func TestOutcomes(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		r := newRig(t, open(t))
		declared := r.declare("declared", root(t, "Declared root"))
		ca, second := root(t, "Acme"), root(t, "Acme 2")
		line := must(ca.Intermediate("Line"))(t)
		h := r.hub("factory", func(s *fleet.HubSpec) { s.Project = project })
		r.hub("taken")
		r.trusts(h, ca)
		print := trust.FingerprintOf(ca.Certificate)
		proof := fleet.AnchorSpec{Certificate: pem(second.Certificate), Challenge: challenge(t, second, h.ID.String())}
		waiver := fleet.AnchorSpec{Certificate: pem(second.Certificate), WaiveProof: true, WaiverReason: "vendor's CA"}
		must(r.fleet.CreateDevice(t.Context(), admin, "declared", fleet.DeviceSpec{Name: "SN-1"}))(t)

		f := r.fleet
		type act func(ctx context.Context, p access.Principal) error
		createHub := func(s fleet.HubSpec) act {
			return func(ctx context.Context, p access.Principal) error { _, err := f.CreateHub(ctx, p, s); return err }
		}
		updateHub := func(hub string, c fleet.HubChange) act {
			return func(ctx context.Context, p access.Principal) error { _, err := f.UpdateHub(ctx, p, hub, c); return err }
		}
		addAnchor := func(hub string, s fleet.AnchorSpec) act {
			return func(ctx context.Context, p access.Principal) error { _, err := f.AddAnchor(ctx, p, hub, s); return err }
		}
		removeAnchor := func(hub string, print trust.Fingerprint) act {
			return func(ctx context.Context, p access.Principal) error { return f.RemoveAnchor(ctx, p, hub, print, false) }
		}
		addLine := func(hub, pem string) act {
			return func(ctx context.Context, p access.Principal) error {
				_, err := f.AddIntermediates(ctx, p, hub, pem)
				return err
			}
		}
		removeLine := func(hub string, print trust.Fingerprint) act {
			return func(ctx context.Context, p access.Principal) error { return f.RemoveIntermediate(ctx, p, hub, print) }
		}
		createDevice := func(hub string, s fleet.DeviceSpec) act {
			return func(ctx context.Context, p access.Principal) error {
				_, err := f.CreateDevice(ctx, p, hub, s)
				return err
			}
		}
		createSecret := func(hub, name string) act {
			return func(ctx context.Context, p access.Principal) error {
				_, _, _, err := f.CreateSecret(ctx, p, hub, name)
				return err
			}
		}
		removeSecret := func(hub, name string) act {
			return func(ctx context.Context, p access.Principal) error { return f.RemoveSecret(ctx, p, hub, name) }
		}
		updateDevice := func(hub, name string, c fleet.DeviceChange) act {
			return func(ctx context.Context, p access.Principal) error {
				_, err := f.UpdateDevice(ctx, p, hub, name, c)
				return err
			}
		}
		deleteDevice := func(hub, name string) act {
			return func(ctx context.Context, p access.Principal) error { return f.DeleteDevice(ctx, p, hub, name) }
		}
		endSessions := func(hub, name string) act {
			return func(ctx context.Context, p access.Principal) error {
				_, _, err := f.EndSessions(ctx, p, hub, name)
				return err
			}
		}
		deleteHub := func(hub string, devices bool) act {
			return func(ctx context.Context, p access.Principal) error { return f.DeleteHub(ctx, p, hub, devices) }
		}
		rename := func(name string) fleet.HubChange { return fleet.HubChange{Name: &name} }
		on, off := fleet.HubChange{Enabled: ptr(true)}, fleet.HubChange{Enabled: ptr(false)}
		toggle := fleet.HubChange{AutoProvisioning: ptr(true)}

		for i, tt := range []struct {
			name string
			who  access.Principal
			do   act
			want string
		}{
			{"create hub", operator, createHub(fleet.HubSpec{Name: "new"}), "denied"},
			{"create hub", admin, createHub(fleet.HubSpec{Name: "taken"}), "exists"},
			{"create hub", admin, createHub(fleet.HubSpec{Name: "declared"}), "exists"},
			{"create hub", admin, createHub(fleet.HubSpec{Name: "No"}), "invalid"},
			{"create hub", admin, createHub(fleet.HubSpec{Name: "new", EventsTopicPrefix: "a/#"}), "invalid"},
			{"create hub", admin, createHub(fleet.HubSpec{Name: "new", AutoProvisioning: true}), "no_anchor"},
			{"create hub", other, createHub(fleet.HubSpec{Name: "new", Project: project}), "denied"},
			{"create hub", tenant, createHub(fleet.HubSpec{Name: "tenants"}), "done"},
			{"update hub", viewer, updateHub("factory", on), "denied"},
			{"update hub", operator, updateHub("factory", off), "done"},
			{"update hub", operator, updateHub("factory", on), "done"},
			{"update hub", operator, updateHub("factory", toggle), "done"},
			{"update hub", operator, updateHub("factory", rename("fabric")), "denied"},
			{"update hub", admin, updateHub("factory", rename("taken")), "exists"},
			{"update hub", admin, updateHub("factory", rename("declared")), "exists"},
			{"update hub", admin, updateHub("factory", rename("-")), "invalid"},
			{"update hub", admin, updateHub("taken", toggle), "no_anchor"},
			{"update hub", admin, updateHub("nothing", on), "not_found"},
			{"update hub", other, updateHub("factory", on), "not_found"},
			{"update hub", tenant, updateHub("taken", on), "not_found"},
			{"update hub", admin, updateHub("declared", on), "declared"},
			{"update hub", operator, updateHub(declared.ID.String(), on), "declared"},
			{"add anchor", operator, addAnchor("factory", proof), "denied"},
			{"add anchor", other, addAnchor("factory", proof), "not_found"},
			{"add anchor", admin, addAnchor("declared", proof), "declared"},
			{"add anchor", tenant, addAnchor("factory", waiver), "denied"},
			{"add anchor", admin, addAnchor("factory", fleet.AnchorSpec{Certificate: waiver.Certificate, WaiveProof: true}), "invalid"},
			{"add anchor", tenant, addAnchor("factory", proof), "done"},
			{"add anchor", tenant, addAnchor("factory", proof), "exists"},
			{"remove anchor", operator, removeAnchor("factory", print), "denied"},
			{"remove anchor", admin, removeAnchor("declared", print), "declared"},
			{"remove anchor", admin, removeAnchor("factory", trust.Fingerprint{1}), "not_found"},
			{"remove anchor", admin, removeAnchor("factory", trust.FingerprintOf(second.Certificate)), "done"},
			{"remove anchor", admin, removeAnchor("factory", print), "last_anchor"},
			{"add intermediates", operator, addLine("factory", pem(line.Certificate)), "denied"},
			{"add intermediates", admin, addLine("declared", pem(line.Certificate)), "declared"},
			{"add intermediates", admin, addLine("factory", "no PEM"), "invalid"},
			{"add intermediates", admin, addLine("factory", pem(second.Certificate)), "not_usable"},
			{"add intermediates", tenant, addLine("factory", pem(line.Certificate)), "conflict"},
			{"add intermediates", admin, addLine("factory", pem(line.Certificate)), "done"},
			{"add intermediates", tenant, addLine("factory", pem(line.Certificate)), "done"},
			{"remove intermediate", operator, removeLine("factory", trust.FingerprintOf(line.Certificate)), "denied"},
			{"remove intermediate", admin, removeLine("declared", trust.Fingerprint{}), "declared"},
			{"remove intermediate", admin, removeLine("factory", trust.FingerprintOf(line.Certificate)), "done"},
			{"remove intermediate", admin, removeLine("factory", trust.FingerprintOf(line.Certificate)), "not_found"},
			{"create device", viewer, createDevice("factory", fleet.DeviceSpec{Name: "SN-1"}), "denied"},
			{"create device", other, createDevice("factory", fleet.DeviceSpec{Name: "SN-1"}), "not_found"},
			{"create device", operator, createDevice("factory", fleet.DeviceSpec{Name: "a/b"}), "invalid"},
			{"create device", operator, createDevice("factory", fleet.DeviceSpec{Name: h.ID.String()}), "invalid"},
			{"create device", operator, createDevice("factory", fleet.DeviceSpec{Name: "SN-1", Description: strings.Repeat("x", 1001)}), "invalid"},
			{"create device", operator, createDevice("factory", fleet.DeviceSpec{Name: "SN-1"}), "done"},
			{"create device", operator, createDevice("factory", fleet.DeviceSpec{Name: "SN-1"}), "exists"},
			{"create device", operator, createDevice("declared", fleet.DeviceSpec{Name: "SN-2"}), "done"},
			{"update device", viewer, updateDevice("factory", "SN-1", fleet.DeviceChange{Enabled: ptr(false)}), "denied"},
			{"update device", other, updateDevice("factory", "SN-1", fleet.DeviceChange{Enabled: ptr(false)}), "not_found"},
			{"update device", operator, updateDevice("factory", "SN-9", fleet.DeviceChange{Enabled: ptr(false)}), "not_found"},
			{"update device", operator, updateDevice("factory", "SN-1", fleet.DeviceChange{DisabledReason: ptr("stolen")}), "invalid"},
			{"update device", operator, updateDevice("factory", "SN-1", fleet.DeviceChange{Enabled: ptr(false), DisabledReason: ptr("stolen")}), "done"},
			{"update device", operator, updateDevice("declared", "SN-1", fleet.DeviceChange{AllowInsecure: ptr(true)}), "done"},
			{"update device", operator, updateDevice("factory", "SN-1", fleet.DeviceChange{
				Filters: ptr(&provision.Filters{Publish: provision.Filter{Topics: []string{"a#"}}})}), "invalid"},
			{"create secret", viewer, createSecret("factory", "SN-1"), "denied"},
			{"create secret", other, createSecret("factory", "SN-1"), "not_found"},
			{"create secret", operator, createSecret("factory", "SN-9"), "not_found"},
			{"create secret", operator, createSecret("factory", "SN-1"), "done"},
			{"create secret", operator, createSecret("declared", "SN-1"), "done"},
			{"remove secret", viewer, removeSecret("factory", "SN-1"), "denied"},
			{"remove secret", operator, removeSecret("factory", "SN-9"), "not_found"},
			{"remove secret", operator, removeSecret("factory", "SN-1"), "done"},
			{"end sessions", viewer, endSessions("factory", "SN-1"), "denied"},
			{"end sessions", operator, endSessions("factory", "SN-9"), "not_found"},
			{"end sessions", operator, endSessions("factory", "SN-1"), "done"},
			{"delete hub", operator, deleteHub("factory", true), "denied"},
			{"delete hub", other, deleteHub("factory", true), "not_found"},
			{"delete hub", admin, deleteHub("declared", true), "declared"},
			{"delete hub", admin, deleteHub("factory", false), "in_use"},
			{"delete device", viewer, deleteDevice("factory", "SN-1"), "denied"},
			{"delete device", operator, deleteDevice("factory", "SN-1"), "done"},
			{"delete device", operator, deleteDevice("factory", "SN-1"), "not_found"},
			{"delete device", operator, deleteDevice("declared", "SN-1"), "done"},
			{"create device", operator, createDevice("factory", fleet.DeviceSpec{Name: "SN-1"}), "done"},
			{"delete hub", tenant, deleteHub("factory", true), "done"},
			{"delete hub", tenant, deleteHub("factory", true), "not_found"},
			{"create hub", tenant, createHub(fleet.HubSpec{Name: "factory"}), "done"},
		} {
			err := tt.do(t.Context(), tt.who)
			if got := code(err); got != tt.want {
				t.Errorf("%d: %s by %s: %s (%v), want %s", i, tt.name, tt.who.Name, got, err, tt.want)
			}
			if tt.want == "declared" && !strings.Contains(err.Error(), "hubgate.yaml") {
				t.Errorf("%d: %v does not name the file", i, err)
			}
			line := r.log.last(t)
			outcome := map[string]string{"done": "done", "denied": "denied"}[tt.want]
			if outcome == "" {
				outcome = "refused"
			}
			unchanged := i > 0 && tt.want == "done" && line["by"] != tt.who.Name
			if !unchanged && (line["msg"] != "administrator's act" || line["by"] != tt.who.Name || line["outcome"] != outcome) {
				t.Errorf("%d: %s by %s: logged %v", i, tt.name, tt.who.Name, line)
			}
		}
	})
}
