package brokerauth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/tlsfiles"
)

func TestSetServices(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	service := exchange{"/mosquitto/user", asJSON, "", `{"username":"backend","password":"another long password"}`, 403, `{"ok":false,"error":"password_wrong"}`}
	r.expect(t, service)
	r.server.SetServices([]Service{{Username: serviceName, Password: sha256.Sum256([]byte("another long password"))}})
	service.status, service.answer = 200, `{"ok":true,"error":""}`
	r.expect(t, service)
	r.expect(t, exchange{"/mosquitto/acl", asJSON, "", `{"username":"backend","topic":"#","acc":4}`, 200, `{"ok":true,"error":""}`})
	r.server.SetServices(nil)
	service.status, service.answer = 403, `{"ok":false,"error":"identity_unknown"}`
	r.expect(t, service)
}

func TestUnfitConfig(t *testing.T) {
	t.Parallel()
	w := &world{facts: connected(t, "SN-1")}
	for name, c := range map[string]Config{
		"nothing":      {},
		"no sessions":  {Gate: w},
		"username":     {Gate: w, Sessions: w, Username: "{device_id}"},
		"a limit":      {Gate: w, Sessions: w, MaxInFlight: -1},
		"TLS in part":  {Gate: w, Sessions: w, TLS: tlsfiles.Config{Cert: "x"}},
		"TLS nowhere":  {Gate: w, Sessions: w, TLS: tlsfiles.Config{Cert: "x", Key: "x", ClientCA: "x"}},
		"drain before": {Gate: w, Sessions: w, DrainDelay: -1},
	} {
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "broker auth: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServe: over mutual TLS only those with a certificate ask, and a drain ends
// what is under way with its answer.
func TestServe(t *testing.T) {
	t.Parallel()
	ca, err := pki.NewRoot("Private CA")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	identity, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := identity.WriteFiles(dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Leaf("broker")
	if err != nil {
		t.Fatal(err)
	}
	caFile := dir + "/ca.pem"
	if err := os.WriteFile(caFile, pki.EncodeCertificates(ca.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *Config) {
		c.TLS = tlsfiles.Config{Cert: cert, Key: key, ClientCA: caFile}
		c.DrainDelay = 50 * time.Millisecond
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, drain := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ctx, l) }()
	ask := func(c *http.Client) (int, error) {
		body := strings.NewReader(`{"username":"` + r.username() + `"}`)
		answer, err := c.Post("https://"+l.Addr().String()+"/mosquitto/user", asJSON, body)
		if err != nil {
			return 0, err
		}
		defer func() { _ = answer.Body.Close() }()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	showing := func(certs ...tls.Certificate) *http.Client {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS12}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	with := showing(client.TLS())
	if status, err := ask(with); status != 200 {
		t.Errorf("with a certificate: %d %v", status, err)
	}
	if status, err := ask(showing()); err == nil {
		t.Errorf("without a certificate: %d", status)
	}
	hold, holding := make(chan struct{}), make(chan struct{})
	r.asked = sync.OnceFunc(func() {
		close(holding)
		<-hold
	})
	answered := make(chan int, 1)
	go func() {
		status, _ := ask(with)
		answered <- status
	}()
	<-holding
	drain()
	for refused := false; !refused; { // until nothing new is taken
		conn, err := net.Dial("tcp", l.Addr().String())
		if refused = err != nil; !refused {
			_ = conn.Close()
		}
	}
	close(hold)
	if status := <-answered; status != 200 {
		t.Errorf("a question under way when it drained: %d", status)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
