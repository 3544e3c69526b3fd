package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
)

// store is an open store, of whichever kind.
type store struct {
	storeMethods
	// run does the store's own work until the context ends.
	run func(context.Context) error
	// backup is nil for Redis.
	backup admin.Backuper
	close  func() error
	// name says for people where it is.
	name string
}

type storeMethods interface {
	provision.Store
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Announcer
	provision.Outbox
	provision.Cursors
	provision.Sessions
	provision.Tokens
	provision.Claims
}

// openStore opens the store of the configuration. owner is how other processes
// will call this one.
func openStore(ctx context.Context, c *config.Config, owner string, log *slog.Logger) (*store, error) {
	if c.Store.Path != "" {
		return openBolt(c, owner)
	}
	options, err := redisOptions(c, log)
	if err != nil {
		return nil, err
	}
	s, err := redisstore.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	return &store{storeMethods: s, run: idle, close: s.Close, name: c.Store.URL}, nil
}

func redisOptions(c *config.Config, log *slog.Logger) (redisstore.Config, error) {
	tls, err := redisTLS(c.Store)
	return redisstore.Config{
		URL: c.Store.URL, Password: string(c.Store.Password), Partitions: c.Partitions, Logger: log,
		SentinelUsername: c.Store.SentinelUsername, SentinelPassword: string(c.Store.SentinelPassword),
		WaitReplicas: c.Store.WaitReplicas, Retention: c.Events.Retention.MaxEvents, TLS: tls,
	}, err
}

func openBolt(c *config.Config, owner string) (*store, error) {
	s, err := boltstore.Open(boltstore.Config{Path: c.Store.Path, Owner: owner, Partitions: c.Partitions,
		Retention: c.Events.Retention.MaxEvents, Around: withSpareProcessor})
	if err != nil {
		return nil, err
	}
	return &store{storeMethods: s, run: s.Run, backup: s, close: s.Close, name: c.Store.Path}, nil
}

// withSpareProcessor does what waits for the disk. A thread that does keeps its
// processor from other goroutines for up to 20 ms, until Go takes it away: on one
// processor, each change to the store would stop all checks. To add one and take
// it back stops them for 6 µs. A spare one all the time would cost strangers a
// third more, as Go then wakes a thread for each goroutine.
func withSpareProcessor(wait func()) {
	if runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
		defer runtime.GOMAXPROCS(1)
	}
	wait()
}

// idle does nothing until the context ends.
func idle(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// redisTLS is nil where the system's authorities and no certificate of our own
// do. The client's certificate is read anew for each connection, so that its
// successor needs no restart.
func redisTLS(s config.Store) (*tls.Config, error) {
	if s.CAFile == "" && s.Cert == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("store_ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM(pem)
	}
	if s.Cert != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
			return &pair, err
		}
	}
	return c, nil
}
