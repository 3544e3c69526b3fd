package trust

import (
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

func serialOf(issuer, c *x509.Certificate) []RevocationID {
	return []RevocationID{SerialID(KeyHashOf(issuer), c.SerialNumber)}
}

func keyOf(c *x509.Certificate) []RevocationID { return []RevocationID{KeyID(KeyHashOf(c))} }

func TestRevokedIsRefused(t *testing.T) {
	f := newFactory("Acme")
	root, line, leaf := f.root.Certificate, f.line.Certificate, f.device.Certificate
	other := must(f.line.Leaf("SN-2")).Certificate
	for name, c := range map[string]struct {
		ids  []RevocationID
		want *x509.Certificate // nil: not refused
	}{
		"nothing":                         {nil, nil},
		"the leaf by serial":              {serialOf(line, leaf), leaf},
		"the leaf by key":                 {keyOf(leaf), leaf},
		"the intermediate by serial":      {serialOf(root, line), line},
		"the intermediate by key":         {keyOf(line), line},
		"another leaf":                    {slices.Concat(serialOf(line, other), keyOf(other)), nil},
		"the leaf's serial at the root":   {serialOf(root, leaf), nil},
		"the anchor, which is not on any": {slices.Concat(serialOf(root, root), keyOf(root)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, b := range []*Bundle{bundleOf(certs(root)), bundleOf(certs(root), line)} {
				b = b.Without(NewRevocations(c.ids))
				if c.want == nil {
					path := admitted(t, b, Options{}, leaf, line)
					if NewRevocations(c.ids).Any(path.RevocationIDs()) {
						t.Error("the path is revoked, and was found")
					}
					continue
				}
				failure := refused(t, b, Options{}, leaf.Raw, line.Raw)
				if failure.Fault != Revoked || !failure.Certificate.Equal(c.want) || !failure.Signed {
					t.Errorf("%v about %s, signed %t", failure, failure.Certificate.Subject, failure.Signed)
				}
			}
		})
	}
}

// TestRevokedIntermediateIsAvoided: a vendor's line was certified anew, and the
// old certificate revoked. Devices bring the old one for ever.
func TestRevokedIntermediateIsAvoided(t *testing.T) {
	f := newFactory("Acme")
	old := f.line.Certificate
	renewed := must(f.root.Intermediate("Acme Line", pki.WithSigner(f.line.Key), rawSubject(old))).Certificate
	for name, known := range map[string][]*x509.Certificate{
		"the old one known": {old}, "both known": {old, renewed}, "none known": nil,
	} {
		b := bundleOf(certs(f.root.Certificate), known...).Without(NewRevocations(serialOf(f.root.Certificate, old)))
		path := admitted(t, b, Options{Attested: []Fingerprint{FingerprintOf(f.device.Certificate), FingerprintOf(old)}},
			f.device.Certificate, old, renewed)
		if !path.Issuer().Equal(renewed) {
			t.Errorf("%s: the path goes through the revoked certificate", name)
		}
	}
}

// TestRevocationVoidsVerdicts: what was found before does not count after.
func TestRevocationVoidsVerdicts(t *testing.T) {
	f := newFactory("Acme")
	cache := must(NewCache(CacheConfig{}))
	b := bundleOf(certs(f.root.Certificate))
	chain := chainOf(f.device.Certificate, f.line.Certificate)
	if _, _, err := cache.Verify(t.Context(), b, chain, Options{}); err != nil {
		t.Fatal(err)
	}
	without := b.Without(NewRevocations(keyOf(f.device.Certificate)))
	if _, result, err := cache.Verify(t.Context(), without, chain, Options{}); err == nil || result != Miss {
		t.Errorf("a revoked leaf: %v, %s", err, result)
	}
	if _, result, err := cache.Verify(t.Context(), without.Without(nil), chain, Options{}); err != nil || result != Miss {
		t.Errorf("no longer revoked: %v, %s", err, result)
	}
}

func TestRevocationIDs(t *testing.T) {
	f := newFactory("Acme")
	path := admitted(t, bundleOf(certs(f.root.Certificate)), Options{}, f.device.Certificate, f.line.Certificate)
	want := slices.Concat(serialOf(f.line.Certificate, f.device.Certificate), keyOf(f.device.Certificate),
		serialOf(f.root.Certificate, f.line.Certificate), keyOf(f.line.Certificate))
	if !slices.Equal(path.RevocationIDs(), want) {
		t.Errorf("%v, want %v", path.RevocationIDs(), want)
	}
	if keys := path.Issuers(); !slices.Equal(keys, []KeyHash{KeyHashOf(f.line.Certificate), KeyHashOf(f.root.Certificate)}) {
		t.Errorf("issuers %v", keys)
	}
	if (Path{}).RevocationIDs() != nil || (Path{}).Issuers() != nil {
		t.Error("no path has IDs")
	}
	// Serial numbers of the same octets, and one that is negative, differ.
	ids := []RevocationID{
		SerialID(KeyHash{}, big.NewInt(0)), SerialID(KeyHash{}, big.NewInt(1)), SerialID(KeyHash{}, big.NewInt(-1)),
		SerialID(KeyHash{}, big.NewInt(256)), SerialID(KeyHash{1}, big.NewInt(1)), KeyID(KeyHash{}), KeyID(KeyHash{1}),
	}
	if r := NewRevocations(ids); r.Len() != len(ids) {
		t.Errorf("%d IDs of %d", r.Len(), len(ids))
	}
	for _, id := range ids {
		if back, err := ParseRevocationID(id.String()); err != nil || back != id {
			t.Errorf("%s: %s, %v", id, back, err)
		}
	}
	for _, text := range []string{"", "00", ids[0].String() + "00", "zz" + ids[0].String()[2:]} {
		if _, err := ParseRevocationID(text); err == nil {
			t.Errorf("%q is taken as an ID", text)
		}
	}
}

// BenchmarkReadCRL is what a list of 100,000 entries costs once.
func BenchmarkReadCRL(b *testing.B) {
	f := newFactory("Acme")
	der := must(f.line.CRL(1, nil, func(l *x509.RevocationList) {
		for i := range 100_000 {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: new(big.Int).Lsh(big.NewInt(int64(i+1)), 64), RevocationTime: time.Now(),
			})
		}
	}))
	b.SetBytes(int64(len(der)))
	for b.Loop() {
		if r := NewRevocations(must(ReadCRL(der, KeyHash{})).Revoked); r.Len() != 100_000 {
			b.Fatal(r.Len())
		}
	}
}
