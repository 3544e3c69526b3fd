package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
)

// remote is a hubgate that is reached over TCP. Its form is that of the file of
// contexts.
type remote struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"`
	// Token is a secret; TokenFile the file that holds it.
	Token     string `yaml:"token,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"`
	// CAFile is who signs the server's certificate, PEM; else the system's.
	CAFile string `yaml:"ca_file,omitempty"`
	// PlainHTTP lets the token travel readable by all.
	PlainHTTP bool `yaml:"plain_http,omitempty"`
}

// dialTimeout bounds the set-up of a connection, keepAlive notices a dead one.
const (
	dialTimeout = 10 * time.Second
	keepAlive   = 15 * time.Second
)

// open makes a client; nothing is sent yet.
func (r remote) open() (*client, error) {
	address, err := r.check()
	if err != nil {
		return nil, err
	}
	token := r.Token
	if r.TokenFile != "" {
		if token, err = readToken(r.TokenFile); err != nil {
			return nil, err
		}
	}
	if token != "" && address.Scheme == "http" && !r.PlainHTTP && !isLoopback(address.Hostname()) {
		return nil, fmt.Errorf("%s: the token would travel unencrypted, for all on the way to read: use https, or say --plain-http", r.URL)
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answerTimeout,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if r.CAFile != "" {
		pem, err := os.ReadFile(r.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file: %s holds no certificate in PEM form", r.CAFile)
		}
	}
	return &client{
		base: strings.TrimSuffix(address.String(), "/"), token: token, who: r.URL,
		http:  newHTTPClient(transport),
		close: func() error { transport.CloseIdleConnections(); return nil },
	}, nil
}

// check reads the address.
func (r remote) check() (*url.URL, error) {
	address, err := url.Parse(r.URL)
	switch {
	case err != nil, address.Scheme != "http" && address.Scheme != "https", address.Host == "":
		return nil, fmt.Errorf("%q is no address of a hubgate: write https://HOST:9192", r.URL)
	case address.User != nil, address.RawQuery != "", address.Fragment != "":
		return nil, fmt.Errorf("%q: leave out all but scheme, host, port and path; a token goes into --token-file or HUBGATE_TOKEN", address.Redacted())
	}
	return address, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maxTokenFile is far beyond a token.
const maxTokenFile = 4 << 10

func readToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := readSecret(file)
	if err != nil {
		return "", fmt.Errorf("token file %s: %w", path, err)
	}
	return text, nil
}

// readSecret reads a token. What it is told never names what was read.
func readSecret(from io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxTokenFile))
	if err != nil {
		return "", err
	}
	return checkToken(string(text))
}

func checkToken(text string) (string, error) {
	token := strings.TrimSpace(text)
	if _, err := uuid.Parse(token); err != nil || len(token) != 36 {
		return "", errors.New("it is no token: a token is a UUID, as `hubgate token create` prints it")
	}
	return token, nil
}

// unreachable tells that a hubgate does not answer, and why.
func (c *client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := cause(err).Error()
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		text += ": pass the CA that signed it with --ca-file, if it is one of your own"
	}
	return &unreachableError{fmt.Errorf("%s did not answer: %s", c.who, text)}
}
