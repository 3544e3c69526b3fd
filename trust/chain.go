package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
)

// Chain is a leaf and the untrusted certificates that came with it, parsed and
// within the limits. It is immutable.
type Chain struct {
	leaf      *x509.Certificate
	presented []*x509.Certificate // reachable from the leaf by names, self-signed ones dropped
	dropped   []*x509.Certificate // the self-signed ones
	digest    [sha256.Size]byte
}

// ParseChain reads a chain. What was presented may repeat the leaf, be in any
// order, and contain certificates that have nothing to do with it. The error is
// an *Error: Malformed or Unsupported.
func ParseChain(leaf []byte, presented [][]byte) (*Chain, error) {
	rest := make([][]byte, 0, len(presented))
	size := len(leaf)
	for _, der := range presented {
		if bytes.Equal(der, leaf) {
			continue
		}
		size += len(der)
		rest = append(rest, der)
	}
	if n := len(rest) + 1; n > MaxCertificates {
		return nil, fail(Unsupported, nil, "the chain has %d certificates, more than %d", n, MaxCertificates)
	}
	if size > MaxChainBytes {
		return nil, fail(Unsupported, nil, "the chain has %d bytes, more than %d", size, MaxChainBytes)
	}
	c := &Chain{digest: digest(leaf, rest)}
	var err error
	if c.leaf, err = x509.ParseCertificate(leaf); err != nil {
		return nil, fail(Malformed, nil, "the leaf cannot be read: %v", err)
	}
	var others []*x509.Certificate
	for i, der := range rest {
		cert, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return nil, fail(Malformed, nil, "certificate %d beside the leaf cannot be read: %v", i+1, err)
		case selfIssued(cert):
			c.dropped = append(c.dropped, cert)
		case !containsCertificate(others, cert):
			others = append(others, cert)
		}
	}
	c.presented = reachable(c.leaf, others)
	for _, cert := range append([]*x509.Certificate{c.leaf}, c.presented...) {
		if err := checkKey(cert); err != nil {
			return nil, fail(Unsupported, cert, "%s is not supported: %v", cert.Subject, err)
		}
		if err := checkSignatureAlgorithm(cert); err != nil {
			return nil, fail(Unsupported, cert, "%s is not supported: %v", cert.Subject, err)
		}
	}
	return c, nil
}

// digest identifies leaf and presented certificates.
func digest(leaf []byte, rest [][]byte) [sha256.Size]byte {
	h := sha256.New()
	var length [4]byte
	for _, der := range append([][]byte{leaf}, rest...) {
		binary.BigEndian.PutUint32(length[:], uint32(len(der))) //nolint:gosec // bounded by MaxChainBytes
		h.Write(length[:])
		h.Write(der)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// reachable returns those of the certificates that names link to the leaf.
func reachable(leaf *x509.Certificate, others []*x509.Certificate) []*x509.Certificate {
	var found []*x509.Certificate
	taken := make([]bool, len(others))
	for next := []*x509.Certificate{leaf}; len(next) > 0; next = next[1:] {
		for i, c := range others {
			if !taken[i] && bytes.Equal(c.RawSubject, next[0].RawIssuer) {
				taken[i] = true
				found = append(found, c)
				next = append(next, c)
			}
		}
	}
	return found
}

func containsCertificate(list []*x509.Certificate, c *x509.Certificate) bool {
	for _, o := range list {
		if bytes.Equal(o.Raw, c.Raw) {
			return true
		}
	}
	return false
}

// Leaf returns the leaf.
func (c *Chain) Leaf() *x509.Certificate { return c.leaf }

// Digest identifies the leaf and all that came with it.
func (c *Chain) Digest() [sha256.Size]byte { return c.digest }

// Issuers returns the raw names of those who issued the leaf and the presented
// certificates that names link to it, each once.
func (c *Chain) Issuers() [][]byte {
	issuers := [][]byte{c.leaf.RawIssuer}
next:
	for _, cert := range c.presented {
		for _, seen := range issuers {
			if bytes.Equal(seen, cert.RawIssuer) {
				continue next
			}
		}
		issuers = append(issuers, cert.RawIssuer)
	}
	return issuers
}
