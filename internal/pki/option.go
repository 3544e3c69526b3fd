package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

// KeyKind names a kind of key.
type KeyKind string

// The kinds of key that NewKey makes.
const (
	P224    KeyKind = "P-224"
	P256    KeyKind = "P-256"
	P384    KeyKind = "P-384"
	P521    KeyKind = "P-521"
	Ed25519 KeyKind = "Ed25519"
	RSA1024 KeyKind = "RSA-1024"
	RSA2048 KeyKind = "RSA-2048"
	RSA3072 KeyKind = "RSA-3072"
	RSA4096 KeyKind = "RSA-4096"
)

// NewKey makes a key of that kind.
func NewKey(kind KeyKind) (crypto.Signer, error) {
	switch kind {
	case P224:
		return ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("pki: unknown kind of key %q", kind)
}

// Option changes a certificate before it is signed. Options apply in order.
type Option func(*builder) error

// builder is a certificate to be.
type builder struct {
	template *x509.Certificate
	key      crypto.Signer
	edit     func(der []byte, issuer crypto.Signer) ([]byte, error)
}

// WithKey makes the certificate's key of that kind instead of P-256.
func WithKey(kind KeyKind) Option {
	return func(b *builder) (err error) {
		b.key, err = NewKey(kind)
		return err
	}
}

// WithSigner certifies that key instead of a new one.
func WithSigner(key crypto.Signer) Option {
	return func(b *builder) error {
		b.key = key
		return nil
	}
}

// WithValidity sets when the certificate is valid. x509 rounds down to seconds.
func WithValidity(notBefore, notAfter time.Time) Option {
	return WithTemplate(func(t *x509.Certificate) {
		t.NotBefore, t.NotAfter = notBefore, notAfter
	})
}

// WithTemplate changes anything about the certificate: names, usages, path
// length, constraints, extensions.
func WithTemplate(change func(*x509.Certificate)) Option {
	return func(b *builder) error {
		change(b.template)
		return nil
	}
}

// WithDER replaces the signed certificate by what edit makes of it, for what
// crypto/x509 refuses to make: forbidden algorithms, absurd keys, broken
// signatures. issuer is the key that signed. The result must still parse.
func WithDER(edit func(der []byte, issuer crypto.Signer) ([]byte, error)) Option {
	return func(b *builder) error {
		b.edit = edit
		return nil
	}
}

// build applies the options, then fills what they left open.
func build(t *x509.Certificate, opts []Option) (*builder, error) {
	b := &builder{template: t}
	for _, o := range opts {
		if err := o(b); err != nil {
			return nil, err
		}
	}
	var err error
	if b.key == nil {
		if b.key, err = NewKey(P256); err != nil {
			return nil, err
		}
	}
	if t.SerialNumber == nil {
		if t.SerialNumber, err = newSerial(); err != nil {
			return nil, err
		}
	}
	if t.IsCA && t.SubjectKeyId == nil {
		if t.SubjectKeyId, err = keyID(b.key.Public()); err != nil {
			return nil, err
		}
	}
	return b, nil
}
