package e2e

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// firstConnection: a chip that was never registered connects, exists with the
// properties that a device has which created itself, and is known from then on.
func firstConnection(t *testing.T, w *world) {
	for _, p := range protocols {
		v := newVendor(t)
		hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate))
		chip := as(v.device(t, "SN-0001"))
		chip.from = "127.0.0.77"
		d := w.expect(t, p, chip, provision.DeviceProvisioned)
		for range 2 {
			w.expect(t, p, as(v.device(t, "SN-0001")), provision.DeviceKnown) // another leaf, the same device
		}

		devices := w.devices(t, hub.ID)
		if len(devices) != 1 {
			t.Fatalf("%s: %d devices, want 1", p, len(devices))
		}
		got := devices[0]
		if got.ID != d.Device || got.Hub != hub.ID {
			t.Errorf("%s: device %s of hub %s, the decision named %s of %s", p, got.ID, got.Hub, d.Device, d.Hub)
		}
		if got.Name != "SN-0001" {
			t.Errorf("%s: name %q", p, got.Name)
		}
		if !strings.Contains(got.Description, "127.0.0.77") {
			t.Errorf("%s: description %q does not state the address that provisioned it", p, got.Description)
		}
		if got.Filters != nil || got.AllowInsecure || got.AllowMultipleConnections || got.Disabled {
			t.Errorf("%s: filters %v, allow insecure %t, allow multiple connections %t, disabled %t; want none of it",
				p, got.Filters, got.AllowInsecure, got.AllowMultipleConnections, got.Disabled)
		}
		events := w.provisioned(t, hub.ID)
		if len(events) != 1 {
			t.Fatalf("%s: %d events, want 1", p, len(events))
		}
		if e := events[0]; e.Message != "device was auto-provisioned" || e.ObjectID != got.ID.String() || e.ObjectName != "SN-0001" ||
			e.SourceAddress != "127.0.0.77" || e.Decision != d.ID || e.Severity != provision.SeverityInfo {
			t.Errorf("%s: event %+v", p, e)
		}
	}
}

// caSent: whether a device sends its CA, too, makes no difference.
func caSent(t *testing.T, w *world) {
	v := newVendor(t)
	w.hub(t, anchors(v.root.Certificate))
	for name, certs := range map[string][]*x509.Certificate{
		"SN-1": {v.line.Certificate},
		"SN-2": {v.line.Certificate, v.root.Certificate},
		"SN-3": {v.root.Certificate, v.line.Certificate},
	} {
		chip := chain(v.device(t, name), certs...)
		w.expect(t, provision.HTTP, chip, provision.DeviceProvisioned)
		for _, p := range protocols {
			w.expect(t, p, chip, provision.DeviceKnown)
		}
	}
}

// missingIntermediate: over MQTT Envoy forwards no chain. The decision names
// what is missing, and one HTTPS connection of any device teaches it.
func missingIntermediate(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate))
	incomplete := func(p provision.Protocol, d dial) {
		t.Helper()
		decision := w.expect(t, p, d, provision.ChainIncomplete)
		if !strings.Contains(decision.Detail, v.line.Certificate.Subject.CommonName) {
			t.Errorf("%s: detail %q does not name the missing %s", p, decision.Detail, v.line.Certificate.Subject)
		}
	}
	chip := as(v.device(t, "SN-1"))
	incomplete(provision.TCP, chip)
	incomplete(provision.TCP, chip.named(host(hub.Name)))
	incomplete(provision.HTTP, chain(v.device(t, "SN-1")))
	w.empty(t, hub)

	w.expect(t, provision.HTTP, as(v.device(t, "SN-2")), provision.DeviceProvisioned)
	w.expect(t, provision.TCP, chip, provision.DeviceProvisioned)
	// A device that sends its leaf alone has to name its hub: what a hub has
	// learned gives it no claim to a stranger.
	alone := chain(v.device(t, "SN-3"))
	w.expect(t, provision.HTTP, alone, provision.ChainIncomplete)
	w.expect(t, provision.HTTP, alone.named(host(hub.Name)), provision.DeviceProvisioned)
}

// declaredIntermediate: one that an operator uploaded serves as well.
func declaredIntermediate(t *testing.T, w *world) {
	v := newVendor(t)
	w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate))
	w.expect(t, provision.TCP, as(v.device(t, "SN-1")), provision.DeviceProvisioned)
	w.expect(t, provision.HTTP, chain(v.device(t, "SN-2")), provision.DeviceProvisioned)
}

// keysAndAlgorithms: what vendors' lines sign with, and chips hold.
func keysAndAlgorithms(t *testing.T, w *world) {
	for _, issuer := range []pki.KeyKind{pki.RSA2048, pki.P384, pki.Ed25519, pki.P256} {
		root := must(pki.NewRoot("Root "+string(issuer), pki.WithKey(issuer)))(t)
		line := must(root.Intermediate("Line "+string(issuer), pki.WithKey(issuer)))(t)
		hub := w.hub(t, anchors(root.Certificate))
		for _, leaf := range []pki.KeyKind{pki.RSA2048, pki.P256, pki.P384, pki.Ed25519} {
			chip := as(must(line.Leaf(string(leaf), pki.WithKey(leaf)))(t))
			w.expect(t, provision.HTTP, chip, provision.DeviceProvisioned)
			w.expect(t, provision.TCP, chip, provision.DeviceKnown)
		}
		if n := len(w.devices(t, hub.ID)); n != 4 {
			t.Errorf("%s: %d devices, want 4", issuer, n)
		}
	}
}

// family is what the shapes of chains are made of.
type family struct {
	root, plant, line *pki.Authority // each below the one before
	next              *pki.Authority // another root of the same owner
	stranger          *pki.Authority
	junk              *pki.Identity // what the stranger's line issued
}

// newFamily makes CAs with names of their own: a chain is tried on hubs by its
// issuers' names, and by signature on few.
func newFamily(t *testing.T) family {
	t.Helper()
	root := func(name string) *pki.Authority { return must(pki.NewRoot(name + " " + t.Name()))(t) }
	below := func(a *pki.Authority, name string) *pki.Authority {
		return must(a.Intermediate(name + " " + t.Name()))(t)
	}
	f := family{root: root("Root"), next: root("Next Root"), stranger: root("Stranger")}
	f.plant = below(f.root, "Plant")
	f.line = below(f.plant, "Line")
	f.junk = must(below(f.stranger, "Strangers' Line").Leaf("junk"))(t)
	return f
}

// chainShapes: chains as they are met in the field.
func chainShapes(t *testing.T, w *world) {
	type shape struct {
		anchors []*x509.Certificate
		issuer  *pki.Authority
		sends   []*x509.Certificate
		options []pki.Option
	}
	forever := pki.WithValidity(time.Now().Add(-time.Hour), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
	for name, made := range map[string]func(f family) shape{
		"in order": func(f family) shape {
			return shape{anchors: certs(f.root), issuer: f.line, sends: certs(f.line, f.plant, f.root)}
		},
		"out of order": func(f family) shape {
			return shape{anchors: certs(f.root), issuer: f.line, sends: certs(f.root, f.plant, f.line)}
		},
		"with junk between": func(f family) shape {
			return shape{anchors: certs(f.root), issuer: f.line, sends: slices.Concat(
				certs(f.plant, f.stranger), f.junk.Chain, certs(f.line), f.junk.Chain, certs(f.root))}
		},
		"with a certificate of 56,000 bits beside the one it needs": func(f family) shape {
			return shape{anchors: certs(f.root), issuer: f.line, sends: append(certs(f.line, f.plant), huge(t, f.plant, f.line))}
		},
		"everything twice": func(f family) shape {
			return shape{anchors: certs(f.root), issuer: f.line, sends: certs(f.line, f.plant, f.line, f.plant)}
		},
		"to an anchor that is not self-signed": func(f family) shape {
			return shape{anchors: certs(f.plant), issuer: f.line, sends: certs(f.line)}
		},
		"to an anchor that issues leaves": func(f family) shape {
			return shape{anchors: certs(f.line), issuer: f.line}
		},
		"to the first of two anchors": func(f family) shape {
			return shape{anchors: certs(f.root, f.next), issuer: f.line, sends: certs(f.line, f.plant)}
		},
		"to the second of two anchors": func(f family) shape {
			return shape{anchors: certs(f.next, f.root), issuer: f.line, sends: certs(f.line, f.plant)}
		},
		"without an end of validity": func(f family) shape {
			return shape{anchors: certs(f.root), issuer: f.line, sends: certs(f.line, f.plant), options: []pki.Option{forever}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := made(newFamily(t))
			w.hub(t, anchors(s.anchors...))
			chip := chain(must(s.issuer.Leaf("SN-1", s.options...))(t), s.sends...)
			w.expect(t, provision.HTTP, chip, provision.DeviceProvisioned)
			w.expect(t, provision.TCP, chip, provision.DeviceKnown)
		})
	}
}

func certs(authorities ...*pki.Authority) []*x509.Certificate {
	list := make([]*x509.Certificate, len(authorities))
	for i, a := range authorities {
		list[i] = a.Certificate
	}
	return list
}

// toggleAndBan: a hub that creates nothing, a device that an operator
// disabled, a hub that is switched off.
func toggleAndBan(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate))
	known, unseen := as(v.device(t, "SN-1")), as(v.device(t, "SN-2"))
	d := w.expect(t, provision.HTTP, known, provision.DeviceProvisioned)
	update := func(change func(*provision.Hub)) {
		t.Helper()
		apply := func(h *provision.Hub) error {
			change(h)
			return nil
		}
		event := func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }
		if _, err := w.store.UpdateHub(t.Context(), hub.ID, apply, event); err != nil {
			t.Fatal(err)
		}
	}
	settles := func(p provision.Protocol, chip dial, want provision.Reason) {
		t.Helper()
		for began := time.Now(); time.Since(began) < patience; {
			if w.connect(t, p, chip).Reason == want {
				return
			}
		}
		t.Fatalf("%s: never %s", p, want)
	}
	update(func(h *provision.Hub) { h.AutoProvisioning = false })
	for _, p := range protocols {
		settles(p, as(v.device(t, "SN-9")), provision.DeviceUnknown)
		w.expect(t, p, unseen, provision.DeviceUnknown)
		w.expect(t, p, known, provision.DeviceKnown)
	}
	_, err := w.store.UpdateDevice(t.Context(), provision.Update{
		Hub: hub.ID, Device: d.Device,
		Change: func(d *provision.Device) error {
			d.Disabled = true
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.Disabled.OnDevice(d, time.Now()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range protocols {
		settles(p, known, provision.DeviceDisabled)
	}
	update(func(h *provision.Hub) { h.Disabled = true })
	for _, p := range protocols {
		settles(p, unseen, provision.HubDisabled)
	}
	if n := len(w.devices(t, hub.ID)); n != 1 {
		t.Errorf("%d devices, want 1", n)
	}
}
