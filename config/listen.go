package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxSocketPath is how long the path of a Unix socket can be (sun_path on
// Linux is 108 bytes with its final zero).
const maxSocketPath = 107

var domainName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (l *loader) domain(top *section) string {
	domain := strings.TrimSuffix(strings.ToLower(top.str("domain")), ".")
	switch {
	case domain == "":
	case strings.HasPrefix(domain, "*."):
		top.problem("domain", "%q: write it without *. – hubs are found under it as <hub>.<domain>", domain)
	case len(domain) > 253-64 || !domainName.MatchString(domain):
		top.problem("domain", "%q is no DNS name: write one such as iot.example.com, without port or scheme", domain)
	}
	return domain
}

// maxInFlightLimit is more checks than one process can usefully hold.
const maxInFlightLimit = 1 << 20

// maxFailures is more failures per minute than a bound would be for.
const maxFailures = 1_000_000

// maxOutageWindow bounds how long a ban may go unheard.
const maxOutageWindow = 24 * time.Hour

func (l *loader) authz(top *section) Authz {
	s := top.sub("authz", "listen", "tls", "insecure", "max_in_flight", "failures_per_minute", "source_trusted", "deny_detail", "outage_window")
	a := Authz{
		MaxInFlight: s.integer("max_in_flight", 1, maxInFlightLimit),
		Opaque:      s.choice("deny_detail", "full", "full", "opaque") == "opaque",

		FailuresPerMinute: s.integer("failures_per_minute", 1, maxFailures),
	}
	if !s.boolean("source_trusted", false) && s.has("failures_per_minute") {
		s.problem("failures_per_minute", "counts by source address, and behind a proxy all devices have the proxy's: "+
			"if the address that Envoy tells is the device's own, say source_trusted: true")
	}
	if s.has("outage_window") {
		if a.OutageWindow = s.duration("outage_window", 0, maxOutageWindow); a.OutageWindow == 0 {
			a.OutageWindow = -1
		}
	}
	a.Listen, a.TLS, a.Insecure = l.guarded(s, DefaultAuthzListen, "create devices")
	return a
}

func (l *loader) link(top *section, a Authz) Link {
	s := top.sub("link", "listen", "tls", "insecure")
	var k Link
	k.Listen, k.TLS, k.Insecure = l.guarded(s, DefaultLinkListen, "make connections look open or closed")
	if s.has("listen") && taken(k.Listen, a.Listen) {
		s.problem("listen", "%s is taken by authz.listen: use another port", k.Listen)
	}
	return k
}

// guarded reads a listener that is for Envoys or brokers alone, with what guards
// it. danger is what anybody could do who reaches it.
func (l *loader) guarded(s *section, otherwise, danger string) (listen string, files *TLS, insecure bool) {
	before := len(l.problems)
	insecure = s.boolean("insecure", false)
	unclear := len(l.problems) > before
	files = l.tls(s)
	if !s.has("listen") {
		return otherwise, files, insecure
	}
	listen = s.str("listen")
	if listen == "" || listen == otherwise {
		return otherwise, files, insecure
	}
	loopback, err := checkListen(listen, true)
	switch {
	case err != nil:
		s.problem("listen", "%v", err)
	case !loopback && !s.has("tls") && !insecure && !unclear:
		s.problem("listen", "%s can be reached from other hosts, and whoever reaches it can %s: "+
			"set %s with cert, key and client_ca, or say %s: true", listen, danger, s.key("tls"), s.key("insecure"))
	}
	return listen, files, insecure
}

// taken reports whether two listeners are the same; port 0 is any.
func taken(a, b string) bool { return a == b && !strings.HasSuffix(a, ":0") }

func (l *loader) metrics(top *section, a Authz, k Link) Metrics {
	s := top.sub("metrics", "listen")
	m := Metrics{Listen: DefaultMetricsListen}
	if !s.has("listen") {
		return m
	}
	m.Listen = s.str("listen")
	if m.Listen == "" {
		return m
	}
	switch _, err := checkListen(m.Listen, false); {
	case err != nil:
		s.problem("listen", "%v", err)
	case taken(m.Listen, a.Listen):
		s.problem("listen", "%s is taken by authz.listen: use another port", m.Listen)
	case taken(m.Listen, k.Listen):
		s.problem("listen", "%s is taken by link.listen: use another port", m.Listen)
	}
	return m
}

// checkListen says what is wrong with a listener's address, and whether only
// this host reaches it.
func checkListen(address string, unix bool) (loopback bool, err error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		switch {
		case !unix:
			return false, fmt.Errorf("%q: a Unix socket is not possible here: write host:port", address)
		case !filepath.IsAbs(path):
			return false, fmt.Errorf("%q: write an absolute path, unix:///run/hubgate/authz.sock", address)
		case len(path) > maxSocketPath:
			return false, fmt.Errorf("%q: a Unix socket's path can have %d bytes, this one has %d", address, maxSocketPath, len(path))
		}
		return true, nil
	}
	example := "write host:port, such as 127.0.0.1:9191"
	if _, scheme, ok := strings.Cut(address, "://"); ok {
		return false, fmt.Errorf("%q has a scheme: write %s", address, scheme)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("%q is no address: %s", address, example)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return false, fmt.Errorf("%q: port %q is no number from 0 to 65535", address, port)
	}
	if host == "localhost" {
		return true, nil
	}
	if host == "" {
		return false, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false, fmt.Errorf("%q: host %q is no IP address: %s", address, host, example)
	}
	return ip.Unmap().IsLoopback(), nil
}

// tls reads a mutual TLS section and its files, which are read again by the
// server itself: here they only have to be right.
func (l *loader) tls(s *section) *TLS {
	t := s.sub("tls", "cert", "key", "client_ca")
	return l.tlsFiles(t, "TLS without all of cert, key and client_ca would let anybody ask", "cert", "key", "client_ca")
}

// tlsFiles reads the files that keys name; all have to be there, or why not.
func (l *loader) tlsFiles(t *section, why string, keys ...string) *TLS {
	if t == nil {
		return nil
	}
	var files TLS
	var texts [3][]byte
	before := len(l.problems)
	paths := []*string{&files.Cert, &files.Key, &files.ClientCA}
	for i, key := range keys {
		path := t.str(key)
		switch {
		case !t.has(key):
			t.problem(key, "is missing: %s", why)
			continue
		case path == "":
			continue
		}
		*paths[i] = l.resolve(path)
		data, err := l.read(*paths[i])
		if err != nil {
			t.problem(key, "%s: %s", path, plain(err))
		}
		texts[i] = data
	}
	if len(l.problems) > before {
		return nil
	}
	if _, err := tls.X509KeyPair(texts[0], texts[1]); err != nil {
		t.problem("cert", "the certificate and its key: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
	if len(keys) > 2 && !x509.NewCertPool().AppendCertsFromPEM(texts[2]) {
		t.problem("client_ca", "%s holds no certificate in PEM form", t.str("client_ca"))
	}
	return &files
}
