package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/events"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
)

// flushTimeout bounds how long the end of the process waits for sinks.
const flushTimeout = 5 * time.Second

// newSinks makes the sinks of the configuration. hub tells what a hub's owner
// set.
func newSinks(c config.Events, hub func(provision.HubID) events.HubSettings, log *slog.Logger) ([]events.Sink, error) {
	var sinks []events.Sink
	if c.Log != nil {
		sinks = append(sinks, events.NewLog(events.LogConfig{Severity: c.Log.Severity, Logger: log}))
	}
	for i, m := range c.MQTT {
		sink, err := events.NewMQTT(events.MQTTConfig{
			Label: m.Name, URL: m.URL, V311: m.V311, ClientID: m.ClientID, Username: m.Username, PasswordFile: m.PasswordFile,
			TLS: clientTLS(m.TLS), Topic: m.Topic, HubPrefixes: m.HubPrefixes, Severity: m.Severity, Timeout: m.Timeout, Hub: hub,
		})
		if err != nil {
			return nil, fmt.Errorf("events.mqtt[%d]: %w", i, err)
		}
		sinks = append(sinks, sink)
	}
	for i, w := range c.Webhooks {
		sink, err := events.NewWebhook(events.WebhookConfig{
			Label: w.Name, URL: w.URL, SecretFile: w.SecretFile, TokenFile: w.TokenFile,
			TLS: clientTLS(w.TLS), Severity: w.Severity, Timeout: w.Timeout,
		})
		if err != nil {
			return nil, fmt.Errorf("events.webhook[%d]: %w", i, err)
		}
		sinks = append(sinks, sink)
	}
	return sinks, nil
}

func clientTLS(t config.ClientTLS) events.TLS {
	return events.TLS{CAFile: t.CA, CertFile: t.Cert, KeyFile: t.Key}
}

// tryTimeout bounds each trial of `config check --online`.
const tryTimeout = 15 * time.Second

// checkOnline tries the store and the sinks of a configuration, and tells how
// each went.
func checkOnline(ctx context.Context, w io.Writer, c *config.Config) error {
	sinks, err := newSinks(c.Events, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var t table
	failed := 0
	tell := func(what, well string, err error) {
		if err != nil {
			failed++
			well = "FAILED: " + err.Error()
		}
		t.row(what, well)
	}
	well, err := tryStore(ctx, c)
	tell("store", well, err)
	for _, s := range sinks {
		if s.Name() == "log" {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, tryTimeout)
		err := errors.Join(events.Check(limited, s, time.Now()), s.Close())
		cancel()
		tell(s.Name(), "took an event (reason ping)", err)
	}
	if err := say(w, "\n"); err != nil {
		return err
	}
	if err := t.print(w); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%s failed of %d", count(failed, "trial"), len(t.rows))
	}
	return nil
}

// tryStore tells whether the store could be opened. It changes nothing in it.
func tryStore(ctx context.Context, c *config.Config) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	if c.Store.Path == "" {
		options, err := redisOptions(c, slog.New(slog.DiscardHandler))
		if err != nil {
			return "", err
		}
		return "answers", redisstore.Check(ctx, options)
	}
	if _, err := os.Stat(c.Store.Path); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(c.Store.Path)); err != nil {
			return "", fmt.Errorf("%w: create the directory", err)
		}
		return "does not exist yet; it is created at the first start", nil
	}
	err := boltstore.Check(c.Store.Path)
	if errors.Is(err, boltstore.ErrInUse) {
		return err.Error(), nil
	}
	return "can be opened", err
}
