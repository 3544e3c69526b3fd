package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Fingerprint is the SHA-256 of a certificate's DER. It tells certificates
// apart; it is no identity to revoke or pin, as ECDSA signatures are malleable
// and whoever holds a certificate can change its fingerprint.
type Fingerprint [32]byte

// FingerprintOf returns the certificate's fingerprint.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// FingerprintOfDER returns the fingerprint of a certificate that is not parsed.
func FingerprintOfDER(der []byte) Fingerprint { return sha256.Sum256(der) }

// ParseFingerprint reads what String wrote, in either case.
func ParseFingerprint(s string) (Fingerprint, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(Fingerprint{}) {
		return Fingerprint{}, fmt.Errorf("%q is no SHA-256 fingerprint (64 hexadecimal digits)", cut(s, 80))
	}
	return Fingerprint(b), nil
}

// String returns the fingerprint in lower-case hex.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// MarshalText implements encoding.TextMarshaler.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Fingerprint) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFingerprint(string(text))
	return err
}

// KeyHash is the SHA-256 of a SubjectPublicKeyInfo: the identity of a key,
// however often it is certified.
type KeyHash [32]byte

// KeyHashOf returns the hash of the certificate's key.
func KeyHashOf(c *x509.Certificate) KeyHash { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// String returns the hash in lower-case hex.
func (k KeyHash) String() string { return hex.EncodeToString(k[:]) }

// ParseKeyHash reads what String wrote, in either case.
func ParseKeyHash(s string) (KeyHash, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(KeyHash{}) {
		return KeyHash{}, fmt.Errorf("%q is no SHA-256 of a key (64 hexadecimal digits)", cut(s, 80))
	}
	return KeyHash(b), nil
}

// node is a certificate where paths are searched. Nodes of a chain and of a
// bundle are immutable and shared by concurrent searches.
type node struct {
	cert   *x509.Certificate
	print  Fingerprint
	key    KeyHash
	index  int  // as in Error
	signs  bool // it may sign certificates
	anchor bool
	// unsupported says why a certificate of a chain is never used, if so.
	unsupported string
	// issuers signed this one, verified when the bundle was made; empty for an
	// anchor and for a certificate of a chain.
	issuers []*node
}

func newNode(c *x509.Certificate, index int) *node {
	return &node{cert: c, print: FingerprintOf(c), key: KeyHashOf(c), index: index, signs: cannotSign(c) == ""}
}

// issuedBy compares names only.
func (n *node) issuedBy(issuer *node) bool {
	return bytes.Equal(n.cert.RawIssuer, issuer.cert.RawSubject)
}

// signedBy checks one signature.
func (n *node) signedBy(issuer *node) bool {
	return !n.sameEntity(issuer) && n.cert.CheckSignatureFrom(issuer.cert) == nil
}

// sameEntity tells whether both certify the same key under the same name. A
// path never goes through one entity twice, which ends cross-signed loops.
func (n *node) sameEntity(o *node) bool {
	return n.key == o.key && bytes.Equal(n.cert.RawSubject, o.cert.RawSubject)
}

// cannotSign says why a certificate may not sign others (RFC 5280, 4.2.1.3 and
// 4.2.1.9); it is empty if it may.
func cannotSign(c *x509.Certificate) string {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return "it is not a CA"
	case hasExtension(c, oidKeyUsage) && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return "its key usage does not include certificate signing"
	}
	return ""
}

// selfSigned decides without a signature: issuer and subject are the same name,
// and key identifiers, where both are there, do not say otherwise. It only
// explains: a key rollover certificate (RFC 5280, 3.2: self-issued) may lack
// them.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && compareKeyIDs(c, c) != keyIDsDiffer
}

type keyIDMatch uint8

const (
	keyIDsEqual keyIDMatch = iota
	keyIDsAbsent
	keyIDsDiffer
)

// compareKeyIDs tells whether issuer's key identifier is the one that c asks for
// (RFC 5280, 4.2.1.1). Identifiers are claims: they order and explain, they
// never decide.
func compareKeyIDs(issuer, c *x509.Certificate) keyIDMatch {
	switch {
	case len(c.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0:
		return keyIDsAbsent
	case bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId):
		return keyIDsEqual
	}
	return keyIDsDiffer
}

var (
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
)

func hasExtension(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return true
		}
	}
	return false
}

const (
	shownAttributes = 8
	shownArcs       = 16
	shownValue      = 64 // as long as RFC 5280 lets a common name be
	shownName       = 200
)

// show quotes a name for an operator. A hostile name has thousands of
// attributes, or one whose type has thousands of arcs, which pkix.Name would
// take 100 ms to write: only the first few of each are shown, and cut short.
func show(n pkix.Name) string {
	var rdns pkix.RDNSequence
	for _, a := range n.Names[:min(len(n.Names), shownAttributes)] {
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{
			Type:  a.Type[:min(len(a.Type), shownArcs)],
			Value: cut(fmt.Sprint(a.Value), shownValue),
		}})
	}
	return strconv.Quote(cut(rdns.String(), shownName))
}

func showOID(id asn1.ObjectIdentifier) string { return id[:min(len(id), shownArcs)].String() }

// cut ends a long string early, between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// subject and issuer show the certificate's names.
func subject(c *x509.Certificate) string { return show(c.Subject) }
func issuer(c *x509.Certificate) string  { return show(c.Issuer) }
