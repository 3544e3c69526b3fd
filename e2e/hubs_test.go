package e2e

import (
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// twoHubs: two fleets behind one port, found by SNI (name or ID, in any case)
// and by issuer. The same common name on both is two devices.
func twoHubs(t *testing.T, w *world) {
	a, b := newVendor(t), newVendor(t)
	hubA := w.hub(t, anchors(a.root.Certificate), intermediates(a.line.Certificate))
	hubB := w.hub(t, anchors(b.root.Certificate), intermediates(b.line.Certificate))
	for _, side := range []struct {
		vendor *vendor
		hub    provision.Hub
	}{{a, hubA}, {b, hubB}} {
		want := provision.DeviceIDOf(side.hub.ID, "SN-1")
		for _, p := range protocols {
			for i, sni := range []string{
				"", "elsewhere.example.net",
				host(side.hub.Name), host(strings.ToUpper(side.hub.Name)), host(side.hub.ID.String()), host(strings.ToUpper(side.hub.ID.String())),
			} {
				chip := as(side.vendor.device(t, "SN-1")).named(sni)
				chip.anyServer = sni == "elsewhere.example.net"
				d := w.connect(t, p, chip)
				first := p == provision.HTTP && i == 0
				if !d.Allowed() || d.Device != want || d.Hub != side.hub.ID || (d.Reason == provision.DeviceProvisioned) != first {
					t.Errorf("%s, SNI %q: %s, device %s of hub %s; want %s of %s", p, sni, d.Reason, d.Device, d.HubName, want, side.hub.Name)
				}
			}
		}
	}
	for _, hub := range []provision.Hub{hubA, hubB} {
		if n := len(w.devices(t, hub.ID)); n != 1 {
			t.Errorf("%d devices on %s, want 1", n, hub.Name)
		}
	}
}

// noWayIntoAnotherHub: nothing that a device of one hub says makes it a device
// of another.
func noWayIntoAnotherHub(t *testing.T, w *world) {
	a, b := newVendor(t), newVendor(t)
	hubA := w.hub(t, anchors(a.root.Certificate), intermediates(a.line.Certificate))
	hubB := w.hub(t, anchors(b.root.Certificate), intermediates(b.line.Certificate))
	deviceB := provision.DeviceIDOf(hubB.ID, "SN-1").String()
	chip := as(a.device(t, "SN-1"))
	with := func(d dial, authority string, header http.Header) dial {
		d.authority, d.header = authority, header
		return d
	}
	claims := http.Header{
		"X-Hub-Id": {hubB.ID.String()}, "X-Device-Id": {deviceB}, "Hubgate-Hub": {hubB.Name}, "Hub": {hubB.Name},
		"X-Forwarded-Host": {host(hubB.Name)}, "X-Envoy-Original-Host": {host(hubB.Name)},
		"X-Forwarded-Client-Cert": {"Hash=" + strings.Repeat("0", 64)},
	}
	for _, name := range []string{hubB.Name, hubB.ID.String()} {
		sni := host(name)
		// The name decides, and the chain does not fit it.
		for _, p := range protocols {
			if d := w.connect(t, p, chip.named(sni)); d.Reason != provision.ChainIncomplete && d.Reason != provision.ChainUntrusted {
				t.Errorf("%s, SNI %s: %s", p, sni, d.Reason)
			}
		}
		w.expect(t, provision.HTTP, chain(a.device(t, "SN-1"), a.line.Certificate, a.root.Certificate).named(sni), provision.ChainUntrusted)
		// Both CAs in one chain do not help either.
		both := chain(a.device(t, "SN-1"), b.line.Certificate, a.line.Certificate, b.root.Certificate)
		if d := w.connect(t, provision.HTTP, both.named(sni)); d.Allowed() {
			t.Errorf("SNI %s: %s", sni, d.Reason)
		}
		// The authority contradicts the handshake, or the certificate.
		w.expect(t, provision.HTTP, with(chip.named(host(hubA.Name)), sni, nil), provision.AuthorityMismatch)
		w.expect(t, provision.HTTP, with(chip, sni, nil), provision.AuthorityMismatch)
		w.expect(t, provision.HTTP, with(chip, sni+":8443", claims), provision.AuthorityMismatch)
	}
	w.expect(t, provision.HTTP, with(chip, "nobody."+domain, nil), provision.AuthorityMismatch)
	for _, p := range protocols {
		w.expect(t, p, chip.named("nobody."+domain), provision.HubUnknown)
		deeper := chip.named("a.b." + domain)
		deeper.anyServer = true
		w.expect(t, p, deeper, provision.HubUnknown)
	}
	w.empty(t, hubA)
	// Headers alone change nothing: it stays what it is.
	d := w.expect(t, provision.HTTP, with(chip, "", claims), provision.DeviceProvisioned)
	if d.Hub != hubA.ID {
		t.Errorf("created on hub %s, want %s", d.HubName, hubA.Name)
	}
	w.empty(t, hubB)
}

// lookAlikes: a CA with the subject, key ID and serial of a trusted one gets
// nobody in, and makes no hub ambiguous, even installed on another hub.
func lookAlikes(t *testing.T, w *world) {
	real := newVendor(t)
	copyOf := func(c *x509.Certificate) pki.Option {
		return pki.WithTemplate(func(t *x509.Certificate) {
			t.RawSubject, t.SubjectKeyId, t.SerialNumber = c.RawSubject, c.SubjectKeyId, c.SerialNumber
		})
	}
	root := must(pki.NewRoot("", copyOf(real.root.Certificate)))(t)
	line := must(root.Intermediate("", copyOf(real.line.Certificate)))(t)
	fake := &vendor{root, line}
	hub := w.hub(t, anchors(real.root.Certificate), intermediates(real.line.Certificate))

	refused := func(step string) {
		t.Helper()
		for _, sni := range []string{"", host(hub.Name)} {
			for _, sends := range [][]*x509.Certificate{{line.Certificate, root.Certificate}, {line.Certificate}, {real.line.Certificate}, nil} {
				chip := chain(fake.device(t, "SN-1"), sends...).named(sni)
				for _, p := range protocols {
					if d := w.connect(t, p, chip); d.Allowed() && d.Hub == hub.ID || d.Reason == provision.HubAmbiguous {
						t.Errorf("%s, SNI %q, %s: %s on %s", step, sni, p, d.Reason, d.HubName)
					}
				}
			}
		}
	}
	refused("before anything is known")
	w.empty(t, hub)
	for _, p := range protocols { // the real ones get in by issuer all the same
		d := w.connect(t, p, as(real.device(t, "SN-1")))
		if !d.Allowed() || d.Hub != hub.ID {
			t.Errorf("%s: %s", p, d.Reason)
		}
	}
	// Now somebody installs the look-alike on a hub of their own.
	other := w.hub(t, anchors(root.Certificate), intermediates(line.Certificate))
	refused("with the look-alike on another hub")
	for _, p := range protocols {
		if d := w.expect(t, p, as(real.device(t, "SN-1")), provision.DeviceKnown); d.Hub != hub.ID {
			t.Errorf("%s: the real device landed on hub %s", p, d.HubName)
		}
		if d := w.expect(t, p, as(fake.device(t, "SN-1")), provision.DeviceKnown); d.Hub != other.ID {
			t.Errorf("%s: the look-alike's device landed on hub %s", p, d.HubName)
		}
	}
	if n := len(w.devices(t, hub.ID)); n != 1 {
		t.Errorf("%d devices on the real hub, want 1", n)
	}
}
