// Package config reads hubgate's configuration file.
//
// A mistake in this file decides who may connect, so reading is strict: a key
// that is not known, given twice or of the wrong type, a file that is missing,
// a certificate that cannot be an anchor – each is refused, and all are
// reported at once, with file and line and what to write instead. What Load
// returns is resolved: paths are absolute, certificates are read, hubs are
// domain values that were checked against each other.
//
// Watcher follows the file and the certificates it names while hubgate runs.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// Defaults of what the file does not say.
const (
	DefaultAuthzListen   = "127.0.0.1:9191"
	DefaultLinkListen    = "127.0.0.1:9194"
	DefaultMetricsListen = "127.0.0.1:9193"
	// DefaultStore is where devices are kept, in the directory of the
	// configuration file (without one: the working directory).
	DefaultStore = "hubgate.db"
	// DefaultSocket is the local socket where the store is Redis, in the same
	// directory. With the embedded store it is the file's name and ".sock".
	DefaultSocket = "hubgate.sock"
)

// Config is a configuration, checked and resolved.
type Config struct {
	// File is the file it was read from, as it was named; "" for the default.
	File string
	// Domain is the DNS domain under which SNI names hubs, "" if none.
	Domain string
	Store  Store
	// Partitions is how many partitions the store has to have; 0 takes it as it
	// is, or gives a new one the default number.
	Partitions int
	Authz      Authz
	Link       Link
	Admin      Admin
	BrokerAuth BrokerAuth
	Metrics    Metrics
	Log        Log
	Events     Events
	Admission  Admission
	CRL        CRL
	// Hubs are the declared hubs.
	Hubs []provision.Hub

	sources sources
}

// Store is where hubs, devices and events are kept. Exactly one of Path and URL
// is set.
type Store struct {
	// Path is the embedded store's file.
	Path string
	// URL is that of the Redis, without its password.
	URL string
	// Password is read from store_password_file.
	Password Secret
	// CAFile verifies a Redis server's certificate instead of the system's
	// authorities; "" if the system's do.
	CAFile string
	// Cert and Key are hubgate's own certificate towards a Redis server that
	// asks for one; "" if none does.
	Cert, Key string
	// SentinelUsername and SentinelPassword are for Sentinel itself.
	SentinelUsername string
	SentinelPassword Secret
	// WaitReplicas is how many replicas have to acknowledge a change before
	// it counts as made.
	WaitReplicas int
}

// Secret is a string that does not show up in logs and errors.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// MarshalText hides the secret from JSON and from slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Authz is the listener that Envoy asks.
type Authz struct {
	// Listen is host:port or unix:///path.
	Listen string
	// TLS is nil on a listener without it.
	TLS *TLS
	// Insecure says outright that a listener without TLS that other hosts
	// reach is meant.
	Insecure bool
	// MaxInFlight bounds the checks in flight. 0: the server's default.
	MaxInFlight int
	// FailuresPerMinute bounds the certificates of a source network that are
	// refused after they were looked at. 0: no bound.
	FailuresPerMinute int
	// Opaque keeps the reason of a denial from the device.
	Opaque bool
	// OutageWindow is how long known devices are served while the store does
	// not answer. 0: the default; negative: not at all.
	OutageWindow time.Duration
}

// Link is the listener of the links to Envoys that have hubgate's library.
type Link struct {
	// Listen is host:port or unix:///path.
	Listen string
	// TLS is nil on a listener without it.
	TLS *TLS
	// Insecure says outright that a listener without TLS that other hosts
	// reach is meant.
	Insecure bool
}

// TLS names the files of a mutual TLS listener; they exist and fit together.
type TLS struct {
	Cert, Key string
	// ClientCA holds the CAs of the certificates that Envoys show.
	ClientCA string
}

// Metrics is the listener of /metrics, /livez and /readyz.
type Metrics struct {
	Listen string // host:port
}

// Log says how hubgate logs.
type Log struct {
	Level slog.Level
	// JSON writes a JSON object per line, else text.
	JSON bool
	// AllChecks logs every decision, else those that come in floods in part.
	AllChecks bool
}

// Default is the configuration without a file: the embedded store in dir,
// loopback listeners, no hubs.
func Default(dir string) (*Config, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	l := &loader{dir: dir}
	c := l.config(nil)
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return c, nil
}

// Load reads a configuration file and the files it names. What is wrong with
// them is returned all at once as Problems.
func Load(path string) (*Config, error) {
	c, _, err := load(path)
	return c, err
}

// load returns what it read as well, so that changes of it can be noticed, even
// if it was not fit.
func load(path string) (*Config, sources, error) {
	l := &loader{file: path, sources: make(sources)}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, l.sources, err
	}
	l.dir = filepath.Dir(abs)
	data, err := l.read(abs)
	if err != nil {
		return nil, l.sources, fmt.Errorf("%s: %s", path, plain(err))
	}
	c := l.parse(data)
	if len(l.problems) > 0 {
		return nil, l.sources, l.problems.sorted()
	}
	c.sources = l.sources
	return c, l.sources, nil
}

// loader is one reading of a file.
type loader struct {
	file     string // as it was named
	dir      string // relative files are relative to it
	sources  sources
	problems Problems
}

// parse reads the file's text. Problems are in l.problems; then the result is
// not to be used.
func (l *loader) parse(data []byte) *Config {
	root := l.document(data)
	if len(l.problems) > 0 {
		return nil
	}
	top := l.section(root, "", "domain", "store", "store_password_file", "store_ca_file", "redis", "partitions",
		"authz", "link", "admin", "broker_auth", "metrics", "log", "events", "admission", "crl", "hubs")
	return l.config(top)
}

// config resolves the top section, nil if there is no file.
func (l *loader) config(top *section) *Config {
	c := &Config{File: l.file}
	c.Domain = l.domain(top)
	c.Store = l.store(top)
	c.Partitions = top.integer("partitions", 1, maxPartitions)
	c.Authz = l.authz(top)
	c.Link = l.link(top, c.Authz)
	c.Metrics = l.metrics(top, c.Authz, c.Link)
	c.Admin = l.admin(top, c)
	c.BrokerAuth = l.brokerAuth(top, c)
	c.Log = l.log(top)
	c.Events = l.events(top)
	c.Admission = l.admission(top)
	c.CRL = l.crl(top)
	c.Hubs = l.hubs(top)
	return c
}

// maxPartitions is what Redis Cluster's slots can spread evenly.
const maxPartitions = 1024

func (l *loader) log(top *section) Log {
	s := top.sub("log", "level", "format", "checks")
	var level slog.Level
	name := s.choice("level", "info", "debug", "info", "warn", "error")
	if err := level.UnmarshalText([]byte(name)); err != nil {
		s.problem("level", "%v", err)
	}
	return Log{Level: level, JSON: s.choice("format", "text", "text", "json") == "json", AllChecks: s.choice("checks", "sampled", "sampled", "all") == "all"}
}

// resolve makes a path absolute.
func (l *loader) resolve(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(l.dir, path)
}

// plain is a file error without the operation and the path.
func plain(err error) string {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
