package tlsfiles_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/tlsfiles"
)

type fleet struct {
	ca     *pki.Authority
	server *pki.Identity
	client *pki.Identity
}

func newFleet(t *testing.T) fleet {
	t.Helper()
	ca, err := pki.NewRoot("ca")
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Leaf("client")
	if err != nil {
		t.Fatal(err)
	}
	return fleet{ca, server, client}
}

func (f fleet) write(t *testing.T, dir string) tlsfiles.Config {
	t.Helper()
	cert, key, err := f.server.WriteFiles(dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, pki.EncodeCertificates(f.ca.Certificate))
	return tlsfiles.Config{Cert: cert, Key: key, ClientCA: ca}
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	// A new file in the place of the old one, as those who renew do it.
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// shake connects as a client of the fleet and returns the server's certificate.
func shake(t *testing.T, config *tls.Config, f fleet, withCert bool) (*x509.Certificate, error) {
	t.Helper()
	server, client := net.Pipe()
	defer func() { _ = client.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = server.Close() }()
		if conn := tls.Server(server, config); conn.Handshake() == nil {
			_, _ = io.WriteString(conn, "x")
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(f.ca.Certificate)
	c := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
	if withCert {
		c.Certificates = []tls.Certificate{f.client.TLS()}
	}
	conn := tls.Client(client, c)
	err := conn.Handshake()
	if err == nil {
		_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells of a refusal here
	}
	_ = client.Close()
	<-done
	if err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func expect(t *testing.T, config *tls.Config, f fleet, when string) {
	t.Helper()
	got, err := shake(t, config, f, true)
	if err != nil {
		t.Errorf("%s: %v", when, err)
	} else if !got.Equal(f.server.Certificate) {
		t.Errorf("%s: another certificate is served", when)
	}
}

func TestClientCertificates(t *testing.T) {
	ours, others := newFleet(t), newFleet(t)
	files := ours.write(t, t.TempDir())
	config, err := tlsfiles.Server(files)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, config, ours, "with a certificate")
	if _, err := shake(t, config, ours, false); err == nil {
		t.Error("a client without a certificate is let in")
	}
	stranger := ours
	stranger.client = others.client
	if _, err := shake(t, config, stranger, true); err == nil {
		t.Error("a client of another CA is let in")
	}

	files.ClientCA = ""
	if config, err = tlsfiles.Server(files); err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, config, ours, false); err != nil {
		t.Errorf("without a client CA: %v", err)
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	first, second, third := newFleet(t), newFleet(t), newFleet(t)
	var log bytes.Buffer
	files := first.write(t, dir)
	files.Logger = slog.New(slog.NewTextHandler(&log, nil))
	config, err := tlsfiles.Server(files)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, config, first, "at first")
	second.write(t, dir)
	expect(t, config, second, "after a change")
	if n := strings.Count(log.String(), "read anew"); n != 1 {
		t.Errorf("%d log lines of the change:\n%s", n, log.String())
	}

	// The certificate comes before its key; until then the old pair serves.
	write(t, files.Cert, pki.EncodeCertificates(third.server.Certificate))
	for range 3 {
		expect(t, config, second, "with half of a new pair")
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d complaints about one state of the files:\n%s", n, log.String())
	}
	key, err := pki.EncodeKey(third.server.Key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.Key, key)
	write(t, files.ClientCA, pki.EncodeCertificates(third.ca.Certificate))
	expect(t, config, third, "with the whole pair")

	for name, spoil := range map[string]func(){
		"garbage": func() { write(t, files.Cert, []byte("garbage")) },
		"gone":    func() { _ = os.Remove(files.ClientCA) },
		"empty":   func() { write(t, files.ClientCA, nil) },
	} {
		spoil()
		expect(t, config, third, name)
	}
	first.write(t, dir)
	expect(t, config, first, "after repair")
}

// Kubernetes updates a secret by swapping a link to a folder.
func TestReloadBehindLink(t *testing.T) {
	dir := t.TempDir()
	first, second := newFleet(t), newFleet(t)
	for name, f := range map[string]fleet{"1": first, "2": second} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		f.write(t, filepath.Join(dir, name))
	}
	point := func(to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
	point("1")
	in := func(name string) string { return filepath.Join(dir, "data", name) }
	config, err := tlsfiles.Server(tlsfiles.Config{Cert: in("server.pem"), Key: in("server.key"), ClientCA: in("ca.pem")})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, config, first, "at first")
	point("2")
	expect(t, config, second, "after the swap")
}

func TestServerErrors(t *testing.T) {
	f := newFleet(t)
	good := f.write(t, t.TempDir())
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	write(t, garbage, []byte("garbage"))
	for name, tt := range map[string]struct {
		config tlsfiles.Config
		want   string
	}{
		"no key":          {tlsfiles.Config{Cert: good.Cert}, "both a certificate and a key"},
		"no certificate":  {tlsfiles.Config{Key: good.Key}, "both a certificate and a key"},
		"wrong way round": {tlsfiles.Config{Cert: good.Key, Key: good.Cert}, good.Key},
		"garbage":         {tlsfiles.Config{Cert: garbage, Key: good.Key}, garbage},
		"no CA file":      {tlsfiles.Config{Cert: good.Cert, Key: good.Key, ClientCA: "/none"}, "/none"},
		"no CA in it":     {tlsfiles.Config{Cert: good.Cert, Key: good.Key, ClientCA: garbage}, garbage},
	} {
		if _, err := tlsfiles.Server(tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want …%s…", name, err, tt.want)
		}
	}
}
