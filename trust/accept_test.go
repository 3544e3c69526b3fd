package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// TestVerifyAccepts has one row for every sound chain that must get in.
func TestVerifyAccepts(t *testing.T) {
	f := newFactory("Acme")
	root, line, device := f.root, f.line, f.device
	other := newFactory("Other")
	forever := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	leafOf := func(a *pki.Authority, opts ...pki.Option) *x509.Certificate {
		return must(a.Leaf("SN-1", opts...)).Certificate
	}
	caOf := func(a *pki.Authority, name string, opts ...pki.Option) *pki.Authority {
		return must(a.Intermediate(name, opts...))
	}
	second := caOf(line, "Line 2")

	// A rollover: the new key, signed with the old, under the same name.
	newRoot := must(pki.NewRoot("Acme Root", rawSubject(root.Certificate)))
	rollover := must(root.CrossSign(newRoot, caOption(func(t *x509.Certificate) { t.AuthorityKeyId = root.Certificate.SubjectKeyId })))
	rolloverNoID := must(root.CrossSign(newRoot)) // crypto/x509 leaves it out where the names are the same
	renewed := must(root.CrossSign(line, pki.WithValidity(now.Add(-time.Hour), forever)))
	expiredLine := must(root.CrossSign(line, pki.WithValidity(now.Add(-2*time.Hour), now.Add(-time.Hour))))
	expiredRoot := must(pki.NewRoot("Acme Root", pki.WithSigner(root.Key), pki.WithValidity(now.Add(-2*time.Hour), now.Add(-time.Hour)))).Certificate
	constrained := must(root.CrossSign(line, extension(oidNameConstraints, true, directoryNameConstraint(0))))
	toOther := must(other.root.CrossSign(line))
	toAcme, toOtherLine := must(line.CrossSign(other.line)), must(other.line.CrossSign(line))

	noIDs := must(pki.NewRoot("No IDs Root", noSubjectKeyID))
	noIDsLine := caOf(noIDs, "No IDs Line", noSubjectKeyID)
	wrongID := caOf(root, "Wrong ID", pki.WithEdit(func(t *pki.TBS) {
		for i, e := range t.Extensions {
			if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 35}) {
				t.Extensions[i].Value = []byte{0x30, 0x06, 0x80, 0x04, 1, 2, 3, 4}
			}
		}
	}))
	legacyRoot := must(pki.NewRoot("Legacy"))
	sha1Cross := must(legacyRoot.CrossSign(root, pki.WithSHA1()))
	sha1Line := must(legacyRoot.CrossSign(line, pki.WithSHA1()))
	weakCA := caOf(legacyRoot, "Weak", pki.WithKey(pki.RSA1024))
	byWeak := must(weakCA.CrossSign(root))

	type row struct {
		name      string
		anchors   []*x509.Certificate
		known     []*x509.Certificate
		leaf      *x509.Certificate
		presented []*x509.Certificate
		want      string
	}
	acme := certs(root.Certificate)
	const usual = "SN-1 < Acme Line < Acme Root"
	rows := []row{
		{"leaf and intermediate", acme, nil, device.Certificate, certs(line.Certificate), usual},
		{"with the anchor", acme, nil, device.Certificate, certs(line.Certificate, root.Certificate), usual},
		{"leaf repeated at the head", acme, nil, device.Certificate, certs(device.Certificate, line.Certificate), usual},
		{"leaf repeated in the middle", acme, nil, device.Certificate, certs(line.Certificate, device.Certificate), usual},
		{"duplicates", acme, nil, device.Certificate, certs(line.Certificate, line.Certificate, root.Certificate, line.Certificate), usual},
		{"leaf signed by the anchor", acme, nil, leafOf(root), nil, "SN-1 < Acme Root"},
		{"leaf only, intermediate known", acme, certs(line.Certificate), device.Certificate, nil, usual},
		{"intermediate known and presented", acme, certs(line.Certificate), device.Certificate, certs(line.Certificate), usual},
		{"anchor also given as intermediate", acme, certs(root.Certificate, line.Certificate), device.Certificate, nil, usual},
		{"two intermediates in order", acme, nil, leafOf(second), certs(second.Certificate, line.Certificate), "SN-1 < Line 2 < Acme Line < Acme Root"},
		{"two intermediates in reverse, junk between", acme, nil, leafOf(second),
			certs(other.root.Certificate, line.Certificate, other.device.Certificate, second.Certificate, other.line.Certificate), "SN-1 < Line 2 < Acme Line < Acme Root"},
		{"upper intermediate known", acme, certs(line.Certificate), leafOf(second), certs(second.Certificate), "SN-1 < Line 2 < Acme Line < Acme Root"},
		{"two anchors, the second", certs(other.root.Certificate, root.Certificate), nil, device.Certificate, certs(line.Certificate), usual},
		{"the same anchor twice", certs(root.Certificate, root.Certificate), nil, device.Certificate, certs(line.Certificate), usual},
		{"a non-self-signed anchor", certs(line.Certificate), nil, device.Certificate, nil, "SN-1 < Acme Line"},
		{"a non-self-signed anchor, all presented", certs(line.Certificate), nil, device.Certificate, certs(line.Certificate, root.Certificate), "SN-1 < Acme Line"},
		{"an anchor below another", certs(line.Certificate, root.Certificate), nil, device.Certificate, certs(line.Certificate), "SN-1 < Acme Line"},
		{"never expires", acme, nil, leafOf(line, pki.WithValidity(now, forever)), certs(line.Certificate), usual},
		{"within the leeway", acme, nil, leafOf(line, pki.WithValidity(now.Add(NotBeforeLeeway), forever)), certs(line.Certificate), usual},
		{"expires now", acme, nil, leafOf(line, pki.WithValidity(now.Add(-time.Hour), now)), certs(line.Certificate), usual},
		{"any usage", acme, nil, leafOf(line, caOption(func(t *x509.Certificate) {
			t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		})), certs(line.Certificate), usual},
		{"no usages", acme, nil, leafOf(line, caOption(func(t *x509.Certificate) {
			t.ExtKeyUsage, t.KeyUsage = nil, 0
		})), certs(line.Certificate), usual},
		{"self-issued key rollover", acme, nil, leafOf(newRoot), certs(rollover), "SN-1 < Acme Root < Acme Root"},
		{"the same without the old key's identifier", acme, nil, leafOf(newRoot), certs(rolloverNoID, newRoot.Certificate), "SN-1 < Acme Root < Acme Root"},
		{"no key identifiers", certs(noIDs.Certificate), nil, leafOf(noIDsLine), certs(noIDsLine.Certificate), "SN-1 < No IDs Line < No IDs Root"},
		{"wrong key identifier", acme, nil, leafOf(wrongID), certs(wrongID.Certificate), "SN-1 < Wrong ID < Acme Root"},
		{"look-alike of the anchor presented", acme, nil, device.Certificate, certs(lookAlike(root).Certificate, line.Certificate), usual},
		{"look-alike of the intermediate presented", acme, nil, device.Certificate, certs(lookAlike(line).Certificate, line.Certificate), usual},
		{"look-alike presented, intermediate known", acme, certs(line.Certificate), device.Certificate, certs(lookAlike(line).Certificate), usual},
		{"look-alike anchor beside the anchor", certs(lookAlike(root).Certificate, root.Certificate), nil, device.Certificate, certs(line.Certificate), usual},
		{"expired and renewed intermediate", acme, nil, device.Certificate, certs(expiredLine, renewed), usual},
		{"expired known, renewed presented", acme, certs(expiredLine), device.Certificate, certs(renewed), usual},
		{"expired presented, renewed known", acme, certs(renewed), device.Certificate, certs(expiredLine), usual},
		{"expired anchor, and its key under another", certs(expiredLine, root.Certificate), nil, device.Certificate, certs(line.Certificate), usual},
		{"constrained and free intermediate", acme, nil, device.Certificate, certs(constrained, line.Certificate), usual},
		{"expired anchor, its key certified by another, intermediate known", certs(expiredRoot, other.root.Certificate), certs(line.Certificate), device.Certificate,
			certs(line.Certificate, must(other.root.CrossSign(root))), "SN-1 < Acme Line < Acme Root < Other Root"},
		{"cross-signed, the other root trusted", certs(other.root.Certificate), nil, device.Certificate, certs(line.Certificate, toOther), "SN-1 < Acme Line < Other Root"},
		{"cross-signed loop", acme, nil, device.Certificate, certs(toOtherLine, toAcme, line.Certificate), usual},
		{"cross-signed loop, known", acme, certs(toOtherLine, toAcme, line.Certificate), device.Certificate, nil, usual},
		{"SHA-1 in an anchor's signature", certs(sha1Cross), nil, device.Certificate, certs(line.Certificate), usual},
		{"SHA-1 in a presented anchor's signature", certs(sha1Cross), nil, device.Certificate, certs(line.Certificate, sha1Cross), usual},
		{"SHA-1 in a cross-signature that is not needed", acme, nil, device.Certificate, certs(sha1Line, line.Certificate), usual},
		{"weak key in a certificate that is not needed", acme, nil, device.Certificate, certs(line.Certificate, byWeak, weakCA.Certificate), usual},
	}
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.RSA3072, pki.P256, pki.P384, pki.P521, pki.Ed25519} {
		issuer := caOf(root, "Line", pki.WithKey(kind))
		rows = append(rows,
			row{string(kind) + " issuer", acme, nil, leafOf(issuer), certs(issuer.Certificate), "SN-1 < Line < Acme Root"},
			row{string(kind) + " leaf", acme, nil, leafOf(line, pki.WithKey(kind)), certs(line.Certificate), usual},
		)
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			b := bundleOf(r.anchors, r.known...)
			path := admitted(t, b, Options{Now: now}, r.leaf, r.presented...)
			if got := names(path.Certificates()); got != r.want {
				t.Errorf("path %s, want %s", got, r.want)
			}
			if !b.Knows(FingerprintOf(path.Anchor())) || path.Leaf() == nil || !path.Leaf().Equal(r.leaf) {
				t.Error("the path does not lead from the leaf to an anchor")
			}
			if !path.ValidAt(now) {
				t.Error("the path is not valid at the time it was verified")
			}
		})
	}
}
