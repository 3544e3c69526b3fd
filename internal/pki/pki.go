// Package pki makes the certificates of a device vendor: a root, its
// intermediates, device certificates, and the servers around them. The demo
// builds its factory with it, and tests build odd and hostile ones: every field
// of a certificate can be set, sane or not.
//
// It is no production CA: keys live in memory, serial numbers are not recorded,
// nothing is revoked.
package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// Authority is a certification authority: a certificate, its key, and the
// certificates above it. It is immutable and safe for concurrent use.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	// Parents are the certificates above, nearest first, root last; empty for
	// a root.
	Parents []*x509.Certificate
}

// NewRoot makes a self-signed CA named CN=name: P-256, valid from an hour ago
// for ten years, unless options say otherwise.
func NewRoot(name string, opts ...Option) (*Authority, error) {
	b, err := build(caTemplate(name), opts)
	if err != nil {
		return nil, err
	}
	c, err := issue(b, b.template, b.key)
	if err != nil {
		return nil, err
	}
	return &Authority{Certificate: c, Key: b.key}, nil
}

// Intermediate makes a CA named CN=name that a signed.
func (a *Authority) Intermediate(name string, opts ...Option) (*Authority, error) {
	b, err := build(caTemplate(name), opts)
	if err != nil {
		return nil, err
	}
	c, err := issue(b, a.Certificate, a.Key)
	if err != nil {
		return nil, err
	}
	return &Authority{Certificate: c, Key: b.key, Parents: a.path()}, nil
}

// Leaf makes a device certificate named CN=cn, for TLS client authentication.
func (a *Authority) Leaf(cn string, opts ...Option) (*Identity, error) {
	t := template(cn)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.identity(t, opts)
}

// Server makes a TLS server certificate for hosts, which are DNS names or IP
// addresses. The first is its common name.
func (a *Authority) Server(hosts ...string) (*Identity, error) {
	if len(hosts) == 0 {
		return nil, fmt.Errorf("pki: a server certificate needs a host")
	}
	t := template(hosts[0])
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.identity(t, nil)
}

// CrossSign certifies the name and key of another authority: a second path to
// whatever that authority issued.
func (a *Authority) CrossSign(other *Authority, opts ...Option) (*x509.Certificate, error) {
	t := caTemplate(other.Certificate.Subject.CommonName)
	t.RawSubject = other.Certificate.RawSubject
	t.SubjectKeyId = other.Certificate.SubjectKeyId
	b, err := build(t, append([]Option{WithSigner(other.Key)}, opts...))
	if err != nil {
		return nil, err
	}
	return issue(b, a.Certificate, a.Key)
}

// path is a and what is above it, nearest first.
func (a *Authority) path() []*x509.Certificate {
	return append([]*x509.Certificate{a.Certificate}, a.Parents...)
}

func (a *Authority) identity(t *x509.Certificate, opts []Option) (*Identity, error) {
	b, err := build(t, opts)
	if err != nil {
		return nil, err
	}
	c, err := issue(b, a.Certificate, a.Key)
	if err != nil {
		return nil, err
	}
	path := a.path()
	top := len(path) - 1
	return &Identity{
		Certificate: c,
		Key:         b.key,
		Chain:       append([]*x509.Certificate{c}, path[:top]...),
		Root:        path[top],
	}, nil
}

func template(cn string) *x509.Certificate {
	now := time.Now().Add(-time.Hour).Truncate(time.Second)
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: cn},
		NotBefore:             now,
		NotAfter:              now.AddDate(10, 0, 0),
		BasicConstraintsValid: true,
	}
}

func caTemplate(name string) *x509.Certificate {
	t := template(name)
	t.IsCA = true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return t
}

// issue signs what was built. A panic of crypto/x509, which some templates that
// make no sense cause, is an error here.
func issue(b *builder, parent *x509.Certificate, key crypto.Signer) (c *x509.Certificate, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("pki: certificate %q: %v", b.template.Subject.CommonName, p)
		}
	}()
	// CreateCertificate checks its own signature with the parent's public key,
	// and refuses a parent whose key is not the one that signs; a root's
	// template has no key yet.
	if parent == b.template {
		self := *parent
		self.PublicKey = key.Public()
		parent = &self
	}
	der, err := x509.CreateCertificate(rand.Reader, b.template, parent, b.key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("pki: certificate %q: %w", b.template.Subject.CommonName, err)
	}
	if b.edit != nil {
		if der, err = b.edit(slices.Clone(der), key); err != nil {
			return nil, fmt.Errorf("pki: certificate %q: %w", b.template.Subject.CommonName, err)
		}
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: certificate %q: %w", b.template.Subject.CommonName, err)
	}
	return c, nil
}

// newSerial returns a positive serial number of 127 random bits (RFC 5280,
// 4.1.2.2, allows 20 octets).
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// keyID identifies a public key: the first 20 bytes of its SHA-256 (RFC 7093,
// 2, method 1).
func keyID(key crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	sum := sha256.Sum256(spki)
	return sum[:20], nil
}
