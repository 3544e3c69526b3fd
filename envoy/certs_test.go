package envoy

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
)

// vendor issues what a test needs: certificates of devices below an
// intermediate, and those of the servers.
type vendor struct {
	root, line *pki.Authority
}

func newVendor(t testing.TB) *vendor {
	t.Helper()
	root, err := pki.NewRoot("Vendor Root")
	if err != nil {
		t.Fatal(err)
	}
	line, err := root.Intermediate("Vendor Line 1")
	if err != nil {
		t.Fatal(err)
	}
	return &vendor{root: root, line: line}
}

// device gives a device that presents its leaf, the intermediate and the root.
func (v *vendor) device(t testing.TB, name string, options ...pki.Option) tls.Certificate {
	t.Helper()
	leaf, err := v.line.Leaf(name, options...)
	if err != nil {
		t.Fatal(err)
	}
	return leaf.TLSWith(v.line.Certificate, v.root.Certificate)
}

// server writes a certificate for the test's names.
func (v *vendor) server(t testing.TB) KeyPair {
	t.Helper()
	return files(t)(v.root.Server("iot.example.com", "*.iot.example.com", "localhost", "127.0.0.1"))
}

// client writes a certificate for Envoy itself.
func (v *vendor) client(t testing.TB) KeyPair {
	t.Helper()
	return files(t)(v.root.Leaf("envoy"))
}

// files writes what an authority just made.
func files(t testing.TB) func(*pki.Identity, error) KeyPair {
	return func(identity *pki.Identity, err error) KeyPair {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		certificate, key, err := identity.WriteFiles(t.TempDir(), "tls")
		if err != nil {
			t.Fatal(err)
		}
		return KeyPair{certificate, key}
	}
}

// ca writes the root's certificate.
func (v *vendor) ca(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, pki.EncodeCertificates(v.root.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (v *vendor) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(v.root.Certificate)
	return pool
}
