package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// Bundle is what one hub trusts: its anchors, and the intermediates known to
// chain to them. It is immutable and safe for concurrent use; a change makes a
// new one.
type Bundle struct {
	// generation tells bundles of this process apart. Verdicts are kept under
	// it, so that those of a replaced bundle are void without bookkeeping.
	generation uint64
	anchors    []*node
	known      []*node
	rejected   []Rejected
	bySubject  map[string][]*node // anchors and known
	byPrint    map[Fingerprint]*node
	keys       map[KeyHash]struct{}
	revoked    *Revocations // nil: nothing
}

// Rejected is an intermediate that a Bundle does not use, and why.
type Rejected struct {
	Certificate *x509.Certificate
	Err         error
}

var generations atomic.Uint64

// NewBundle compiles anchors and known intermediates. The intermediates'
// signatures are verified once, here, from the anchors down, so that Verify need
// not; what does not chain to an anchor, or could not be on any path, is kept out
// and reported by Rejected. Times are not looked at: a Bundle outlives them.
// Duplicates are dropped.
//
// The error joins one for each anchor that CheckAnchor refuses. A Bundle without
// anchors trusts nothing; Verify then tells what a chain lacks.
func NewBundle(anchors, intermediates []*x509.Certificate) (*Bundle, error) {
	b := &Bundle{
		generation: generations.Add(1),
		bySubject:  make(map[string][]*node),
		byPrint:    make(map[Fingerprint]*node),
		keys:       make(map[KeyHash]struct{}),
	}
	var errs []error
	for _, c := range anchors {
		if err := CheckAnchor(c); err != nil {
			errs = append(errs, err)
			continue
		}
		n := newNode(c, -1)
		n.anchor = true
		if b.add(n) {
			b.anchors = append(b.anchors, n)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	b.accept(intermediates)
	return b, nil
}

// add indexes a trusted certificate, and reports whether it is new.
func (b *Bundle) add(n *node) bool {
	if _, ok := b.byPrint[n.print]; ok {
		return false
	}
	b.byPrint[n.print] = n
	b.bySubject[string(n.cert.RawSubject)] = append(b.bySubject[string(n.cert.RawSubject)], n)
	b.keys[n.key] = struct{}{}
	return true
}

// accept verifies intermediates until no more of them chain to an anchor.
func (b *Bundle) accept(intermediates []*x509.Certificate) {
	var open []*node
	for _, c := range intermediates {
		if err := checkIntermediate(c); err != nil {
			b.rejected = append(b.rejected, Rejected{c, err})
			continue
		}
		n := newNode(c, -1)
		if b.byPrint[n.print] == nil && !slices.ContainsFunc(open, func(o *node) bool { return o.print == n.print }) {
			open = append(open, n)
		}
	}
	for again := true; again; {
		again = false
		open = slices.DeleteFunc(open, func(n *node) bool {
			issuers := b.bySubject[string(n.cert.RawIssuer)]
			i := slices.IndexFunc(issuers, n.signedBy)
			if i < 0 {
				return false
			}
			again = true
			n.issuers = []*node{issuers[i]}
			b.add(n)
			b.known = append(b.known, n)
			return true
		})
	}
	// Only now are the other issuers of a cross-signed intermediate at hand.
	for _, n := range b.known {
		for _, issuer := range b.bySubject[string(n.cert.RawIssuer)] {
			if issuer != n.issuers[0] && n.signedBy(issuer) {
				n.issuers = append(n.issuers, issuer)
			}
		}
	}
	for _, n := range open {
		b.rejected = append(b.rejected, Rejected{n.cert, fmt.Errorf(
			"intermediate %s, issued by %s, does not chain to a trust anchor", subject(n.cert), issuer(n.cert))})
	}
}

// CheckAnchor returns what makes a certificate unusable as a trust anchor: it
// may not sign certificates, its key is not accepted, or it carries critical
// extensions or constraints that would not be enforced. It need not be
// self-signed, and since its key is trusted, not its signature, the algorithm of
// the latter does not matter. Its validity does, but in Verify: an expired anchor
// can be installed, and admits nothing.
//
// Its error is an *UnfitError.
func CheckAnchor(c *x509.Certificate) error {
	err := unfit(c)
	if err == nil && len(c.Subject.Names) == 0 {
		err = &UnfitError{Why: Nameless, text: "it has no subject"}
	}
	if err == nil {
		return nil
	}
	return err.of("trust anchor", c)
}

func checkIntermediate(c *x509.Certificate) error {
	err := unfit(c)
	if err == nil {
		if reason := unsupportedSignature(c); reason != "" {
			err = &UnfitError{Why: UnsupportedKey, text: reason}
		}
	}
	if err == nil {
		return nil
	}
	return err.of("intermediate", c)
}

// Unfit is why a certificate cannot sign others in a path.
type Unfit uint8

// The reasons.
const (
	CannotSign            Unfit = iota + 1 // it is no CA, or may not sign certificates
	UnsupportedKey                         // its key or signature is of a kind or size that is not accepted
	UnenforcedConstraints                  // it has constraints that would not be enforced
	Nameless                               // it has no subject
)

// UnfitError says what makes a certificate unusable as an anchor or
// intermediate.
type UnfitError struct {
	Why  Unfit
	text string
}

// Error is a sentence that names the certificate.
func (e *UnfitError) Error() string { return e.text }

func (e *UnfitError) of(kind string, c *x509.Certificate) *UnfitError {
	return &UnfitError{Why: e.Why, text: fmt.Sprintf("%s %s is not usable: %s", kind, subject(c), e.text)}
}

// unfit says why a certificate cannot be on any path above the leaf.
func unfit(c *x509.Certificate) *UnfitError {
	for _, check := range []struct {
		why    Unfit
		reason func(*x509.Certificate) string
	}{{CannotSign, cannotSign}, {UnsupportedKey, unsupportedKey}, {UnenforcedConstraints, unenforced}} {
		if text := check.reason(c); text != "" {
			return &UnfitError{Why: check.why, text: text}
		}
	}
	return nil
}

// Anchors returns the trust anchors.
func (b *Bundle) Anchors() []*x509.Certificate { return newPath(b.anchors).certs }

// Intermediates returns the known intermediates that chain to an anchor.
func (b *Bundle) Intermediates() []*x509.Certificate { return newPath(b.known).certs }

// Rejected returns the intermediates that were kept out.
func (b *Bundle) Rejected() []Rejected { return slices.Clone(b.rejected) }

// Knows tells whether an anchor or a known intermediate has that fingerprint.
func (b *Bundle) Knows(f Fingerprint) bool { return b.byPrint[f] != nil }
