package filter

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// Defaults and bounds of the configuration.
const (
	DefaultUserName       = "{hub_id}/{device_name}"
	DefaultClientID       = "{device_id}-{client_id}"
	DefaultConnectTimeout = 10 * time.Second
	DefaultMaxConnect     = 64 << 10

	minConnect = 1 << 10
	maxConnect = 1 << 20
	maxTimeout = 10 * time.Minute
)

// Settings are a filter's configuration: the filter_config of an entry in
// Envoy's list of filters.
type Settings struct {
	// HTTP is the role of a filter in front of HTTP; else it is MQTT's.
	HTTP bool
	// Ahead is the role of a filter that reads the CONNECT before the check,
	// where there is no TLS to tell who the device is.
	Ahead bool
	// ConnectTimeout bounds, in front of a broker, the wait for a complete CONNECT after the TLS
	// handshake, and the time that a CONNECT may be held.
	ConnectTimeout time.Duration
	// MaxConnect bounds a CONNECT, in bytes.
	MaxConnect int

	userName, clientID format
	node               string
	link               linkSettings
}

// document is the configuration as it is written.
type document struct {
	Role     string       `json:"role"`
	Node     string       `json:"node"`
	Link     linkSettings `json:"link"`
	UserName *string      `json:"username"`
	ClientID *string      `json:"client_id"`
	bounds
}

// bounds are those of a CONNECT.
type bounds struct {
	ConnectTimeout *string `json:"connect_timeout"`
	MaxConnect     *int    `json:"max_connect_bytes"`
}

// linkSettings say how to reach hubgate. They are the same for all filters of
// an Envoy.
type linkSettings struct {
	Addresses []string     `json:"addresses"`
	TLS       *tlsSettings `json:"tls"`
}

// tlsSettings name files, which are read anew for every attempt to connect.
type tlsSettings struct {
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	ServerName  string `json:"server_name"`
}

// ParseSettings reads a configuration strictly. The error names every wrong
// key.
func ParseSettings(config []byte) (*Settings, error) {
	var d document
	if err := decode(config, &d); err != nil {
		return nil, err
	}
	s := &Settings{HTTP: d.Role == "http", node: d.Node, link: d.Link}
	var problems []error
	problem := func(key string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		}
	}
	if d.Role != "mqtt" && d.Role != "http" {
		problem("role", fmt.Errorf("%q is neither mqtt nor http", d.Role))
	}
	if s.HTTP && (d.UserName != nil || d.ClientID != nil || d.ConnectTimeout != nil || d.MaxConnect != nil) {
		problem("role", errors.New("username, client_id, connect_timeout and max_connect_bytes are for role mqtt"))
	}
	s.bound(d.bounds, problem)
	var err error
	s.userName, err = parseFormat(or(d.UserName, DefaultUserName), fieldHub, fieldDevice, fieldName)
	problem("username", err)
	s.clientID, err = parseFormat(or(d.ClientID, DefaultClientID), fieldHub, fieldDevice, fieldName, fieldClient)
	problem("client_id", err)
	if s.node == "" {
		s.node, err = os.Hostname()
		problem("node", err)
	}
	s.link.check(problem)
	if s.HTTP {
		s.ConnectTimeout = 0
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return s, nil
}

// ParseAhead reads the configuration of a filter ahead of the check, as strictly:
// it has bounds alone.
func ParseAhead(config []byte) (*Settings, error) {
	var d bounds
	if err := decode(config, &d); err != nil {
		return nil, err
	}
	s := &Settings{Ahead: true}
	var problems []error
	s.bound(d, func(key string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", key, err))
		}
	})
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return s, nil
}

// bound takes in the bounds.
func (s *Settings) bound(b bounds, problem func(string, error)) {
	s.ConnectTimeout = DefaultConnectTimeout
	if b.ConnectTimeout != nil {
		var err error
		s.ConnectTimeout, err = time.ParseDuration(*b.ConnectTimeout)
		if err == nil && (s.ConnectTimeout <= 0 || s.ConnectTimeout > maxTimeout) {
			err = fmt.Errorf("%s is not within 0 and %s", s.ConnectTimeout, maxTimeout)
		}
		problem("connect_timeout", err)
	}
	s.MaxConnect = or(b.MaxConnect, DefaultMaxConnect)
	if s.MaxConnect < minConnect || s.MaxConnect > maxConnect {
		problem("max_connect_bytes", fmt.Errorf("%d is not within %d and %d", s.MaxConnect, minConnect, maxConnect))
	}
}

// Keeps names the keys whose format leaves what devices say of themselves.
func (s *Settings) Keeps() []string {
	var keys []string
	if s.HTTP || s.Ahead {
		return nil
	}
	if s.userName == nil {
		keys = append(keys, "username")
	}
	if s.clientID == nil {
		keys = append(keys, "client_id")
	}
	return keys
}

func (l *linkSettings) check(problem func(string, error)) {
	if len(l.Addresses) == 0 {
		problem("link.addresses", errors.New("none is given"))
	}
	for i, address := range l.Addresses {
		key := fmt.Sprintf("link.addresses[%d]", i)
		if path, ok := strings.CutPrefix(address, "unix://"); ok {
			if !strings.HasPrefix(path, "/") {
				problem(key, fmt.Errorf("%q is not unix:///path", address))
			}
			continue
		}
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" || port == "0" {
			problem(key, fmt.Errorf("%q is neither host:port nor unix:///path", address))
		}
	}
	if t := l.TLS; t != nil {
		if (t.Certificate == "") != (t.Key == "") {
			problem("link.tls", errors.New("certificate and key belong together"))
		} else if _, err := t.load(); err != nil {
			problem("link.tls", err)
		}
	}
}

// load reads the files.
func (t *tlsSettings) load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool(), ServerName: t.ServerName}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: no certificate in %s", t.CA)
	}
	if t.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate, key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// CheckChainConfig checks the configuration of the validator, which has none.
func CheckChainConfig(config []byte) error {
	if len(bytes.TrimSpace(config)) == 0 {
		return nil
	}
	return decode(config, &struct{}{})
}

// decode reads one JSON object without unknown keys.
func decode(config []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(config))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON object")
	}
	return nil
}

func or[T any](value *T, fallback T) T {
	if value == nil {
		return fallback
	}
	return *value
}
