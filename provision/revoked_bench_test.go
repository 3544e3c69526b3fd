package provision_test

import (
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// BenchmarkAdmitKnownBesideRevoked shows that a known device pays nothing for what
// is revoked on its hub. A chain that is verified anew pays two look-ups for
// each certificate.
func BenchmarkAdmitKnownBesideRevoked(b *testing.B) {
	for name, revoked := range map[string]int{"nothing": 0, "100000 serials": 100_000} {
		b.Run(name, func(b *testing.B) {
			benchStores(b, func(b *testing.B, store benchStore) {
				root, line := benchVendor(b)
				gate := benchGate(b, store, root)
				c := sealed(over(benchLeaf(b, line, "SN-1")), nil)
				admit(b, gate, c, provision.DeviceProvisioned)
				if revoked > 0 {
					revokeMany(b, store, gate, line, revoked)
				}
				admit(b, gate, c, provision.DeviceKnown)
				b.ReportAllocs()
				for b.Loop() {
					admit(b, gate, c, provision.DeviceKnown)
				}
			})
		})
	}
}

// revokeMany has a CRL of the line with so many entries.
func revokeMany(b *testing.B, store benchStore, gate *provision.Gate, line *pki.Authority, n int) {
	b.Helper()
	der, err := line.CRL(1, nil, func(l *x509.RevocationList) {
		for i := range n {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: new(big.Int).Lsh(big.NewInt(int64(i+1)), 64), RevocationTime: time.Now(),
			})
		}
	})
	var list *trust.CRL
	if err == nil {
		list, err = trust.ParseCRL(der, []*x509.Certificate{line.Certificate})
	}
	h, _ := gate.Hub("bench")
	err = errors.Join(err, store.UpdateRevocations(b.Context(), h.ID,
		func(r *provision.Revocations) error { return r.PutCRL(list, "", time.Now()) },
		func(provision.Hub) provision.Event { return provision.Event{} }), gate.Refresh(b.Context(), h.ID))
	if err != nil {
		b.Fatal(err)
	}
	if h, _ = gate.Hub("bench"); len(h.Lists()) != 1 {
		b.Fatal("the list is not in force")
	}
}
