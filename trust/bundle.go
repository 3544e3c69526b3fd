package trust

import (
	"bytes"
	"crypto/x509"
	"sync/atomic"
)

// Bundle is what a hub trusts: its anchors, and the intermediates that are
// known to lead to them. The signatures of these are checked once, here, and
// never in a check. A Bundle is immutable and safe for concurrent use.
type Bundle struct {
	anchors       []*node
	intermediates []*node
	bySubject     map[string][]*node
	known         map[Fingerprint]struct{}
	generation    uint64
}

// node is a certificate whose signature is known to be good.
type node struct {
	cert *x509.Certificate
	// parents are those whose key verified the signature; none for an anchor.
	parents []*node
	anchor  bool
}

var generations atomic.Uint64

// NewBundle compiles anchors and intermediates. An intermediate that does not
// lead to an anchor, or that could not be part of a path, is left out. The error
// tells which anchor is unfit and why.
func NewBundle(anchors, intermediates []*x509.Certificate) (*Bundle, error) {
	b := &Bundle{
		bySubject:  make(map[string][]*node),
		known:      make(map[Fingerprint]struct{}),
		generation: generations.Add(1),
	}
	for _, c := range anchors {
		if err := CheckAnchor(c); err != nil {
			return nil, err
		}
		if _, ok := b.known[FingerprintOf(c)]; !ok {
			b.anchors = append(b.anchors, b.add(&node{cert: c, anchor: true}))
		}
	}
	candidates := make([]*node, 0, len(intermediates))
	for _, c := range intermediates {
		if checkIssuer(c) == nil && checkKey(c) == nil && checkSignatureAlgorithm(c) == nil && !selfIssued(c) {
			candidates = append(candidates, &node{cert: c})
		}
	}
	// From the anchors down: whoever is signed by a known certificate is known.
	for parents := b.anchors; len(parents) > 0; {
		var children []*node
		for _, p := range parents {
			for _, n := range candidates {
				if mayIssue(p.cert, n.cert) && signed(p.cert, n.cert) {
					if n.parents = append(n.parents, p); len(n.parents) > 1 {
						continue
					}
					if _, ok := b.known[FingerprintOf(n.cert)]; !ok {
						children = append(children, b.add(n))
					}
				}
			}
		}
		b.intermediates = append(b.intermediates, children...)
		parents = children
	}
	return b, nil
}

func (b *Bundle) add(n *node) *node {
	b.known[FingerprintOf(n.cert)] = struct{}{}
	subject := string(n.cert.RawSubject)
	b.bySubject[subject] = append(b.bySubject[subject], n)
	return n
}

// mayIssue reports whether names and key IDs let parent be the issuer of child
// (RFC 5280, section 4.1.2.4 and 4.2.1.1; as OpenSSL and BoringSSL read it).
func mayIssue(parent, child *x509.Certificate) bool {
	return parent != child && bytes.Equal(parent.RawSubject, child.RawIssuer) &&
		(len(parent.SubjectKeyId) == 0 || len(child.AuthorityKeyId) == 0 || bytes.Equal(parent.SubjectKeyId, child.AuthorityKeyId))
}

// signed checks one signature.
func signed(parent, child *x509.Certificate) bool {
	return parent.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) == nil
}

// Anchors returns the trust anchors.
func (b *Bundle) Anchors() []*x509.Certificate { return certificates(b.anchors) }

// Intermediates returns the intermediates that lead to an anchor.
func (b *Bundle) Intermediates() []*x509.Certificate { return certificates(b.intermediates) }

func certificates(nodes []*node) []*x509.Certificate {
	certs := make([]*x509.Certificate, len(nodes))
	for i, n := range nodes {
		certs[i] = n.cert
	}
	return certs
}

// Knows reports whether the certificate is an anchor or a known intermediate.
func (b *Bundle) Knows(f Fingerprint) bool {
	_, ok := b.known[f]
	return ok
}

// Subjects returns the raw names under which the bundle's certificates issue,
// each once: a chain that leads to the bundle names one of them as an issuer.
func (b *Bundle) Subjects() [][]byte {
	subjects := make([][]byte, 0, len(b.bySubject))
	for s := range b.bySubject {
		subjects = append(subjects, []byte(s))
	}
	return subjects
}

// Related reports whether an anchor of one bundle is an anchor of the other (by
// its key), or leads to one: then a device of one could enter the other.
func Related(a, b *Bundle) bool {
	return leadsTo(a, b) || leadsTo(b, a)
}

// leadsTo reports whether an anchor of a is, or is signed under, an anchor of b.
func leadsTo(a, b *Bundle) bool {
	for _, n := range a.anchors {
		for _, o := range b.anchors {
			if KeyHashOf(n.cert) == KeyHashOf(o.cert) {
				return true
			}
		}
		for _, issuer := range b.bySubject[string(n.cert.RawIssuer)] {
			if signed(issuer.cert, n.cert) {
				return true
			}
		}
	}
	return false
}
