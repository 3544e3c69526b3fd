package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
)

const (
	// DefaultAdminListen is where administrators' programs and browsers connect.
	DefaultAdminListen = "127.0.0.1:9192"
	// DefaultRegion is the region that Scaleway's clients name.
	DefaultRegion = "fr-par"
	// DefaultTokenFile is the generated token's file, beside the embedded store,
	// or with Redis beside the configuration.
	DefaultTokenFile = "hubgate.token"
	// ListenOff turns a listener off.
	ListenOff = "off"
)

// Admin is the administrators' access.
type Admin struct {
	// Socket is the path of the local Unix socket.
	Socket string
	// Listen is host:port, or ListenOff.
	Listen string
	// TLS is nil on a listener without it. It asks for no client certificates.
	TLS *TLS
	// Insecure says outright that a listener without TLS that other hosts
	// reach is meant.
	Insecure bool
	// Hosts are host names that requests may name besides the listener's
	// address and localhost.
	Hosts []string
	// Region is the one of the Scaleway-compatible API.
	Region string
	// TokenFile gets the secret of the token that the first start makes.
	TokenFile string
	// Tokens are those of the configuration.
	Tokens []access.Configured
	// Rate is how many requests a second a token gets, Failures how many failed
	// log-ins a minute a source address. 0: the server's default.
	Rate, Failures int
}

var regionForm = regexp.MustCompile(`^[a-z]{2}-[a-z]{3,7}$`)

// admin reads what administrators use. c has the listeners and the store.
func (l *loader) admin(top *section, c *Config) Admin {
	s := top.sub("admin", "listen", "tls", "insecure", "hosts", "socket", "region", "token_file", "tokens", "rate", "failures")
	a := Admin{
		Socket: l.adminSocket(top, s, c.Store), Listen: DefaultAdminListen, Insecure: s.boolean("insecure", false),
		TLS:       l.tlsFiles(s.sub("tls", "cert", "key"), "TLS needs both cert and key", "cert", "key"),
		Region:    DefaultRegion,
		TokenFile: l.resolve(DefaultTokenFile),
		Rate:      s.integer("rate", 1, 1_000_000),
		Failures:  s.integer("failures", 1, 1_000_000),
	}
	if c.Store.Path != "" {
		a.TokenFile = filepath.Join(filepath.Dir(c.Store.Path), DefaultTokenFile)
	}
	if file := s.str("token_file"); file != "" {
		a.TokenFile = l.resolve(file)
	}
	if region := s.str("region"); region != "" {
		a.Region = region
		if !regionForm.MatchString(region) {
			s.problem("region", "%q is none that Scaleway's clients take: write two letters, a dash, three to seven letters, such as fr-par", region)
		}
	}
	l.adminListen(s, c, &a)
	hosts, _ := s.items("hosts")
	for _, host := range hosts {
		name := strings.TrimSuffix(strings.ToLower(host.value), ".")
		if len(name) > 253 || !domainName.MatchString(name) {
			l.add(host.line, host.key, "%q is no host name: write one such as hubgate.example.com, without scheme or port; addresses need no mention", host.value)
			continue
		}
		a.Hosts = append(a.Hosts, name)
	}
	a.Tokens = l.adminTokens(s)
	return a
}

func (l *loader) adminListen(s *section, c *Config, a *Admin) {
	if !s.has("listen") {
		return
	}
	listen := s.str("listen")
	if listen == "" {
		return
	}
	a.Listen = listen
	if listen == ListenOff {
		return
	}
	loopback, err := checkListen(listen, false)
	switch {
	case err != nil:
		s.problem("listen", "%v, or off", err)
	case taken(listen, c.Authz.Listen):
		s.problem("listen", "%s is taken by authz.listen: use another port", listen)
	case taken(listen, c.Link.Listen):
		s.problem("listen", "%s is taken by link.listen: use another port", listen)
	case taken(listen, c.Metrics.Listen):
		s.problem("listen", "%s is taken by metrics.listen: use another port", listen)
	case !loopback && !s.has("tls") && !a.Insecure:
		s.problem("listen", "%s can be reached from other hosts, and tokens would cross the network in clear: "+
			"set admin.tls with cert and key, or say admin.insecure: true, if something in front ends TLS", listen)
	}
}

func (l *loader) adminTokens(s *section) []access.Configured {
	var tokens []access.Configured
	names, secrets := make(map[string]bool), make(map[[32]byte]string)
	for i, node := range s.list("tokens") {
		t := l.section(node, fmt.Sprintf("%s[%d]", s.key("tokens"), i), "name", "role", "project", "file")
		if t == nil {
			continue
		}
		before := len(l.problems)
		for _, key := range []string{"name", "role", "file"} {
			if !t.has(key) {
				t.problem(key, "is missing: a token needs name, role and file")
			}
		}
		token := access.Configured{Principal: access.Principal{Name: t.str("name")}}
		if name := token.Principal.Name; name != "" {
			if err := access.CheckName(name); err != nil {
				t.problem("name", "%v", err)
			} else if names[name] {
				t.problem("name", "another token is called %q, too", name)
			}
			names[name] = true
		}
		if role := t.choice("role", "", access.Viewer.String(), access.Operator.String(), access.Admin.String()); role != "" {
			token.Principal.Role, _ = access.ParseRole(role)
		}
		if project := t.str("project"); project != "" {
			id, err := uuid.Parse(project)
			if err != nil || len(project) != 36 || id == uuid.Nil {
				t.problem("project", "%q is no UUID", project)
			}
			token.Principal.Project = id
		}
		if file := t.str("file"); file != "" {
			data, err := l.read(l.resolve(file))
			if err != nil {
				t.problem("file", "%s: %s", file, plain(err))
			} else if token.Secret, err = access.HashSecret(strings.TrimSpace(string(data))); err != nil {
				t.problem("file", "what %s holds %v", file, err)
			} else if other, taken := secrets[token.Secret]; taken {
				t.problem("file", "%s holds the secret of token %q, too: each needs its own", file, other)
			}
			secrets[token.Secret] = token.Principal.Name
		}
		if len(l.problems) == before {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

func (l *loader) adminSocket(top, s *section, store Store) string {
	socket := l.resolve(DefaultSocket)
	if store.Path != "" {
		socket = store.Path + ".sock"
	}
	if s.has("socket") {
		if path := s.str("socket"); path != "" {
			socket = l.resolve(strings.TrimPrefix(path, "unix://"))
		}
	}
	if len(socket) > maxSocketPath {
		text := fmt.Sprintf("%q is %d bytes long, but a Unix socket's path can have %d: set admin.socket to a shorter one",
			socket, len(socket), maxSocketPath)
		switch {
		case s.has("socket"):
			s.problem("socket", "%s", text)
		case top.has("store"):
			top.problem("store", "its socket %s", text)
		default:
			l.add(1, "admin.socket", "%s", text)
		}
	}
	return socket
}
