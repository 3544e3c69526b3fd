package trust

import (
	"crypto/x509"
	"slices"
	"time"
)

// Path is a verified path from a leaf to an anchor. It is immutable: its
// certificates and slices must not be changed. The zero value is no path.
type Path struct {
	certs []*x509.Certificate // leaf first, anchor last
}

func newPath(nodes []*node) Path {
	certs := make([]*x509.Certificate, len(nodes))
	for i, n := range nodes {
		certs[i] = n.cert
	}
	return Path{certs}
}

// at returns nil outside the path, so that the zero Path is harmless.
func (p Path) at(i int) *x509.Certificate {
	if i < 0 || i >= len(p.certs) {
		return nil
	}
	return p.certs[i]
}

// Leaf is the device's certificate; nil if there is no path.
func (p Path) Leaf() *x509.Certificate { return p.at(0) }

// Issuer is the certificate that signed the leaf; it may be the anchor.
func (p Path) Issuer() *x509.Certificate { return p.at(1) }

// Anchor is the trust anchor at the path's end.
func (p Path) Anchor() *x509.Certificate { return p.at(len(p.certs) - 1) }

// Intermediates are what is between leaf and anchor, nearest to the leaf first.
func (p Path) Intermediates() []*x509.Certificate {
	if len(p.certs) < 3 {
		return nil
	}
	return slices.Clip(p.certs[1 : len(p.certs)-1])
}

// Certificates are all of the path, leaf first, anchor last.
func (p Path) Certificates() []*x509.Certificate { return slices.Clip(p.certs) }

// Expires is when the first of the certificates expires.
func (p Path) Expires() time.Time {
	var first time.Time
	for i, c := range p.certs {
		if i == 0 || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// begins is when the last of the certificates becomes valid.
func (p Path) begins() time.Time {
	var last time.Time
	for _, c := range p.certs {
		if c.NotBefore.After(last) {
			last = c.NotBefore
		}
	}
	return last
}

// Valid returns when every certificate is valid, the leeway included.
func (p Path) Valid() (from, until time.Time) {
	return p.begins().Add(-NotBeforeLeeway), p.Expires()
}

// ValidAt tells whether every certificate is valid then.
func (p Path) ValidAt(now time.Time) bool {
	from, until := p.Valid()
	return !now.Before(from) && !now.After(until)
}
