package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// drainFlags say how an Envoy ends its work.
type drainFlags struct {
	admin    string
	delay    time.Duration
	deadline time.Duration
}

func newEnvoyDrain(std streams) *cobra.Command {
	var f drainFlags
	c := &cobra.Command{
		Use:   "drain",
		Short: "Let an Envoy finish its work before it is stopped",
		Long: `Tell an Envoy over its admin interface to end its work, and return when it can be
stopped: it fails health checks, asks HTTP clients to reconnect, goes on for
--delay, so that load balancers look elsewhere, then closes its listeners and
waits until no device is connected, at most until --deadline.

This is what the chart runs before it stops a gateway (preStop).`,
		Example: `  hubgate envoy drain --admin 127.0.0.1:9901 --delay 10s --deadline 1m`,
		Args:    args(),
		RunE:    func(c *cobra.Command, _ []string) error { return f.run(c.Context(), std) },
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.admin, "admin", "127.0.0.1:9901", "address of Envoy's admin interface")
	flags.DurationVar(&f.delay, "delay", 10*time.Second, "how long new connections are still taken")
	flags.DurationVar(&f.deadline, "deadline", time.Minute, "when to return in any case")
	return c
}

func (f *drainFlags) run(ctx context.Context, std streams) error {
	ctx, cancel := context.WithTimeout(ctx, f.deadline)
	defer cancel()
	client := f.client()
	if _, err := f.ask(ctx, client, http.MethodPost, "/healthcheck/fail"); err != nil {
		return err
	}
	select {
	case <-time.After(f.delay):
	case <-ctx.Done():
	}
	if _, err := f.ask(context.WithoutCancel(ctx), client, http.MethodPost, "/drain_listeners"); err != nil {
		return err
	}
	for {
		open, err := f.connections(ctx, client)
		switch {
		case ctx.Err() != nil && open > 0:
			return say(std.out, "drained; %s still open\n", count(open, "connection"))
		case ctx.Err() != nil || err == nil && open == 0:
			return say(std.out, "drained\n")
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (f *drainFlags) client() *http.Client {
	network, address := "tcp", f.admin
	if path, ok := strings.CutPrefix(f.admin, "unix://"); ok {
		network, address = "unix", path
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}
}

func (f *drainFlags) ask(ctx context.Context, client *http.Client, method, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("Envoy's admin interface at %s: %w", f.admin, err) //nolint:staticcheck // a name
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	if err != nil {
		return "", fmt.Errorf("Envoy's admin interface at %s: %s: %w", f.admin, path, err) //nolint:staticcheck // a name
	}
	return string(body), nil
}

// connections is how many devices are connected: to all listeners but the
// admin interface's own.
func (f *drainFlags) connections(ctx context.Context, client *http.Client) (int, error) {
	text, err := f.ask(ctx, client, http.MethodGet, "/stats?filter="+url.QueryEscape(`^listener\..*\.downstream_cx_active$`))
	if err != nil {
		return 0, err
	}
	open := 0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.Atoi(value)
		if err != nil || strings.HasPrefix(name, "listener.admin.") || strings.Contains(name, ".worker_") {
			continue
		}
		open += n
	}
	return open, nil
}
