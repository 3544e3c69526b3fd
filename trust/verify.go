package trust

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Options are the circumstances of a verification.
type Options struct {
	// Now is the time at which the chain has to be valid.
	Now time.Time
	// Attested are the fingerprints of the chain that the device really sent.
	// They only order what is tried: known certificates among them come first.
	Attested []Fingerprint
	// Budget bounds the signature checks; nil is a budget of its own.
	Budget *Budget
}

// Budget counts signature checks, so that one chain tried on several hubs stays
// within MaxSignatureChecks in all. The zero value is a full budget. It is not
// safe for concurrent use.
type Budget struct{ spent int }

func (b *Budget) take() bool {
	if b.spent >= MaxSignatureChecks {
		return false
	}
	b.spent++
	return true
}

// Path is a verified path, leaf first, anchor last. The zero value is no path.
type Path struct{ certs []*x509.Certificate }

// Leaf returns the leaf, nil if there is no path.
func (p Path) Leaf() *x509.Certificate {
	if len(p.certs) == 0 {
		return nil
	}
	return p.certs[0]
}

// Issuer returns the certificate that signed the leaf: an intermediate, or the
// anchor itself.
func (p Path) Issuer() *x509.Certificate { return p.certs[1] }

// Anchor returns the trust anchor.
func (p Path) Anchor() *x509.Certificate { return p.certs[len(p.certs)-1] }

// Intermediates returns what is between leaf and anchor.
func (p Path) Intermediates() []*x509.Certificate { return p.certs[1 : len(p.certs)-1] }

// Certificates returns the whole path.
func (p Path) Certificates() []*x509.Certificate { return p.certs }

// Expires returns when the first certificate of the path expires.
func (p Path) Expires() time.Time {
	expires := p.certs[0].NotAfter
	for _, c := range p.certs[1:] {
		if c.NotAfter.Before(expires) {
			expires = c.NotAfter
		}
	}
	return expires
}

const (
	// maxPathLength bounds a path, known intermediates included.
	maxPathLength = 2 * MaxCertificates
	// maxPaths bounds the signature-valid paths whose times, usages and
	// constraints are looked at.
	maxPaths = 8
)

// Verify finds a path from the chain's leaf to an anchor and verifies it for
// client authentication (RFC 5280, section 6, by crypto/x509, and what that
// leaves out). The error is an *Error.
func (b *Bundle) Verify(c *Chain, opts Options) (Path, error) {
	if opts.Budget == nil {
		opts.Budget = new(Budget)
	}
	s := &search{bundle: b, chain: c, opts: opts, nodes: make(map[*x509.Certificate]*node, len(c.presented)+1)}
	if selfIssued(c.leaf) {
		return Path{}, fail(Untrusted, c.leaf, "the leaf %s is self-signed", c.leaf.Subject)
	}
	path, err := s.run()
	if err != nil {
		return Path{}, err
	}
	return path, nil
}

// search looks for a path from the anchors down. Its edges lead from a
// certificate whose signature is known to be good to one that it may have
// issued; each is checked at most once.
type search struct {
	bundle *Bundle
	chain  *Chain
	opts   Options
	edges  []edge                      // to be checked, best last
	nodes  map[*x509.Certificate]*node // the leaf and presented ones, once signed
	broken *Error                      // first signature that failed
	policy *Error                      // first signed path that failed otherwise
	paths  int
}

type edge struct {
	parent *node
	child  *x509.Certificate
	rank   int
}

func (s *search) run() (Path, *Error) {
	for _, c := range s.unproven() {
		for _, parent := range s.bundle.bySubject[string(c.RawIssuer)] {
			s.consider(parent, c)
		}
	}
	for len(s.edges) > 0 {
		slices.SortStableFunc(s.edges, func(a, b edge) int { return cmp.Compare(b.rank, a.rank) })
		e := s.edges[len(s.edges)-1]
		s.edges = s.edges[:len(s.edges)-1]
		if !s.opts.Budget.take() {
			err := fail(Untrusted, e.child, "the chain needs more than %d signature checks", MaxSignatureChecks)
			err.exhausted = true
			return Path{}, err
		}
		if !signed(e.parent.cert, e.child) {
			if s.broken == nil {
				s.broken = fail(Untrusted, e.child, "%s was not signed by %s, which it names as its issuer", e.child.Subject, e.parent.cert.Subject)
			}
			continue
		}
		if path, ok := s.proven(e); ok {
			return path, nil
		}
		if s.paths > maxPaths {
			break
		}
	}
	return Path{}, s.failure()
}

// unproven is the leaf and what was presented with it.
func (s *search) unproven() []*x509.Certificate {
	return append([]*x509.Certificate{s.chain.leaf}, s.chain.presented...)
}

// consider adds an edge if names and key IDs allow it. Those to the leaf come
// first, then those from and to what the device really sent.
func (s *search) consider(parent *node, child *x509.Certificate) {
	if !mayIssue(parent.cert, child) {
		return
	}
	rank := 0
	if child != s.chain.leaf {
		rank += 4
	}
	if len(s.opts.Attested) > 0 && s.nodes[parent.cert] == nil && !parent.anchor &&
		!slices.Contains(s.opts.Attested, FingerprintOf(parent.cert)) {
		rank += 2
	}
	if len(parent.cert.SubjectKeyId) == 0 || len(child.AuthorityKeyId) == 0 {
		rank++
	}
	s.edges = append(s.edges, edge{parent, child, rank})
}

// proven notes a good signature, and returns a path if one is complete and
// passes.
func (s *search) proven(e edge) (Path, bool) {
	n, again := s.nodes[e.child]
	if !again {
		n = &node{cert: e.child}
		s.nodes[e.child] = n
	}
	n.parents = append(n.parents, e.parent)
	if e.child != s.chain.leaf && !again && checkIssuer(e.child) == nil {
		for _, c := range s.unproven() {
			s.consider(n, c)
		}
	}
	leaf, ok := s.nodes[s.chain.leaf]
	if !ok {
		return Path{}, false
	}
	// Only paths over the new edge are new.
	return s.climb(leaf, nil, e, false)
}

// climb walks up from a node to the anchors and judges each path over the edge.
func (s *search) climb(n *node, below []*x509.Certificate, e edge, over bool) (Path, bool) {
	if slices.Contains(below, n.cert) || len(below) >= maxPathLength {
		return Path{}, false
	}
	path := append(slices.Clone(below), n.cert)
	if n.anchor {
		if !over || s.paths > maxPaths {
			return Path{}, false
		}
		s.paths++
		if err := judge(path, s.opts.Now); err != nil {
			if s.policy == nil {
				s.policy = err
			}
			return Path{}, false
		}
		return Path{path}, true
	}
	for _, p := range n.parents {
		if found, ok := s.climb(p, path, e, over || n.cert == e.child && p == e.parent); ok {
			return found, true
		}
	}
	return Path{}, false
}

// failure says what was wrong, in the order in which it helps an operator.
func (s *search) failure() *Error {
	if s.policy != nil {
		s.policy.Signed = true
		return s.policy
	}
	if s.broken != nil {
		return s.broken
	}
	// No signature was there to be checked: somewhere an issuer is missing.
	// The walk up from the leaf finds the last certificate that is there.
	top := s.chain.leaf
	for walked := 0; walked < len(s.chain.presented)+1; walked++ {
		issuer := s.issuerOf(top)
		if issuer == nil {
			break
		}
		if err := checkIssuer(issuer); err != nil {
			return fail(Untrusted, issuer, "%s names %s as its issuer, which cannot issue certificates: %v", top.Subject, issuer.Subject, err)
		}
		top = issuer
	}
	for _, c := range s.chain.dropped {
		if bytes.Equal(c.RawSubject, top.RawIssuer) {
			return fail(Untrusted, c, "the chain ends at the self-signed %s, which is not a trust anchor", c.Subject)
		}
	}
	return fail(Incomplete, top, "the issuer of %s is missing: %s", top.Subject, describeIssuer(top))
}

// issuerOf returns a presented certificate that may have issued c.
func (s *search) issuerOf(c *x509.Certificate) *x509.Certificate {
	for _, p := range s.chain.presented {
		if mayIssue(p, c) {
			return p
		}
	}
	return nil
}

func describeIssuer(c *x509.Certificate) string {
	if len(c.AuthorityKeyId) == 0 {
		return c.Issuer.String()
	}
	return fmt.Sprintf("%s (key ID %s)", c.Issuer, hex.EncodeToString(c.AuthorityKeyId))
}
