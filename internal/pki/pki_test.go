package pki

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"slices"
	"testing"
	"time"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

func TestChainsVerifyForEveryKey(t *testing.T) {
	for _, kind := range []KeyKind{P256, P384, P521, Ed25519, RSA2048} {
		t.Run(string(kind), func(t *testing.T) {
			root := must(NewRoot("Vendor Root", WithKey(kind)))(t)
			outer := must(root.Intermediate("Plant", WithKey(kind)))(t)
			inner := must(outer.Intermediate("Line 1", WithKey(kind)))(t)
			leaf := must(inner.Leaf("SN-1", WithKey(kind)))(t)
			if want := []*x509.Certificate{leaf.Certificate, inner.Certificate, outer.Certificate}; !slices.Equal(leaf.Chain, want) {
				t.Errorf("chain is %v", leaf.Chain)
			}
			if leaf.Root != root.Certificate {
				t.Error("another root")
			}
			_, err := leaf.Certificate.Verify(x509.VerifyOptions{
				Roots:         pool(leaf.Root),
				Intermediates: pool(leaf.Chain[1:]...),
				KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCrossSign(t *testing.T) {
	old, next := must(NewRoot("Old"))(t), must(NewRoot("New"))(t)
	line := must(next.Intermediate("Line"))(t)
	leaf := must(line.Leaf("SN-1"))(t)
	cross := must(old.CrossSign(next))(t)
	_, err := leaf.Certificate.Verify(x509.VerifyOptions{
		Roots:         pool(old.Certificate),
		Intermediates: pool(line.Certificate, cross),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		t.Error(err)
	}
}

func TestServer(t *testing.T) {
	root := must(NewRoot("Site"))(t)
	server := must(root.Server("hub.example.com", "127.0.0.1", "::1"))(t)
	for _, host := range []string{"hub.example.com", "127.0.0.1", "::1"} {
		_, err := server.Certificate.Verify(x509.VerifyOptions{DNSName: host, Roots: pool(root.Certificate)})
		if err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := root.Server(); err == nil {
		t.Error("a server without a host was certified")
	}
}

func TestWriteFiles(t *testing.T) {
	root := must(NewRoot("Root"))(t)
	line := must(root.Intermediate("Line"))(t)
	leaf := must(line.Leaf("SN-1"))(t)
	certFile, keyFile, err := leaf.WriteFiles(t.TempDir(), "sn-1")
	if err != nil {
		t.Fatal(err)
	}
	pair := must(tls.LoadX509KeyPair(certFile, keyFile))(t)
	if len(pair.Certificate) != 2 {
		t.Errorf("%d certificates, want leaf and intermediate", len(pair.Certificate))
	}
	if info := must(os.Stat(keyFile))(t); info.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %v", info.Mode())
	}
	if got := len(leaf.TLSWith(line.Certificate, root.Certificate).Certificate); got != 3 {
		t.Errorf("%d certificates presented, want 3", got)
	}
}

func TestOddTemplates(t *testing.T) {
	root := must(NewRoot("Root"))(t)
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	twice := must(root.Leaf("", WithTemplate(func(c *x509.Certificate) {
		c.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: cn, Value: "a"}, {Type: cn, Value: "b"}}}
	})))(t)
	if got := len(twice.Certificate.Subject.Names); got != 2 {
		t.Errorf("%d names, want 2", got)
	}
	same := must(root.Leaf("SN-2", WithSigner(twice.Key)))(t)
	if !slices.Equal(same.Certificate.RawSubjectPublicKeyInfo, twice.Certificate.RawSubjectPublicKeyInfo) {
		t.Error("WithSigner made another key")
	}
	forever := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	old := must(root.Leaf("SN-3", WithValidity(time.Unix(0, 0), forever)))(t)
	if !old.Certificate.NotAfter.Equal(forever) {
		t.Errorf("not after %v", old.Certificate.NotAfter)
	}
	broken := errors.New("broken")
	for name, opt := range map[string]Option{
		"negative serial": WithTemplate(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(-1) }),
		"unknown kind":    WithKey("P-1"),
		"failing edit":    WithDER(func([]byte, crypto.Signer) ([]byte, error) { return nil, broken }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := root.Leaf("x", opt); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestEdit(t *testing.T) {
	root := must(NewRoot("Root"))(t)
	if c := must(root.Leaf("SN-1", WithSHA1()))(t).Certificate; c.SignatureAlgorithm != x509.ECDSAWithSHA1 {
		t.Errorf("signed with %s", c.SignatureAlgorithm)
	} else if err := root.Certificate.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		t.Errorf("SHA-1: %v", err)
	}
	weak := must(root.Intermediate("Weak", WithRSAModulus(56_000, 3)))(t).Certificate
	if key, ok := weak.PublicKey.(*rsa.PublicKey); !ok || key.N.BitLen() != 56_000 || key.E != 3 {
		t.Errorf("key is a %T", weak.PublicKey)
	}
	if err := weak.CheckSignatureFrom(root.Certificate); err != nil {
		t.Error(err)
	}
	for kind, hash := range map[KeyKind]crypto.Hash{P256: crypto.SHA256, RSA2048: crypto.SHA256, Ed25519: 0} {
		signer := must(NewRoot("Signer", WithKey(kind)))(t)
		leaf := must(signer.Leaf("SN-2"))(t).Certificate
		der := must(Edit(leaf.Raw, signer.Key, hash, func(t *TBS) { t.Extensions = nil }))(t)
		edited := must(x509.ParseCertificate(der))(t)
		if err := edited.CheckSignatureFrom(signer.Certificate); err != nil || len(edited.Extensions) != 0 {
			t.Errorf("%s: %d extensions, %v", kind, len(edited.Extensions), err)
		}
		der = must(Edit(leaf.Raw, signer.Key, hash, func(t *TBS) { t.Serial.SetInt64(-1) }))(t)
		if _, err := x509.ParseCertificate(der); err == nil {
			t.Errorf("%s: a negative serial number parses", kind)
		}
	}
	if _, err := Edit([]byte("junk"), root.Key, crypto.SHA256, func(*TBS) {}); err == nil {
		t.Error("junk was edited")
	}
}
