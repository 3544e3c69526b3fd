package fleet_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

func keyOf(c provision.Connection) trust.KeyHash {
	chain, err := trust.ParseChain(c.Leaf, nil)
	if err != nil {
		panic(err)
	}
	return trust.KeyHashOf(chain.Leaf())
}

// TestApproval: a known device that comes with another key waits for an
// operator, who sees which key it is; the first key stays on record.
func TestApproval(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		r := newRig(t, open(t))
		h := r.hub("factory")
		ca := root(t, "Acme")
		r.trusts(h, ca)
		policy := provision.ApproveKeys
		r.set(h, fleet.HubChange{AutoProvisioning: ptr(true), Policy: &fleet.PolicyChange{Keys: &policy}})
		first, second, third := connection(t, ca, "SN-1"), connection(t, ca, "SN-1"), connection(t, ca, "SN-1")
		r.admits(first, provision.DeviceProvisioned)
		pending := func(want trust.KeyHash) {
			t.Helper()
			if d := must(r.store.Device(t.Context(), h.ID, "SN-1"))(t); d.PendingKey != want || d.FirstKey != keyOf(first) {
				t.Errorf("pending %s, first %s; want %s, %s", d.PendingKey, d.FirstKey, want, keyOf(first))
			}
		}
		dry := second
		dry.DryRun = true
		r.admits(dry, provision.DeviceKeyChanged)
		pending(trust.KeyHash{})
		r.admits(second, provision.DeviceKeyChanged)
		pending(keyOf(second))
		r.admits(third, provision.DeviceKeyChanged)
		pending(keyOf(second)) // not more than once a minute
		r.admits(first, provision.DeviceKnown)

		if _, err := r.fleet.ApproveKey(t.Context(), viewer, "factory", "SN-1", keyOf(second)); err == nil {
			t.Error("a viewer approved a key")
		}
		if d := must(r.fleet.ApproveKey(t.Context(), operator, "factory", "SN-1", keyOf(second)))(t); d.CurrentKey != keyOf(second) {
			t.Errorf("current key %s", d.CurrentKey)
		}
		pending(trust.KeyHash{})
		eventually(t, "the key is let in", func() bool { return r.gate.Admit(t.Context(), second).Allowed() })
		r.admits(first, provision.DeviceKeyChanged)
		// A key that was announced before the device comes with it.
		must(r.fleet.ApproveKey(t.Context(), operator, "factory", "SN-1", keyOf(third)))(t)
		eventually(t, "the other key is let in", func() bool { return r.gate.Admit(t.Context(), third).Allowed() })
		must(r.fleet.CreateDevice(t.Context(), operator, "factory", fleet.DeviceSpec{Name: "SN-2"}))(t)
		if _, err := r.fleet.ApproveKey(t.Context(), operator, "factory", "SN-2", keyOf(third)); code(err) != string(fleet.Conflict) {
			t.Errorf("a device that never connected: %v", err)
		}

		// A custom certificate is the one key: another that is approved would not count.
		r.admits(first, provision.DeviceKeyChanged)
		eventually(t, "its key waits", func() bool {
			d := must(r.store.Device(t.Context(), h.ID, "SN-1"))(t)
			return d.PendingKey == keyOf(first)
		})
		r.set(h, fleet.HubChange{Policy: &fleet.PolicyChange{CustomCertificates: ptr(true)}})
		own := must(root(t, "Anybody").Leaf("SN-1"))(t)
		must(r.fleet.SetCustomCertificate(t.Context(), operator, "factory", "SN-1", pem(own.Certificate)))(t)
		pending(trust.KeyHash{})
		_, err := r.fleet.ApproveKey(t.Context(), operator, "factory", "SN-1", keyOf(first))
		if code(err) != string(fleet.Conflict) || !strings.Contains(err.Error(), "`hubgate device certificate remove`") {
			t.Errorf("a device with a custom certificate: %v", err)
		}
		if err := r.fleet.RemoveCustomCertificate(t.Context(), operator, "factory", "SN-1"); err != nil {
			t.Fatal(err)
		}
		must(r.fleet.ApproveKey(t.Context(), operator, "factory", "SN-1", keyOf(first)))(t)
	})
}

// TestApprovalRace: whatever connects while keys are approved, the record has the
// key that was approved last, and no other is let in once the gate knows.
func TestApprovalRace(t *testing.T) {
	onStores(t, func(t *testing.T, open opener) {
		rigs := []*rig{newRig(t, open(t)), newRig(t, open(t))}
		h := rigs[0].hub("factory")
		ca := root(t, "Acme")
		rigs[0].trusts(h, ca)
		policy := provision.ApproveKeys
		rigs[0].set(h, fleet.HubChange{AutoProvisioning: ptr(true), Policy: &fleet.PolicyChange{Keys: &policy}})
		chips := make([]provision.Connection, 8)
		for i := range chips {
			chips[i] = connection(t, ca, "SN-1")
		}
		eventually(t, "the device is there", func() bool { return rigs[0].gate.Admit(t.Context(), chips[0]).Allowed() })
		stop := make(chan struct{})
		var connecting sync.WaitGroup
		for i, chip := range chips {
			connecting.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						rigs[i%2].gate.Admit(t.Context(), chip)
					}
				}
			})
		}
		for _, chip := range chips[1:] {
			must(rigs[0].fleet.ApproveKey(t.Context(), operator, "factory", "SN-1", keyOf(chip)))(t)
			time.Sleep(5 * time.Millisecond)
		}
		last := keyOf(chips[len(chips)-1])
		for _, r := range rigs {
			eventually(t, "the last key is let in", func() bool { return r.gate.Admit(t.Context(), chips[len(chips)-1]).Allowed() })
			for _, chip := range chips[:len(chips)-1] {
				r.admits(chip, provision.DeviceKeyChanged)
			}
		}
		close(stop)
		connecting.Wait()
		if d := must(rigs[0].store.Device(t.Context(), h.ID, "SN-1"))(t); d.CurrentKey != last || d.FirstKey != keyOf(chips[0]) {
			t.Errorf("current key %s, first %s", d.CurrentKey, d.FirstKey)
		}
	})
}
