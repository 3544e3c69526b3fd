package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// Identity is an end entity: a device or a server.
type Identity struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Chain       []*x509.Certificate // leaf first, then intermediates; not the root
	Root        *x509.Certificate
}

// TLS is the identity as crypto/tls presents it: with its intermediates,
// without the root.
func (i *Identity) TLS() tls.Certificate {
	return i.TLSWith(i.Chain[1:]...)
}

// TLSWith presents the leaf and exactly these certificates after it.
func (i *Identity) TLSWith(certs ...*x509.Certificate) tls.Certificate {
	t := tls.Certificate{
		Certificate: [][]byte{i.Certificate.Raw},
		PrivateKey:  i.Key,
		Leaf:        i.Certificate,
	}
	for _, c := range certs {
		t.Certificate = append(t.Certificate, c.Raw)
	}
	return t
}

// WriteFiles writes the chain to name.pem and the key to name.key, readable by
// its owner alone, in a directory that exists.
func (i *Identity) WriteFiles(dir, name string) (certFile, keyFile string, err error) {
	key, err := EncodeKey(i.Key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		return "", "", fmt.Errorf("pki: %w", err)
	}
	if err := os.WriteFile(certFile, EncodeCertificates(i.Chain...), 0o644); err != nil { //nolint:gosec // a certificate is public
		return "", "", fmt.Errorf("pki: %w", err)
	}
	return certFile, keyFile, nil
}

// EncodeCertificates writes certificates as PEM.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// EncodeKey writes a private key as PKCS #8 PEM.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
