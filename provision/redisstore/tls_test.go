package redisstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/process"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// TestTLS: rediss is TLS, and the server has to prove who it is.
func TestTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) (string, []byte) {
		path, text := filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path, text
	}
	certFile, certPEM := write("cert.pem", "CERTIFICATE", der)
	keyFile, _ := write("key.pem", "PRIVATE KEY", keyDER)
	ports, err := process.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	s := redistest.Start(t)
	// All at once: the port opens with the certificate that is there by then.
	s.Do("CONFIG", "SET", "tls-cert-file", certFile, "tls-key-file", keyFile, "tls-ca-cert-file", certFile,
		"tls-auth-clients", "no", "tls-port", ports[0])

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	c := patient(fmt.Sprintf("rediss://127.0.0.1:%d", ports[0]))
	c.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	open(t, c)
	c.TLS = nil
	if _, err := redisstore.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
}
