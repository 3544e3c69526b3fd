package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"

	"github.com/hubgate/hubgate/authz"
	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/internal/tlsfiles"
)

// linkTLS reads the files of the links' listener; nil if it has no TLS.
func linkTLS(c config.Link, log *slog.Logger) (*tls.Config, error) {
	if c.TLS == nil {
		return nil, nil
	}
	secured, err := tlsfiles.Server(tlsfiles.Config{Cert: c.TLS.Cert, Key: c.TLS.Key, ClientCA: c.TLS.ClientCA, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("link.tls: %w", err)
	}
	return secured, nil
}

// listenLink binds the links' listener, with TLS if it has any.
func listenLink(ctx context.Context, c config.Link, secured *tls.Config) (net.Listener, error) {
	l, err := authz.Listen(ctx, c.Listen, 0)
	if err != nil {
		return nil, fmt.Errorf("link.listen: %w", err)
	}
	if secured != nil {
		l = tls.NewListener(l, secured)
	}
	return l, nil
}

// guardOf says for people what keeps others from a listener for Envoys.
func guardOf(files *config.TLS, insecure bool, key string) string {
	switch {
	case files != nil:
		return "mTLS"
	case insecure:
		return "none (" + key + ")"
	}
	return "reached from this host only"
}
