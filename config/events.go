package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/hubgate/hubgate/events/endpoint"
	"github.com/hubgate/hubgate/provision"
)

// Events says where hub events go, and how long they are kept. Zero values are
// the defaults of who uses them.
type Events struct {
	Retention Retention
	Denials   Denials
	// Lease is how long a replica that is not heard of goes on relaying.
	Lease time.Duration
	// Tries is how often a sink may refuse an event for what it is.
	Tries int
	// Log is nil unless events are logged.
	Log      *EventLog
	MQTT     []EventMQTT
	Webhooks []EventWebhook
}

// Retention bounds how many events are kept, and how long.
type Retention struct {
	// MaxAge is how long an event is kept that some sink does not have.
	MaxAge time.Duration
	// Delivered is how long an event is kept that every sink has.
	Delivered time.Duration
	// MaxEvents bounds the events of a partition.
	MaxEvents int
}

// Denials says how refusals are folded into events.
type Denials struct {
	Window   time.Duration
	Networks int
}

// EventLog has a line for each event.
type EventLog struct {
	Severity provision.Severity
}

// EventMQTT is a broker that events are published to.
type EventMQTT struct {
	Name                   string
	URL                    string
	V311                   bool
	ClientID               string
	Username, PasswordFile string
	TLS                    ClientTLS
	Topic                  string
	HubPrefixes            bool
	Severity               provision.Severity
	Timeout                time.Duration
}

// EventWebhook is a webhook that events are posted to.
type EventWebhook struct {
	Name                  string
	URL                   string
	SecretFile, TokenFile string
	TLS                   ClientTLS
	Severity              provision.Severity
	Timeout               time.Duration
}

// ClientTLS names the files of TLS towards a server; those that are named exist
// and fit together.
type ClientTLS struct {
	// CA verifies the server; "": the system's authorities.
	CA string
	// Cert and Key are our own certificate; "": none.
	Cert, Key string
}

const (
	// maxSinks bounds the sinks of a kind: each has a cursor, and a worker, per
	// partition.
	maxSinks = 16
	// maxKept is more events of a partition than anybody should keep.
	maxKept = 100_000_000
	year    = 365 * 24 * time.Hour
)

func (l *loader) events(top *section) Events {
	s := top.sub("events", "retention", "denials", "lease", "tries", "log", "mqtt", "webhook")
	e := Events{
		Lease: s.duration("lease", time.Second, 10*time.Minute),
		Tries: s.integer("tries", 1, 1000),
	}
	r := s.sub("retention", "max_age", "delivered", "max_events")
	e.Retention = Retention{
		MaxAge:    r.duration("max_age", time.Minute, 10*year),
		Delivered: r.duration("delivered", time.Second, 10*year),
		MaxEvents: r.integer("max_events", 100, maxKept),
	}
	if age := e.Retention.MaxAge; age != 0 && e.Retention.Delivered > age {
		r.problem("delivered", "%s is longer than max_age (%s), after which nothing is kept", e.Retention.Delivered, age)
	}
	d := s.sub("denials", "window", "networks")
	e.Denials = Denials{
		Window:   d.duration("window", time.Second, 24*time.Hour),
		Networks: d.integer("networks", 1, 4096),
	}
	if s.has("log") {
		if log := s.sub("log", "severity"); log != nil {
			e.Log = &EventLog{Severity: severity(log)}
		}
	}
	names := make(map[string]bool)
	for i, node := range l.sinks(s, "mqtt") {
		if m := l.section(node, fmt.Sprintf("events.mqtt[%d]", i), "name", "url", "version", "client_id", "username", "password_file",
			"tls", "topic", "hub_prefixes", "severity", "timeout"); m != nil {
			e.MQTT = append(e.MQTT, l.eventMQTT(m, names))
		}
	}
	clear(names)
	for i, node := range l.sinks(s, "webhook") {
		if w := l.section(node, fmt.Sprintf("events.webhook[%d]", i), "name", "url", "secret_file", "token_file",
			"tls", "severity", "timeout"); w != nil {
			e.Webhooks = append(e.Webhooks, l.eventWebhook(w, names))
		}
	}
	return e
}

func (l *loader) sinks(s *section, key string) []*yaml.Node {
	nodes := s.list(key)
	if len(nodes) > maxSinks {
		s.problem(key, "%d of them are too many: %d are possible", len(nodes), maxSinks)
		return nil
	}
	return nodes
}

func severity(s *section) provision.Severity {
	return provision.Severity(s.choice("severity", "info", "info", "error"))
}

func (l *loader) eventMQTT(s *section, names map[string]bool) EventMQTT {
	m := EventMQTT{
		Name:         sinkName(s, names),
		V311:         s.choice("version", "5", "5", "3.1.1") == "3.1.1",
		ClientID:     s.str("client_id"),
		Username:     s.str("username"),
		PasswordFile: l.secretFile(s, "password_file", nil),
		Topic:        s.str("topic"),
		HubPrefixes:  s.boolean("hub_prefixes", false),
		Severity:     severity(s),
		Timeout:      s.duration("timeout", time.Second, 5*time.Minute),
	}
	encrypted := false
	if m.URL = sinkURL(s); m.URL != "" {
		u, err := endpoint.Broker(m.URL)
		if err != nil {
			s.problem("url", "%v", err)
		} else {
			encrypted = u.Scheme == "mqtts"
		}
	}
	m.TLS = l.clientTLS(s, encrypted, "mqtts://")
	if m.PasswordFile != "" && m.Username == "" {
		s.problem("password_file", "goes with a username: add it")
	}
	if m.Topic != "" {
		if err := endpoint.Topic(m.Topic); err != nil {
			s.problem("topic", "%v", err)
		}
	}
	return m
}

func (l *loader) eventWebhook(s *section, names map[string]bool) EventWebhook {
	w := EventWebhook{
		Name: sinkName(s, names),
		SecretFile: l.secretFile(s, "secret_file", func(text string) error {
			_, err := endpoint.Secrets(text)
			return err
		}),
		TokenFile: l.secretFile(s, "token_file", nil),
		Severity:  severity(s),
		Timeout:   s.duration("timeout", time.Second, 5*time.Minute),
	}
	encrypted := false
	if w.URL = sinkURL(s); w.URL != "" {
		u, err := endpoint.Webhook(w.URL)
		if err != nil {
			s.problem("url", "%v", err)
		} else {
			encrypted = u.Scheme == "https"
		}
	}
	w.TLS = l.clientTLS(s, encrypted, "https://")
	return w
}

var sinkNames = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// sinkName reads a sink's name. Its cursors are stored under it.
func sinkName(s *section, names map[string]bool) string {
	name := s.str("name")
	switch {
	case !s.has("name"):
		s.problem("name", "is missing: give the sink a name that stays, as what it has is remembered under it")
	case name == "":
	case !sinkNames.MatchString(name):
		s.problem("name", "%q: use 1 to 32 lowercase letters, digits and dashes", name)
	case names[name]:
		s.problem("name", "%q is another one's already", name)
	}
	names[name] = true
	return name
}

func sinkURL(s *section) string {
	if !s.has("url") {
		s.problem("url", "is missing: say where events go")
	}
	return s.str("url")
}

// secretFile reads a file that holds a secret, to see that it is right; whoever
// needs it reads it again. It returns the path.
func (l *loader) secretFile(s *section, key string, check func(string) error) string {
	if !s.has(key) {
		return ""
	}
	path := s.str(key)
	if path == "" {
		return ""
	}
	data, err := l.read(l.resolve(path))
	text := strings.TrimRight(string(data), "\r\n")
	switch {
	case err != nil:
		s.problem(key, "%s: %s", path, plain(err))
	case check != nil:
		if err := check(text); err != nil {
			s.problem(key, "%s: %v", path, err)
		}
	case text == "" || strings.ContainsAny(text, "\r\n"):
		s.problem(key, "%s does not hold exactly one line, the secret", path)
	}
	return l.resolve(path)
}

// clientTLS reads the section tls of a sink.
func (l *loader) clientTLS(s *section, encrypted bool, scheme string) ClientTLS {
	t := s.sub("tls", "ca", "cert", "key")
	if t == nil {
		return ClientTLS{}
	}
	var c ClientTLS
	texts := make(map[string][]byte)
	fit := true
	for _, f := range []struct {
		key  string
		path *string
	}{{"ca", &c.CA}, {"cert", &c.Cert}, {"key", &c.Key}} {
		name := t.str(f.key)
		if name == "" {
			continue
		}
		*f.path = l.resolve(name)
		data, err := l.read(*f.path)
		if err != nil {
			t.problem(f.key, "%s: %s", name, plain(err))
			fit = false
		}
		texts[f.key] = data
	}
	switch {
	case !encrypted && s.has("url"):
		s.problem("tls", "has no use without TLS: write %s in url", scheme)
	case !fit:
	case t.has("cert") != t.has("key"):
		t.problem("cert", "a certificate and its key go together: give both cert and key")
	case c.Cert != "":
		if _, err := tls.X509KeyPair(texts["cert"], texts["key"]); err != nil {
			t.problem("cert", "the certificate and its key: %s", strings.TrimPrefix(err.Error(), "tls: "))
		}
	}
	if fit && c.CA != "" && !x509.NewCertPool().AppendCertsFromPEM(texts["ca"]) {
		t.problem("ca", "%s holds no certificate in PEM form", t.str("ca"))
	}
	return c
}
