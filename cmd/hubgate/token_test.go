package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// at runs a command on a hubgate elsewhere with the token of a file.
func (s *site) at(address, tokenFile string, args ...string) result {
	s.t.Helper()
	return s.hubgateAt("http://"+address, append(args, "--token-file", tokenFile)...)
}

// TestTokens makes, uses, rotates and revokes tokens, from the first one on.
func TestTokens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	address := v.address("administrators")
	first := filepath.Join(s.dir, "hubgate.token")
	info, err := os.Stat(first)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the first token's file: %v, %v", info, err)
	}
	secret, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	if out := s.at(address, first, "token", "list").ok(t); !strings.Contains(out, "admin  admin  all") {
		t.Errorf("tokens:\n%s", out)
	}

	made := s.at(address, first, "token", "create", "ci", "--role", "operator")
	file := writeFile(t, s.dir, "ci.token", []byte(made.ok2(t)))
	if made.err != "Token ci is made. Keep its secret: it is not told again.\n" {
		t.Errorf("told %q", made.err)
	}
	s.at(address, file, "hub", "list").ok(t)
	s.at(address, file, "token", "list").fails(t, exitDenied, "hubgate: denied: this takes the role admin, and \"ci\" has operator\n"+
		"hint: use a token of a greater role, or run the command where hubgate serves, on its socket\n")
	s.hubgate("token", "create", "ci", "--role", "viewer").fails(t, exitConflict, "hubgate: token \"ci\": already exists\n")
	s.hubgate("token", "create", "C I", "--role", "viewer").fails(t, exitError,
		"hubgate: name: \"C I\" is no name: write 1 to 64 of a-z, 0-9, dot, dash, underscore, with a letter or digit at both ends\n")
	s.hubgate("token", "create", "x", "--role", "root").fails(t, exitError, "hubgate: role: \"root\" is none of viewer, operator, admin\n")
	s.hubgate("token", "revoke", "nobody").fails(t, exitNotFound, "hubgate: token \"nobody\" not found: see `hubgate token list`\n")

	next := writeFile(t, s.dir, "next.token", []byte(s.hubgate("token", "rotate", "ci").ok2(t)))
	if got := s.at(address, file, "hub", "list"); got.code != exitDenied {
		t.Errorf("with the old secret: %+v", got)
	}
	s.at(address, next, "hub", "list").ok(t)
	s.hubgate("token", "revoke", "ci").ok(t)
	if got := s.at(address, next, "hub", "list"); got.code != exitDenied {
		t.Errorf("with a revoked token: %+v", got)
	}

	// The first token is not made again, even if it is revoked.
	s.hubgate("token", "revoke", "admin").ok(t)
	v.end()
	s.hubgate("token", "list", "--offline").ok(t)
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	v = s.serve()
	if _, err := os.Stat(first); err == nil {
		t.Error("another first token was made")
	}
	for _, line := range strings.Split(v.log.String(), "\n") {
		for _, secret := range []string{string(secret), made.out} {
			if strings.Contains(line, strings.TrimSpace(secret)) {
				t.Errorf("a secret is in the log: %s", line)
			}
		}
	}
}

// TestConfiguredTokens reloads the tokens, host names and certificate of a
// serving hubgate.
func TestConfiguredTokens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca, err := pki.NewRoot("ca")
	if err != nil {
		t.Fatal(err)
	}
	roots := writeFile(t, s.dir, "ca.pem", pki.EncodeCertificates(ca.Certificate))
	identity, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := identity.WriteFiles(s.dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	admin := "admin: {listen: \"127.0.0.1:0\", tls: {cert: " + cert + ", key: " + key + "}, tokens: [{name: ops, role: admin, file: ops.token}]}"
	one := writeFile(t, s.dir, "ops.token", []byte(uuid.NewString()+"\n"))
	writeFile(t, s.dir, "hubgate.yaml", []byte(strings.Replace(factoryHub, `admin: {listen: "127.0.0.1:0"}`, admin, 1)))
	v := s.serve()
	if _, err := os.Stat(filepath.Join(s.dir, "hubgate.token")); err == nil {
		t.Error("a first token was made, though somebody is in charge")
	}
	ask := func(file string) result {
		return s.hubgateAt("https://"+v.address("administrators"), "token", "list", "--token-file", file, "--ca-file", roots)
	}
	ask(one).ok(t)
	secret, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	old := writeFile(t, s.dir, "old.token", secret)
	writeFile(t, s.dir, "ops.token", []byte(uuid.NewString()+"\n"))
	eventually(t, func() bool { return ask(old).code == exitDenied }, func() string { return "the old secret works on:\n" + v.log.String() })
	ask(one).ok(t)
}

// TestRevokedElsewhere holds that what one replica does to a token is in force
// on the other.
func TestRevokedElsewhere(t *testing.T) {
	t.Parallel()
	url := "store: " + redistest.Start(t).URL() + "\n"
	a := newSite(t)
	writeFile(t, a.dir, "hubgate.yaml", []byte(factoryHub+url))
	here := a.serve()
	b := newSite(t)
	writeFile(t, b.dir, "hubgate.yaml", []byte(strings.Split(factoryHub, "hubs:")[0]+url))
	there := b.serve()
	if _, err := os.Stat(filepath.Join(b.dir, "hubgate.token")); err == nil {
		t.Error("the second replica made a first token, too")
	}
	first := filepath.Join(a.dir, "hubgate.token")
	a.at(here.address("administrators"), first, "hub", "list").ok(t)
	// Within a second it is known there, and dead there.
	address := there.address("administrators")
	eventually(t, func() bool { return a.at(address, first, "token", "list").code == exitOK }, func() string { return there.log.String() })
	a.hubgate("token", "revoke", "admin").ok(t)
	eventually(t, func() bool { return a.at(address, first, "token", "list").code == exitDenied }, func() string { return there.log.String() })
}
