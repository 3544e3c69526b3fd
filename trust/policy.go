package trust

import (
	"cmp"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// checkLeaf applies the rules that concern the leaf alone and therefore hold on
// every path.
func checkLeaf(leaf *node, now time.Time) *Error {
	c := leaf.cert
	switch {
	case c.IsCA:
		return leaf.fail(WrongUsage, "the leaf %s is a CA certificate, not a device's", subject(c))
	case hasExtension(c, oidKeyUsage) && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return leaf.fail(WrongUsage, "the key usage of the leaf %s does not include digital signature", subject(c))
	}
	return checkAny(leaf, now)
}

// CheckLeaf applies the rules that concern the leaf alone, for who trusts its key
// for another reason than a path to an anchor. Nobody's signature is checked. The
// error is an *Error.
func (c *Chain) CheckLeaf(now time.Time) error {
	if err := checkLeaf(c.leaf, now); err != nil {
		return err
	}
	return nil
}

// checkAny applies the rules that hold for every certificate of a path.
func checkAny(n *node, now time.Time) *Error {
	c := n.cert
	switch {
	case now.After(c.NotAfter):
		return n.fail(Expired, "certificate %s expired at %s", subject(c), c.NotAfter.Format(time.RFC3339))
	case now.Before(c.NotBefore.Add(-NotBeforeLeeway)):
		return n.fail(NotYetValid, "certificate %s is valid from %s; it is %s now",
			subject(c), c.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !allowsClientAuth(c):
		return n.fail(WrongUsage, "the extended key usage of certificate %s does not include client authentication", subject(c))
	}
	if reason := unenforced(c); reason != "" {
		return n.fail(Untrusted, "certificate %s is refused: %s", subject(c), reason)
	}
	return nil
}

// allowsClientAuth looks at the extended key usage (RFC 5280, 4.2.1.12), which,
// as in crypto/x509, nests: a CA that lists usages limits what is below it.
func allowsClientAuth(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// checkPathLength applies the one rule that depends on a certificate's place: how
// many intermediates are between it and the leaf. Like crypto/x509, and unlike
// RFC 5280, 6.1.4, it counts self-issued ones.
func checkPathLength(n *node, below int) *Error {
	if most := n.cert.MaxPathLen; most >= 0 && below > most {
		return n.fail(Untrusted, "the path length of CA %s is broken: %d CAs are below it, and it allows %d", subject(n.cert), below, most)
	}
	return nil
}

// lastWord is x509.Verify of a path (leaf first, anchor last), with nothing else
// to choose from. It catches what the
// rules here do not look at, such as name constraints and policies, and whatever
// they missed.
func lastWord(path []*node, now time.Time) *Error {
	certs := newPath(path)
	if begins := certs.begins(); begins.After(now) {
		now = begins // the leeway
	}
	leaf, top := path[0], len(path)-1
	opts := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	opts.Roots.AddCert(path[top].cert)
	for _, n := range path[1:top] {
		opts.Intermediates.AddCert(n.cert)
	}
	found, err := leaf.cert.Verify(opts)
	if err != nil {
		return verifyError(leaf, err)
	}
	for _, f := range found {
		if slices.EqualFunc(f, certs.certs, (*x509.Certificate).Equal) {
			return nil
		}
	}
	return leaf.fail(Untrusted, "crypto/x509 verifies the chain of %s on another path only", subject(leaf.cert))
}

func verifyError(leaf *node, err error) *Error {
	fault := Untrusted
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) {
		switch invalid.Reason {
		case x509.Expired:
			fault = Expired
		case x509.IncompatibleUsage:
			fault = WrongUsage
		}
	}
	return leaf.fail(fault, "crypto/x509 refuses the chain of %s: %s", subject(leaf.cert), shorten(err.Error()))
}

// unenforced says what in a certificate would have to be enforced and is not:
// critical extensions that crypto/x509 does not handle, and name constraints of
// forms it ignores. directoryName is the one that matters: a CA limited to one
// customer's names would otherwise admit everybody's.
func unenforced(c *x509.Certificate) string {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidNameConstraints) {
			if reason := unenforcedConstraints(e.Value); reason != "" {
				return reason
			}
		}
	}
	if len(c.UnhandledCriticalExtensions) > 0 {
		return fmt.Sprintf("its critical extension %s is not supported", showOID(c.UnhandledCriticalExtensions[0]))
	}
	return ""
}

// The general names (RFC 5280, 4.2.1.6) whose constraints crypto/x509 enforces.
const (
	tagEmail = 1
	tagDNS   = 2
	tagURI   = 6
	tagIP    = 7
)

var formNames = map[int]string{0: "otherName", 3: "x400Address", 4: "directoryName", 5: "ediPartyName", 8: "registeredID"}

// unenforcedConstraints walks NameConstraints (RFC 5280, 4.2.1.10), which
// crypto/x509 has parsed already but keeps only in part.
func unenforcedConstraints(der []byte) string {
	const broken = "its name constraints do not parse"
	var constraints asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &constraints); err != nil || len(rest) > 0 {
		return broken
	}
	for subtrees := range elements(constraints.Bytes) {
		if subtrees == nil {
			return broken
		}
		for subtree := range elements(subtrees.Bytes) {
			if subtree == nil {
				return broken
			}
			var base asn1.RawValue
			rest, err := asn1.Unmarshal(subtree.Bytes, &base)
			switch {
			case err != nil:
				return broken
			case len(rest) > 0:
				return "its name constraints have a minimum or maximum, which is not enforced"
			case base.Class != asn1.ClassContextSpecific:
				return broken
			case base.IsCompound || base.Tag != tagEmail && base.Tag != tagDNS && base.Tag != tagURI && base.Tag != tagIP:
				return fmt.Sprintf("its name constraints limit names of form %s, which is not enforced", cmp.Or(formNames[base.Tag], strconv.Itoa(base.Tag)))
			}
		}
	}
	return ""
}

// elements yields the ASN.1 values in der, one after the other, and nil in the
// place of one that is broken.
func elements(der []byte) func(yield func(*asn1.RawValue) bool) {
	return func(yield func(*asn1.RawValue) bool) {
		for len(der) > 0 {
			var v asn1.RawValue
			rest, err := asn1.Unmarshal(der, &v)
			if err != nil {
				yield(nil)
				return
			}
			if !yield(&v) {
				return
			}
			der = rest
		}
	}
}
