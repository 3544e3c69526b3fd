package e2e

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"slices"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
)

// What no sane CA issues.

// hugeKey is an RSA key of 56,000 bits that nobody has the other half of:
// checking one signature with it would take seconds.
type hugeKey struct{}

// Public implements crypto.Signer.
func (hugeKey) Public() crypto.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 55_999)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

// Sign implements crypto.Signer.
func (hugeKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("nobody has this key")
}

// huge is an intermediate of another's name with such a key.
func huge(t *testing.T, issuer, like *pki.Authority) *x509.Certificate {
	t.Helper()
	return must(issuer.Intermediate("", pki.WithSigner(hugeKey{}), pki.WithTemplate(func(c *x509.Certificate) {
		c.RawSubject = like.Certificate.RawSubject
	})))(t).Certificate
}

// crossSigned is a leaf under nine P-521 CAs that all have the anchor's name and
// certify each other: any of them might be the issuer of any other.
func crossSigned(t *testing.T, anchor *x509.Certificate) tls.Certificate {
	t.Helper()
	like := pki.WithTemplate(func(c *x509.Certificate) {
		c.RawSubject, c.SubjectKeyId = anchor.RawSubject, anchor.SubjectKeyId
	})
	ring := make([]*pki.Authority, 9)
	for i := range ring {
		ring[i] = must(pki.NewRoot("", pki.WithKey(pki.P521), like))(t)
	}
	var certs []*x509.Certificate
	for i, a := range ring {
		certs = append(certs, must(ring[(i+1)%len(ring)].CrossSign(a))(t))
	}
	return must(ring[0].Leaf("SN-1"))(t).TLSWith(certs...)
}

// sha1Leaf is a device certificate signed with SHA-1.
func sha1Leaf(t *testing.T) tls.Certificate {
	t.Helper()
	root := must(pki.NewRoot("Old Root", pki.WithKey(pki.RSA2048)))(t)
	return as(must(root.Leaf("SN-1", pki.WithDER(func(der []byte, issuer crypto.Signer) ([]byte, error) {
		oid := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01} // PKCS #1
		der = bytes.ReplaceAll(der, append(slices.Clone(oid), 11), append(slices.Clone(oid), 5))
		var outer struct {
			TBS       asn1.RawValue
			Algorithm pkix.AlgorithmIdentifier
			Signature asn1.BitString
		}
		if _, err := asn1.Unmarshal(der, &outer); err != nil {
			return nil, err
		}
		digest := sha1.Sum(outer.TBS.FullBytes)
		signature, err := issuer.Sign(rand.Reader, digest[:], crypto.SHA1)
		return append(der[:len(der)-len(signature)], signature...), err
	})))(t)).cert
}

// constrainToDirectory adds a name constraint of a kind that crypto/x509 does
// not enforce: only subjects under O=Elsewhere (RFC 5280, 4.2.1.10).
func constrainToDirectory(c *x509.Certificate) {
	name, err := asn1.Marshal(pkix.Name{Organization: []string{"Elsewhere"}}.ToRDNSequence())
	if err != nil {
		panic(err) // a constant
	}
	wrap := func(class, tag int, content []byte) []byte {
		der, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: content})
		if err != nil {
			panic(err)
		}
		return der
	}
	const sequence = asn1.TagSequence
	directoryName := wrap(asn1.ClassContextSpecific, 4, name)
	permitted := wrap(asn1.ClassContextSpecific, 0, wrap(asn1.ClassUniversal, sequence, directoryName))
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
		Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: wrap(asn1.ClassUniversal, sequence, permitted),
	})
}

// fat is a certificate of at least so many bytes.
func fat(t *testing.T, size int) *x509.Certificate {
	t.Helper()
	return must(pki.NewRoot("Fat", pki.WithTemplate(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, size)}}
	})))(t).Certificate
}

func repeat(c *x509.Certificate, n int) []*x509.Certificate {
	return slices.Repeat([]*x509.Certificate{c}, n)
}

// selfSigned is a leaf that vouches for itself.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	a := must(pki.NewRoot("SN-1", pki.WithTemplate(func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = false, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})))(t)
	return tls.Certificate{Certificate: [][]byte{a.Certificate.Raw}, PrivateKey: a.Key}
}

// The following break the leaf's signature, which nobody gets to check.

// patched replaces bytes of the leaf by others of the same number.
func patched(c tls.Certificate, from, to string) tls.Certificate {
	return spoilt(c, func(der []byte) []byte { return bytes.ReplaceAll(der, []byte(from), []byte(to)) })
}

// negativeSerial sets the sign of the leaf's serial number (RFC 5280, 4.1.2.2,
// wants it positive).
func negativeSerial(c tls.Certificate) tls.Certificate {
	return spoilt(c, func(der []byte) []byte {
		serial := c.Leaf.SerialNumber.Bytes()
		der[bytes.Index(der, serial)] |= 0x80
		return der
	})
}

func trailing(c tls.Certificate) tls.Certificate {
	return spoilt(c, func(der []byte) []byte { return append(der, 0) })
}

// garbled has something that is no certificate in its chain.
func garbled(c tls.Certificate) tls.Certificate {
	c.Certificate = append(slices.Clone(c.Certificate), []byte("garbage"))
	return c
}

// spoilt keeps what crypto/tls believes the leaf to be, so that it signs the
// handshake.
func spoilt(c tls.Certificate, change func([]byte) []byte) tls.Certificate {
	c.Certificate = slices.Clone(c.Certificate)
	c.Certificate[0] = change(bytes.Clone(c.Certificate[0]))
	return c
}
