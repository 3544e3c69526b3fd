package trust

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Chain is a leaf and untrusted path-building material, parsed and within
// limits. It is immutable and safe for concurrent use.
type Chain struct {
	leaf *node
	// issuers are the presented certificates that names connect to the leaf,
	// nearest first, each once.
	issuers []*node
	digest  [32]byte
}

// ParseChain parses what a connection brought, in DER. Presented may begin with
// the leaf, as Envoy's chain does. Limits on number and size hold for all of it,
// that repeated leaf excepted; those on keys and algorithms hold for the leaf. A
// presented certificate that breaks the latter is not used; it may be an anchor,
// or not needed, so that only Verify can tell whether it matters. An error is an
// *Error: Malformed or Unsupported.
//
// The Chain keeps the slices.
func ParseChain(leaf []byte, presented [][]byte) (*Chain, error) {
	if len(presented) > 0 && bytes.Equal(presented[0], leaf) {
		presented = presented[1:]
	}
	all := append([][]byte{leaf}, presented...)
	if reason := overLimit(all); reason != "" {
		return nil, &Error{Fault: Unsupported, Index: -1, Detail: reason}
	}
	c := &Chain{}
	var others []*node
	digest := sha256.New()
	for i, der := range all {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, parseError(i, err)
		}
		n := newNode(cert, i)
		n.unsupported = cmp.Or(unsupportedKey(cert), unsupportedSignature(cert))
		_, _ = digest.Write(n.print[:])
		if i == 0 {
			c.leaf = n
			continue
		}
		if n.print != c.leaf.print && !slices.ContainsFunc(others, func(o *node) bool { return o.print == n.print }) {
			others = append(others, n)
		}
	}
	digest.Sum(c.digest[:0])
	if c.leaf.unsupported != "" {
		return nil, c.leaf.failUnsupported()
	}
	c.connect(others)
	return c, nil
}

// overLimit says which limit keeps a chain from being parsed; it is empty if none
// does.
func overLimit(chain [][]byte) string {
	if n := len(chain); n > MaxCertificates {
		return fmt.Sprintf("the chain has %d certificates; at most %d are accepted", n, MaxCertificates)
	}
	size, elements := 0, 0
	for _, der := range chain {
		size += len(der)
	}
	if size > MaxChainBytes {
		return fmt.Sprintf("the chain has %d bytes; at most %d are accepted", size, MaxChainBytes)
	}
	for _, der := range chain {
		elements += countElements(der, MaxElements+1-elements)
	}
	if elements > MaxElements {
		return fmt.Sprintf("the chain has more than %d ASN.1 values", MaxElements)
	}
	return ""
}

// connect sorts out which certificates names connect to the leaf.
func (c *Chain) connect(others []*node) {
	seen := make([]bool, len(others))
	for at, next := c.leaf, 0; ; next++ {
		for i, o := range others {
			if seen[i] || !at.issuedBy(o) {
				continue
			}
			seen[i] = true
			c.issuers = append(c.issuers, o)
		}
		if next == len(c.issuers) {
			return
		}
		at = c.issuers[next]
	}
}

// parseError tells a certificate that is broken from one that crypto/x509 has
// no curve for, which it reports as a failure to parse.
func parseError(index int, err error) *Error {
	what := "the leaf"
	if index > 0 {
		what = fmt.Sprintf("presented certificate %d", index)
	}
	reason := strings.TrimPrefix(err.Error(), "x509: ")
	if strings.Contains(reason, "unsupported elliptic curve") {
		return &Error{Fault: Unsupported, Index: index, Detail: what + " has a key on an unsupported elliptic curve"}
	}
	return &Error{Fault: Malformed, Index: index, Detail: what + " does not parse: " + shorten(reason)}
}

// shorten quotes what may repeat hostile input.
func shorten(s string) string { return strconv.Quote(cut(s, 120)) }

// Leaf is the certificate whose key the connection used.
func (c *Chain) Leaf() *x509.Certificate { return c.leaf.cert }

// Issuer is what a certificate says of who issued it: claims, by which an issuer
// can be looked up.
type Issuer struct {
	Name  []byte // raw issuer name
	KeyID []byte // authority key identifier, nil if there is none
}

// Issuers returns who issued the leaf and every presented certificate that names
// connect to it, nearest first, each once. Under a hub that trusts none of these
// names the chain cannot verify.
func (c *Chain) Issuers() []Issuer {
	issuers := []Issuer{c.leaf.claimedIssuer()}
	for _, n := range c.issuers {
		claim := n.claimedIssuer()
		if !slices.ContainsFunc(issuers, func(o Issuer) bool {
			return bytes.Equal(o.Name, claim.Name) && bytes.Equal(o.KeyID, claim.KeyID)
		}) {
			issuers = append(issuers, claim)
		}
	}
	return issuers
}

func (n *node) claimedIssuer() Issuer {
	return Issuer{Name: n.cert.RawIssuer, KeyID: n.cert.AuthorityKeyId}
}

// Digest identifies the leaf and the presented certificates, in their order.
func (c *Chain) Digest() [32]byte { return c.digest }

// fail makes an Error about this certificate.
func (n *node) fail(f Fault, format string, args ...any) *Error {
	return &Error{Fault: f, Certificate: n.cert, Index: n.index, Detail: fmt.Sprintf(format, args...)}
}

func (n *node) failUnsupported() *Error {
	return n.fail(Unsupported, "certificate %s is not accepted: %s", subject(n.cert), n.unsupported)
}
