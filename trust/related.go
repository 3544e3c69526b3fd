package trust

import (
	"crypto/x509"
	"slices"
)

// Related tells whether a device that one bundle admits could be admitted by
// the other: some key is trusted under both. So it is if an anchor of one is, by
// its key, an anchor of the other, an ancestor or a descendant of one, directly
// or through intermediates that either of them was given; and if both know the
// same cross-signed intermediate. A link that neither was given is not seen:
// devices may present it, and are then admitted by both.
//
// Signatures decide, SHA-1 included: here it is safer to see too much.
func Related(a, b *Bundle) bool {
	for key := range a.keys {
		if _, ok := b.keys[key]; ok {
			return true
		}
	}
	return a.reaches(b) || b.reaches(a)
}

// reaches tells whether a certificate trusted by o is signed below an anchor of
// b.
func (b *Bundle) reaches(o *Bundle) bool {
	var open []*x509.Certificate
	for _, n := range slices.Concat(o.anchors, o.known) {
		open = append(open, n.cert)
	}
	for _, r := range slices.Concat(o.rejected, b.rejected) {
		if cannotSign(r.Certificate) == "" && unsupportedKey(r.Certificate) == "" {
			open = append(open, r.Certificate)
		}
	}
	below := make(map[string][]*x509.Certificate) // by subject, found here
	for again := true; again; {
		again = false
		var rest []*x509.Certificate
		for _, c := range open {
			if !b.signed(c, below[string(c.RawIssuer)]) {
				rest = append(rest, c)
				continue
			}
			if _, ok := o.keys[KeyHashOf(c)]; ok {
				return true
			}
			below[string(c.RawSubject)] = append(below[string(c.RawSubject)], c)
			again = true
		}
		open = rest
	}
	return false
}

// signed tells whether the bundle, or one of those certificates, signed c.
func (b *Bundle) signed(c *x509.Certificate, others []*x509.Certificate) bool {
	by := func(issuer *x509.Certificate) bool {
		return issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	}
	for _, n := range b.bySubject[string(c.RawIssuer)] {
		if by(n.cert) {
			return true
		}
	}
	return slices.ContainsFunc(others, by)
}
