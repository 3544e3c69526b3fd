package trust

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Options are what Verify goes by besides the chain.
type Options struct {
	// Now is the time of the verdict; the zero value is the present.
	Now time.Time
	// Attested are the fingerprints of the chain that the device really
	// presented in its TLS handshake. They only order what is tried.
	Attested []Fingerprint
	// Budget bounds the signature checks; nil is one of its own.
	Budget *Budget
}

const (
	// maxPaths bounds the paths that crypto/x509 is asked about. More than one
	// is needed only where it enforces what the rules here do not.
	maxPaths = 8
	// maxSteps bounds the search for such paths through a bundle's known
	// intermediates.
	maxSteps = 1000
)

// Verify finds a path of valid signatures from an anchor to the chain's leaf
// that allows TLS client authentication now. It tries others if time, usage or
// constraints rule one out. The error is an *Error; Signed is set on it if there
// was such a path, and then it is about the first one.
//
// What signs without being allowed to (a leaf that issued a leaf) is Untrusted,
// as is a self-signed leaf, and a chain that ends at a self-signed certificate
// that is no anchor. It is Unsupported if it ends at a certificate whose key or
// algorithm is not accepted, and Incomplete if an issuer is missing: no
// certificate of its name is at hand, or only known intermediates whose key
// identifier is not the one asked for.
func (b *Bundle) Verify(c *Chain, opts Options) (Path, error) {
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	if opts.Budget == nil {
		opts.Budget = new(Budget)
	}
	s := &search{bundle: b, chain: c, opts: opts, issuers: make(map[*node][]*node), faults: make(map[*node]*Error)}
	path, err := s.run()
	if err != nil {
		return Path{}, err
	}
	return path, nil
}

// search is one run of Verify. It grows what is trusted from the bundle down:
//
//	an edge whose issuer is trusted ──signature──▶ its subject is trusted ──▶ new edges
//
// until the leaf is, then judges the paths that led there.
type search struct {
	bundle *Bundle
	chain  *Chain
	opts   Options

	edges      []edge // to check, best first
	alternates []edge // second issuers of what is trusted already
	checked    []verdict
	issuers    map[*node][]*node // verified here: the leaf's and the presented certificates'

	faults    map[*node]*Error // what rules it out on every path; nil if nothing does
	steps     int              // of the search for paths
	tried     [][]*node        // paths that crypto/x509 refused
	refused   *Error           // the first failure of policy
	forged    *Error           // the first signature that failed
	exhausted bool             // the budget kept an edge from being checked
}

// edge is a claim: by name, issuer signed subject.
type edge struct {
	issuer, subject *node
	rank            int
}

// verdict is the outcome of a signature check. It is by the issuer's key, so
// that an issuer certified twice costs one check.
type verdict struct {
	issuer  KeyHash
	subject *node
	ok      bool
}

func (s *search) run() (Path, *Error) {
	s.expand(s.trustedByName)
	for {
		e, ok := s.next()
		if !ok {
			break
		}
		if !s.check(e) {
			continue
		}
		isNew := len(s.issuers[e.subject]) == 0
		s.issuers[e.subject] = append(s.issuers[e.subject], e.issuer)
		if isNew && e.subject != s.chain.leaf {
			s.expand(func(subject *node) []*node {
				if !subject.issuedBy(e.subject) {
					return nil
				}
				return []*node{e.subject}
			})
		}
		if path, done := s.judge(); done {
			return path, s.refused
		}
	}
	if s.refused != nil {
		return Path{}, s.refused
	}
	return Path{}, s.explain()
}

// trustedByName returns the bundle's certificates that bear the subject's
// issuer name.
func (s *search) trustedByName(subject *node) []*node {
	return s.bundle.bySubject[string(subject.cert.RawIssuer)]
}

// expand adds edges to the leaf and to the presented certificates that may be
// above it, from the trusted issuers given for each.
func (s *search) expand(issuersOf func(subject *node) []*node) {
	add := func(subject *node) {
		for _, issuer := range issuersOf(subject) {
			if !subject.sameEntity(issuer) {
				s.edges = append(s.edges, edge{issuer, subject, s.rank(issuer, subject)})
			}
		}
	}
	add(s.chain.leaf)
	for _, n := range s.chain.issuers {
		if n.signs && n.unsupported == "" && s.bundle.byPrint[n.print] == nil {
			add(n)
		}
	}
	slices.SortStableFunc(s.edges, func(a, b edge) int { return cmp.Compare(a.rank, b.rank) })
}

// rank orders edges by how likely they hold, those to the leaf first.
func (s *search) rank(issuer, subject *node) int {
	rank := 1 + int(compareKeyIDs(issuer.cert, subject.cert))
	if slices.Contains(s.opts.Attested, issuer.print) {
		rank = 0
	}
	rank *= 2
	if subject != s.chain.leaf {
		rank++
	}
	return rank
}

// next takes the best edge. Second issuers come last: they matter only if the
// leaf is signed, and its first path refused or going through one CA twice.
func (s *search) next() (edge, bool) {
	for len(s.edges) > 0 {
		e := s.edges[0]
		s.edges = s.edges[1:]
		if e.subject != s.chain.leaf && len(s.issuers[e.subject]) > 0 {
			s.alternates = append(s.alternates, e)
			continue
		}
		return e, true
	}
	if len(s.alternates) == 0 || len(s.issuers[s.chain.leaf]) == 0 {
		return edge{}, false
	}
	e := s.alternates[0]
	s.alternates = s.alternates[1:]
	return e, true
}

// check verifies the edge's signature, unless it was, or cannot be valid, or the
// budget is used up.
func (s *search) check(e edge) bool {
	for _, v := range s.checked {
		if v.subject == e.subject && v.issuer == e.issuer.key {
			return v.ok
		}
	}
	ok := false
	if signerOf(e.subject.cert.SignatureAlgorithm) == e.issuer.cert.PublicKeyAlgorithm {
		if !s.opts.Budget.spend() {
			s.exhausted = true
			return false
		}
		ok = e.subject.signedBy(e.issuer)
	}
	s.checked = append(s.checked, verdict{e.issuer.key, e.subject, ok})
	// Another key identifier means another issuer of that name, unless it is an
	// anchor's name that was taken.
	claimed := e.issuer.anchor || compareKeyIDs(e.issuer.cert, e.subject.cert) != keyIDsDiffer
	if !ok && claimed && s.forged == nil {
		s.forged = e.subject.fail(Untrusted, "the signature of %s does not verify with the key of %s, its issuer by name",
			subject(e.subject.cert), subject(e.issuer.cert))
	}
	return ok
}

// failedCheck tells whether the edge was checked in vain.
func (s *search) failedCheck(issuer, subject *node) bool {
	return slices.Contains(s.checked, verdict{issuer.key, subject, false})
}

// judge applies policy to the paths to the leaf that were not judged before. It
// is done once one passes, or none can.
func (s *search) judge() (Path, bool) {
	leaf := s.chain.leaf
	if len(s.issuers[leaf]) == 0 {
		return Path{}, false
	}
	if s.refused == nil {
		if s.refuse(checkLeaf(leaf, s.opts.Now)) {
			return Path{}, true
		}
	}
	for {
		path := s.climb([]*node{leaf})
		if path == nil {
			return Path{}, len(s.tried) >= maxPaths
		}
		if !s.refuse(lastWord(path, s.opts.Now)) {
			s.refused = nil
			return newPath(path), true
		}
		s.tried = append(s.tried, path)
	}
}

// refuse keeps the first failure, and tells whether this is one.
func (s *search) refuse(failure *Error) bool {
	if s.refused == nil && failure != nil {
		failure.Signed = true
		s.refused = failure
	}
	return failure != nil
}

// climb completes a path (leaf first) to an anchor, over verified edges and
// certificates that policy allows there, to one that was not tried; nil if there
// is none. A path of expired certificates costs no more than a look at each.
func (s *search) climb(path []*node) []*node {
	if s.steps++; s.steps > maxSteps || len(s.tried) >= maxPaths {
		return nil
	}
	at := path[len(path)-1]
	if at.anchor {
		if slices.ContainsFunc(s.tried, func(t []*node) bool { return slices.Equal(t, path) }) {
			return nil
		}
		return slices.Clone(path)
	}
	for _, issuer := range s.issuersOf(at) {
		if slices.ContainsFunc(path, issuer.sameEntity) || s.refuse(s.bundle.revocation(at, issuer)) || s.refuse(s.fault(issuer, len(path)-1)) {
			continue
		}
		if found := s.climb(append(path, issuer)); found != nil {
			return found
		}
	}
	return nil
}

// issuersOf returns the trusted certificates of who signed n. A known
// intermediate's signature was verified when the bundle was made; whatever else
// certifies that issuer's name and key, such as a presented cross-signature of an
// anchor that expired, is its issuer too.
func (s *search) issuersOf(n *node) []*node {
	if len(n.issuers) == 0 {
		return s.issuers[n]
	}
	all := slices.Clip(n.issuers)
	for _, presented := range s.chain.issuers {
		if len(s.issuers[presented]) > 0 && presented.sameEntity(n.issuers[0]) {
			all = append(all, presented)
		}
	}
	return all
}

// fault is what policy has against the certificate with so many others between
// it and the leaf.
func (s *search) fault(n *node, below int) *Error {
	failure, known := s.faults[n]
	if !known {
		failure = checkAny(n, s.opts.Now)
		s.faults[n] = failure
	}
	if failure != nil {
		return failure
	}
	return checkPathLength(n, below)
}

// explain says why no path of valid signatures was found.
func (s *search) explain() *Error {
	leaf := s.chain.leaf
	switch {
	case selfSigned(leaf.cert):
		return leaf.fail(Untrusted, "the leaf %s is self-signed", subject(leaf.cert))
	case len(s.issuers[leaf]) > 0:
		failure := leaf.fail(Untrusted, "the CAs above the leaf %s certify each other in more ways than are followed", subject(leaf.cert))
		failure.Signed = true
		return failure
	case s.exhausted:
		failure := leaf.fail(Untrusted, "no path to a trust anchor was found within %d signature checks", MaxSignatureChecks)
		failure.exhausted = true
		return failure
	case s.forged != nil:
		return s.forged
	}
	switch top := s.topmost(); {
	case !top.signs && top != leaf:
		return top.fail(Untrusted, "certificate %s was used as an issuer: %s", subject(top.cert), cannotSign(top.cert))
	case selfSigned(top.cert):
		return top.fail(Untrusted, "the chain ends at self-signed %s, which is not a trust anchor of this hub", subject(top.cert))
	case top.unsupported != "":
		return top.failUnsupported()
	default:
		return top.fail(Incomplete, "the issuer of %s is missing: %s%s is neither known nor presented",
			subject(top.cert), issuer(top.cert), askedKeyID(top.cert))
	}
}

// topmost walks up from the leaf by names, as far as presented certificates go
// or to one that may not sign or is not supported.
func (s *search) topmost() *node {
	at := s.chain.leaf
	for visited := []*node{at}; ; visited = append(visited, at) {
		var best *node
		for _, n := range s.chain.issuers {
			if !at.issuedBy(n) || slices.Contains(visited, n) || s.failedCheck(n, at) {
				continue
			}
			if best == nil || s.rank(n, at) < s.rank(best, at) {
				best = n
			}
		}
		if best == nil {
			return at
		}
		if at = best; !at.signs || at.unsupported != "" {
			return at
		}
	}
}

func askedKeyID(c *x509.Certificate) string {
	const shown = 32 // SHA-256, the longest in use
	id := c.AuthorityKeyId
	if len(id) == 0 {
		return ""
	}
	return fmt.Sprintf(" (key ID %s)", hex.EncodeToString(id[:min(len(id), shown)]))
}
