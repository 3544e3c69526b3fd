package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/console"
	"github.com/hubgate/hubgate/admin/guard"
	"github.com/hubgate/hubgate/admin/iot"
	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/internal/tlsfiles"
)

// administration is what administrators reach.
type administration struct {
	server  *admin.Server
	keyring *access.Keyring
	tokens  *access.Tokens
	guard   *guard.Guard
	tls     *tls.Config // nil: none
}

func (s *server) makeAdmin(registry prometheus.Registerer) (err error) {
	c := s.config.Admin
	a := &s.admin
	a.keyring = access.NewKeyring(s.store, nil)
	a.tokens, err = access.NewTokens(access.TokensConfig{Store: s.store, Keyring: a.keyring, Logger: s.log})
	if err != nil {
		return err
	}
	a.guard, err = guard.New(guard.Config{Keyring: a.keyring, Rate: c.Rate, Failures: c.Failures, Logger: s.log, Registerer: registry})
	if err != nil {
		return err
	}
	a.configure(c)
	if c.TLS != nil && c.Listen != config.ListenOff {
		if a.tls, err = tlsfiles.Server(tlsfiles.Config{Cert: c.TLS.Cert, Key: c.TLS.Key, Logger: s.log}); err != nil {
			return fmt.Errorf("admin.tls: %w", err)
		}
	}
	scaleway, err := iot.New(iot.Config{
		Fleet: s.fleet, Gate: s.gate, Store: s.store, Domain: s.config.Domain, Region: c.Region, Logger: s.log,
	})
	if err != nil {
		return err
	}
	a.server, err = admin.New(admin.Config{
		Gate: s.gate, Store: s.store, Fleet: s.fleet, Backup: s.store.backup, Tokens: a.tokens, Logger: s.log,
		IoT: scaleway, IoTFail: iot.Fail, Console: console.Handler(),
		About: admin.About{Version: readBuild().version, Domain: s.config.Domain, Region: c.Region},
	})
	return err
}

// configure puts in force what can change while hubgate serves.
func (a *administration) configure(c config.Admin) {
	a.keyring.Configure(c.Tokens)
	a.guard.SetHosts(c.Hosts)
}

func listenAdmin(ctx context.Context, c config.Admin) (net.Listener, error) {
	if c.Listen == config.ListenOff {
		return nil, nil
	}
	var l net.ListenConfig
	listener, err := l.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w, or off", err)
	}
	return listener, nil
}

// firstTokenTimeout bounds how long making the first token may hold up a start.
const firstTokenTimeout = 5 * time.Second

// makeFirstToken lets the first administrator in. That it cannot be done keeps
// nobody from serving devices: the local socket makes tokens, too.
func (s *server) makeFirstToken(ctx context.Context) {
	c := s.config.Admin
	if c.Listen == config.ListenOff {
		return
	}
	for _, t := range c.Tokens {
		if t.Principal.Role == access.Admin && t.Principal.Project == uuid.Nil {
			return // somebody is in charge already
		}
	}
	ctx, cancel := context.WithTimeout(ctx, firstTokenTimeout)
	defer cancel()
	switch made, err := s.admin.tokens.First(ctx, c.TokenFile); {
	case err != nil && !errors.Is(err, context.Canceled):
		s.log.WarnContext(ctx, "no admin token was made: make one with `hubgate token create`", "file", c.TokenFile, "error", err)
	case made:
		s.log.InfoContext(ctx, "an admin token was made", "name", access.FirstName, "file", c.TokenFile)
	}
}
