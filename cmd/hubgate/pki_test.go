package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// writeCA writes an authority's certificate and key.
func writeCA(t *testing.T, dir, name string, a *pki.Authority) (cert, key string) {
	t.Helper()
	text, err := pki.EncodeKey(a.Key)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, name+".pem", pki.EncodeCertificates(a.Certificate)), writeFile(t, dir, name+".key", text)
}

// proves demands that the challenge is the proof that hubgate wants.
func proves(t *testing.T, text string, ca *x509.Certificate, hub provision.HubID, valid time.Duration) {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
		t.Fatalf("no certificate: %s", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
	if c.Subject.CommonName != hub.String() || c.IsCA || c.NotAfter.Sub(c.NotBefore) != valid {
		t.Errorf("common name %s, CA %v, valid for %s", c.Subject.CommonName, c.IsCA, c.NotAfter.Sub(c.NotBefore))
	}
	if now := time.Now(); now.Before(c.NotBefore) || now.After(c.NotAfter) {
		t.Errorf("valid from %s to %s", c.NotBefore, c.NotAfter)
	}
}

func TestPKIChallenge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	id := provision.NewHubID()
	for _, kind := range []pki.KeyKind{pki.P256, pki.P384, pki.Ed25519, pki.RSA2048} {
		root, err := pki.NewRoot("root "+string(kind), pki.WithKey(kind))
		if err != nil {
			t.Fatal(err)
		}
		ca, key := writeCA(t, s.dir, string(kind), root)
		out := hubgate(t, "pki", "challenge", "--ca", ca, "--key", key, "--hub", id.String()).ok(t)
		proves(t, out, root.Certificate, id, 24*time.Hour)
	}
	ca, key := filepath.Join(s.dir, "P-256.pem"), filepath.Join(s.dir, "P-256.key")

	// By name, hubgate tells the ID.
	s.serve()
	file := filepath.Join(s.dir, "challenge.pem")
	s.hubgate("pki", "challenge", "--ca", ca, "--key", key, "--hub", "factory", "--valid-for", "168h", "--out", file).ok(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root, err := readCA(ca)
	if err != nil {
		t.Fatal(err)
	}
	proves(t, string(text), root, provision.DeclaredHubID("factory"), 7*24*time.Hour)

	leaf, err := s.factory.line.Leaf("SN-0001")
	if err != nil {
		t.Fatal(err)
	}
	leafFile, leafKey, err := leaf.WriteFiles(s.dir, "leaf")
	if err != nil {
		t.Fatal(err)
	}
	old, err := pki.NewRoot("old", pki.WithValidity(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	oldFile, oldKey := writeCA(t, s.dir, "old", old)
	alone := writeFile(t, s.dir, "alone.pem", pki.EncodeCertificates(leaf.Certificate))
	encrypted := writeFile(t, s.dir, "encrypted.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	broken := writeFile(t, s.dir, "broken.key", []byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"))
	for _, tt := range []struct {
		ca, key, hub string
		more         []string
		code         int
		err          string
	}{
		{ca, key, "plant", nil, exitNotFound, `the ID of hub plant: hub "plant" not found`},
		{ca, leafKey, "factory", nil, exitError, "the key is not that of CN=root P-256"},
		{leafFile, leafKey, "factory", nil, exitError, "holds several certificates"},
		{alone, leafKey, "factory", nil, exitError, "is no CA (basicConstraints CA:TRUE is missing)"},
		{oldFile, oldKey, "factory", nil, exitError, "CN=old expired on"},
		{ca, encrypted, "factory", nil, exitError, "is encrypted: decrypt it"},
		{ca, broken, "factory", nil, exitError, "the key does not parse"},
		{ca, ca, "factory", nil, exitError, "holds no private key"},
		{key, key, "factory", nil, exitError, "holds no certificate"},
		{"", key, "factory", nil, exitUsage, "--ca is missing"},
		{ca, "", "factory", nil, exitUsage, "--key is missing"},
		{ca, key, "", nil, exitUsage, "--hub is missing"},
		{ca, key, "factory", []string{"--valid-for", "169h"}, exitUsage, "--valid-for: 169h0m0s is not from 1m to 168h0m0s"},
	} {
		got := s.hubgate(append([]string{"pki", "challenge", "--ca", tt.ca, "--key", tt.key, "--hub", tt.hub}, tt.more...)...)
		if got.code != tt.code || got.out != "" || !strings.Contains(got.err, tt.err) {
			t.Errorf("%v: %+v", tt, got)
		}
	}
}

// TestOpenSSLChallenge runs what the documentation says to run, with the real
// OpenSSL.
func TestOpenSSLChallenge(t *testing.T) {
	t.Parallel()
	const page = "../../docs/trust-anchors.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(text), "```sh\nopenssl ")
	script, _, ok := strings.Cut(script, "```")
	if !ok {
		t.Fatal(page + " has no block that begins with openssl")
	}
	id := provision.NewHubID()
	for _, kind := range []pki.KeyKind{pki.P256, pki.RSA2048} {
		root, err := pki.NewRoot("root", pki.WithKey(kind))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		writeCA(t, dir, "ca", root)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c := exec.CommandContext(ctx, "sh", "-e", "-c", "openssl "+script)
		c.Dir, c.Env = dir, append(os.Environ(), "HUB_ID="+id.String())
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		made, err := os.ReadFile(filepath.Join(dir, "challenge.pem"))
		if err != nil {
			t.Fatal(err)
		}
		proves(t, string(made), root.Certificate, id, 24*time.Hour)
	}
}
