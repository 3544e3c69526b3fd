package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"time"
)

// Limits of what is looked at, whoever sends it.
const (
	// MaxCertificates bounds a chain: the leaf and what came with it.
	MaxCertificates = 10
	// MaxChainBytes bounds the DER of all of them together.
	MaxChainBytes = 64 << 10
	// MaxSignatureChecks bounds the signatures checked for one chain.
	MaxSignatureChecks = 16
	// MaxLearned bounds the intermediates that a hub learns.
	MaxLearned = 64
	// NotBeforeLeeway forgives a vendor's clock that is ahead of ours.
	NotBeforeLeeway = 5 * time.Minute
)

// Fingerprint is the SHA-256 of a certificate's DER.
type Fingerprint [sha256.Size]byte

// String is lowercase hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// FingerprintOf returns the certificate's fingerprint.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// KeyHash is the SHA-256 of a SubjectPublicKeyInfo. Unlike a fingerprint it
// cannot be altered without the key: ECDSA signatures are malleable.
type KeyHash [sha256.Size]byte

// String is lowercase hexadecimal.
func (h KeyHash) String() string { return hex.EncodeToString(h[:]) }

// KeyHashOf returns the hash of the certificate's key.
func KeyHashOf(c *x509.Certificate) KeyHash { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// Fault is what is wrong with a chain.
type Fault uint8

// Faults.
const (
	Malformed   Fault = iota + 1 // a certificate does not parse
	Unsupported                  // over a limit, or a key or algorithm that is not accepted
	Incomplete                   // an issuer is missing
	Untrusted                    // it does not lead to an anchor, or is constrained in a way we do not enforce
	Expired
	NotYetValid
	WrongUsage // not made for client authentication, or the leaf is a CA
)

// Error is why a chain was refused.
type Error struct {
	Fault Fault
	// Certificate is the one that broke the chain, nil if it cannot be told.
	Certificate *x509.Certificate
	// Detail is for operators. It names the missing issuer of an Incomplete
	// chain.
	Detail string
	// Signed is set if a path of valid signatures leads to an anchor: only
	// times, usages or constraints failed.
	Signed bool

	exhausted bool // the budget ran out: no verdict on the chain as such
}

// Error returns the detail.
func (e *Error) Error() string { return e.Detail }

func fail(f Fault, c *x509.Certificate, format string, args ...any) *Error {
	return &Error{Fault: f, Certificate: c, Detail: fmt.Sprintf(format, args...)}
}

// checkKey reports a key that is not accepted. It costs microseconds whatever
// the key's size.
func checkKey(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("its curve is not P-256, P-384 or P-521")
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < 2048 || n > 4096 {
			return fmt.Errorf("its RSA key has %d bits, not 2048 to 4096", n)
		}
		if key.E != 65537 {
			return fmt.Errorf("its RSA exponent is %d, not 65537", key.E)
		}
		return nil
	default:
		return fmt.Errorf("its %s key is not P-256, P-384, P-521, Ed25519 or RSA", c.PublicKeyAlgorithm)
	}
}

// checkSignatureAlgorithm reports an algorithm that is not accepted, SHA-1 and
// MD5 above all.
func checkSignatureAlgorithm(c *x509.Certificate) error {
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return nil
	}
	return fmt.Errorf("its signature algorithm %s is not accepted", c.SignatureAlgorithm)
}

// checkIssuer reports what keeps a certificate from signing others (RFC 5280,
// sections 4.2.1.3 and 4.2.1.9).
func checkIssuer(c *x509.Certificate) error {
	if !c.BasicConstraintsValid || !c.IsCA {
		return fmt.Errorf("it is not a CA")
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("its key usage lacks certSign")
	}
	return nil
}

// selfIssued reports whether a certificate looks self-signed. No signature is
// needed to tell: such a certificate is dropped, never trusted. One that a CA
// issues to itself for a key change has another authority key ID than its own.
func selfIssued(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) &&
		(len(c.AuthorityKeyId) == 0 || len(c.SubjectKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId))
}

var oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}

// checkConstraints reports constraints that nobody enforces: name constraints
// of other forms than DNS, e-mail, URI and IP, and critical extensions that Go
// does not know.
func checkConstraints(c *x509.Certificate) error {
	for _, ext := range c.Extensions {
		if ext.Id.Equal(oidNameConstraints) {
			if err := checkNameForms(ext.Value); err != nil {
				return err
			}
		}
	}
	if len(c.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("its critical extension %s is not understood", c.UnhandledCriticalExtensions[0])
	}
	return nil
}

// checkNameForms reads the NameConstraints of RFC 5280, section 4.2.1.10, as
// far as the tags of the names: 1 (e-mail), 2 (DNS), 6 (URI) and 7 (IP) are
// enforced by crypto/x509.
func checkNameForms(der []byte) error {
	var constraints struct {
		Permitted []generalSubtree `asn1:"optional,tag:0"`
		Excluded  []generalSubtree `asn1:"optional,tag:1"`
	}
	if rest, err := asn1.Unmarshal(der, &constraints); err != nil || len(rest) > 0 {
		return fmt.Errorf("its name constraints cannot be read")
	}
	for _, tree := range append(constraints.Permitted, constraints.Excluded...) {
		switch tree.Base.Tag {
		case 1, 2, 6, 7:
		case 4:
			return fmt.Errorf("its name constraints restrict directory names, which is not enforced")
		default:
			return fmt.Errorf("its name constraints restrict names of form %d, which is not enforced", tree.Base.Tag)
		}
	}
	return nil
}

type generalSubtree struct {
	Base    asn1.RawValue
	Minimum int `asn1:"optional,tag:0"`
	Maximum int `asn1:"optional,tag:1"`
}

// CheckAnchor reports what makes a certificate unfit as a trust anchor: it is
// no CA, its key is not accepted, or it is constrained in a way that nobody
// enforces. Its own signature does not matter, nor whether it is self-signed:
// an anchor is trusted because its owner installed it.
func CheckAnchor(c *x509.Certificate) error {
	for _, check := range []func(*x509.Certificate) error{checkIssuer, checkKey, checkConstraints} {
		if err := check(c); err != nil {
			return fmt.Errorf("%s cannot be a trust anchor: %w", c.Subject, err)
		}
	}
	return nil
}
