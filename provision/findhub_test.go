package provision_test

import (
	"crypto/x509"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// TestARefusedPathIsInNobodysWay: a tenant cross-signs another vendor's line, has
// his hub learn that from a chip of the line, and revokes it. The line's devices
// are still found to be their own hub's.
func TestARefusedPathIsInNobodysWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor, mallory := root(t, "Vendor"), root(t, "Mallory")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line 7"))
	cross := must[*x509.Certificate](t)(mallory.CrossSign(line))
	evil := r.hub("evil", anchors(mallory.Certificate))
	r.expect(over(leaf(t, line, "CHIP"), sni("evil.iot.example.com"), func(c *provision.Connection) {
		c.Presented = [][]byte{c.Leaf, cross.Raw}
	}), provision.DeviceProvisioned)
	r.revocations(evil.ID, revoke(bySerial(mallory.Certificate, cross)))
	revoked := over(leaf(t, line, "CHIP"), leafOnly, sni("evil.iot.example.com"))
	r.eventually("it is revoked", func() bool { return r.gate.Admit(t.Context(), revoked).Reason == provision.CertificateRevoked })
	r.hub("victim", anchors(vendor.Certificate), intermediates(line.Certificate))
	d := r.expect(over(leaf(t, line, "SN-1"), leafOnly, func(c *provision.Connection) { c.Attested = c.Attested[:1] }), provision.DeviceProvisioned)
	if d.HubName != "victim" {
		t.Errorf("admitted to %s", d.HubName)
	}
}
