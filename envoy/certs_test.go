package envoy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// vendor issues what a test needs: certificates of devices below an
// intermediate, and one for a server.
type vendor struct {
	root, line *issuer
}

type issuer struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newVendor(t *testing.T) *vendor {
	t.Helper()
	root := issue(t, nil, authority("Vendor Root"), newKey(t))
	return &vendor{root: root, line: issue(t, root, authority("Vendor Line 1"), newKey(t))}
}

// device gives a device that presents its leaf, the intermediate and the root.
func (v *vendor) device(t *testing.T, name string) tls.Certificate {
	t.Helper()
	return v.deviceWithKey(t, name, newKey(t))
}

func (v *vendor) deviceWithKey(t *testing.T, name string, key crypto.Signer) tls.Certificate {
	t.Helper()
	leaf := issue(t, v.line, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key)
	return tls.Certificate{
		Certificate: [][]byte{leaf.certificate.Raw, v.line.certificate.Raw, v.root.certificate.Raw},
		PrivateKey:  key,
		Leaf:        leaf.certificate,
	}
}

// server writes a certificate for the test's names and tells where.
func (v *vendor) server(t *testing.T) (pair KeyPair, ca string) {
	t.Helper()
	dir := t.TempDir()
	key := newKey(t)
	leaf := issue(t, v.root, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "server"},
		DNSNames:    []string{"iot.example.com", "*.iot.example.com", "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair.Certificate = write("server.crt", "CERTIFICATE", leaf.certificate.Raw)
	pair.Key = write("server.key", "PRIVATE KEY", keyDER)
	return pair, write("ca.crt", "CERTIFICATE", v.root.certificate.Raw)
}

func (v *vendor) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(v.root.certificate)
	return pool
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	return ecKey(t, elliptic.P256())
}

func ecKey(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edKey(t *testing.T) crypto.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t *testing.T, by *issuer, template *x509.Certificate, key crypto.Signer) *issuer {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(time.Hour)
	if by == nil {
		by = &issuer{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{certificate, key}
}
