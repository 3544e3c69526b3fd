package trust

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

const (
	// MaxCertificates bounds the leaf and the presented certificates together.
	MaxCertificates = 10
	// MaxChainBytes bounds the same certificates' size in DER.
	MaxChainBytes = 64 << 10
	// MaxElements bounds the same certificates' ASN.1 values. A certificate has
	// about a hundred; 64 KiB hold 20,000, which take 5 ms and megabytes to
	// parse.
	MaxElements = 2048
	// MaxSignatureChecks bounds what finding one path, or the paths under all
	// candidate hubs that share a Budget, may cost.
	MaxSignatureChecks = 16
	// MaxLearned bounds the intermediates that a hub remembers from paths that
	// verified.
	MaxLearned = 64
	// NotBeforeLeeway is how far ahead a notBefore may be: a factory's clock, or
	// ours, is rarely exact, and a chip connects right after it was made.
	NotBeforeLeeway = 5 * time.Minute
)

// unsupportedKey says why a certificate's key is not accepted; it is empty if
// the key is. Other sizes are refused because checking a signature with a
// stranger's key must have a known cost (a 56,000-bit modulus has not).
func unsupportedKey(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return ""
		}
		return fmt.Sprintf("its key is on curve %s; P-256, P-384 and P-521 are accepted", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return ""
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 || bits > 4096 {
			return fmt.Sprintf("its RSA key has %d bits; 2048 to 4096 are accepted", bits)
		}
		if key.E != 65537 {
			return fmt.Sprintf("its RSA key has exponent %d; 65537 is accepted", key.E)
		}
		return ""
	}
	return "its key is of no accepted type (ECDSA, Ed25519 or RSA)"
}

// unsupportedSignature says why the algorithm that signed a certificate is not
// accepted; it is empty if the algorithm is.
func unsupportedSignature(c *x509.Certificate) string {
	if signerOf(c.SignatureAlgorithm) != x509.UnknownPublicKeyAlgorithm {
		return ""
	}
	return fmt.Sprintf("it is signed with %s; SHA-256, SHA-384, SHA-512 and Ed25519 are accepted", c.SignatureAlgorithm)
}

// signerOf returns the kind of key that makes signatures of an accepted
// algorithm, and UnknownPublicKeyAlgorithm for every other algorithm.
func signerOf(a x509.SignatureAlgorithm) x509.PublicKeyAlgorithm {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return x509.RSA
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return x509.ECDSA
	case x509.PureEd25519:
		return x509.Ed25519
	}
	return x509.UnknownPublicKeyAlgorithm
}

// Budget counts signature checks. The zero value allows MaxSignatureChecks.
// One Budget shared by the calls of Verify for one connection bounds what the
// connection costs, however many hubs it may belong to. It is not safe for
// concurrent use.
type Budget struct {
	used int
}

// spend takes one check, or reports that none is left.
func (b *Budget) spend() bool {
	if b.used >= MaxSignatureChecks {
		return false
	}
	b.used++
	return true
}
