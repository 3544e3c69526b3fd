// Package tlsfiles serves TLS with a certificate from files that somebody else
// renews (cert-manager, a cron job): they are read again when they change, so
// that no server needs a restart for it.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Config names the files.
type Config struct {
	// Cert and Key are the server's certificate chain and private key, PEM.
	Cert, Key string
	// ClientCA holds the CAs whose clients may connect, PEM. "": clients need
	// no certificate.
	ClientCA string
	// Logger hears when files were read anew, and when they could not be. Nil:
	// slog.Default.
	Logger *slog.Logger
}

// Enabled reports whether any file is named.
func (c Config) Enabled() bool { return c.Cert != "" || c.Key != "" || c.ClientCA != "" }

// files returns the files that are named.
func (c Config) files() []string {
	if c.ClientCA == "" {
		return []string{c.Cert, c.Key}
	}
	return []string{c.Cert, c.Key, c.ClientCA}
}

// Server makes a server's TLS configuration. The files have to be right now.
// Later each handshake looks whether one of them is another than before; while
// what it finds is unusable (a new certificate whose key is still to be
// written, say), the last good files serve on, and each state of the files is
// complained about once. Connections that exist go on as they began.
//
// With a ClientCA, a client needs a certificate of it. TLS 1.2 is accepted
// because Envoy as a client offers nothing newer by default.
func Server(c Config) (*tls.Config, error) {
	if c.Cert == "" || c.Key == "" {
		return nil, errors.New("TLS needs both a certificate and a key file")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	r := &reloader{config: c}
	// The files are examined before they are read: a change in between is seen
	// as one at the next handshake.
	r.seen = c.examine()
	var err error
	if r.current, err = c.load(); err != nil {
		return nil, err
	}
	config := r.current.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.latest(), nil }
	return config, nil
}

// reloader holds the last good configuration.
type reloader struct {
	config  Config
	mu      sync.Mutex
	seen    []fs.FileInfo // the files when they were last read, well or not
	current *tls.Config
}

func (r *reloader) latest() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.config.examine()
	if same(now, r.seen) {
		return r.current
	}
	r.seen = now
	next, err := r.config.load()
	if err != nil {
		r.config.Logger.Error("TLS files cannot be used, the previous ones stay", "error", err)
		return r.current
	}
	r.config.Logger.Info("TLS files were read anew",
		"file", r.config.Cert, "not_after", next.Certificates[0].Leaf.NotAfter.Format(time.RFC3339))
	r.current = next
	return next
}

func (c Config) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", c.Cert, c.Key, err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		// A ticket would outlive the CA that let its owner in.
		SessionTicketsDisabled: true,
	}
	if c.ClientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("TLS client CA: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS client CA %s: no certificate in it", c.ClientCA)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}

// examine tells one state of the files from another without reading them, by
// what Kubernetes (which swaps a link to a folder) and others (which rename or
// overwrite) change. A file that is not there is nil.
func (c Config) examine() []fs.FileInfo {
	files := c.files()
	state := make([]fs.FileInfo, len(files))
	for i, file := range files {
		state[i], _ = os.Stat(file)
	}
	return state
}

func same(a, b []fs.FileInfo) bool {
	return slices.EqualFunc(a, b, func(x, y fs.FileInfo) bool {
		if x == nil || y == nil {
			return x == y
		}
		return os.SameFile(x, y) && x.Size() == y.Size() && x.ModTime().Equal(y.ModTime())
	})
}
