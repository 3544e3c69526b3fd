package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/provision"
)

func newConfig(std streams) *cobra.Command {
	online := false
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Tell every mistake in a configuration file",
		Long: `Read a configuration file and the files it names, and tell every mistake at
once: file:line: key: what is wrong, what to write instead. Nothing is opened and
nothing is changed. With --online, the store is asked, and each sink of events
gets an event with the reason ping.`,
		Example: `  hubgate config check hubgate.yaml
  hubgate config check --online hubgate.yaml`,
		Args: args("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.Load(args[0])
			var problems config.Problems
			if errors.As(err, &problems) {
				if _, err := fmt.Fprintln(std.out, problems); err != nil {
					return err
				}
				return fmt.Errorf("%s in %s", count(len(problems), "mistake"), args[0])
			}
			if err != nil {
				return err
			}
			if err := printConfig(std.out, c); err != nil || !online {
				return err
			}
			return checkOnline(cmd.Context(), std.out, c)
		},
	}
	check.Flags().BoolVar(&online, "online", false, "ask the store, and send every sink of events a ping")
	return newGroup("config", "Check a configuration file", check)
}

// printConfig says in a few lines what a configuration means.
func printConfig(w io.Writer, c *config.Config) error {
	var t table
	where := c.Store.Path
	if where == "" {
		where = c.Store.URL
	}
	guard := ""
	switch {
	case c.Authz.TLS != nil:
		guard = " (mTLS)"
	case c.Authz.Insecure:
		guard = " (INSECURE: whoever reaches it can create devices)"
	}
	domain := "none: hubs are found by issuer, or as Envoy's listener says"
	if c.Domain != "" {
		domain = "<hub>." + c.Domain
	}
	if err := say(w, "%s is fine.\n\n", c.File); err != nil {
		return err
	}
	t.row("store", where)
	t.row("authz", c.Authz.Listen+guard)
	t.row("metrics", c.Metrics.Listen)
	if b := c.BrokerAuth; b.Listen != config.ListenOff {
		t.row("broker auth", b.Listen+" ("+guardOf(b.TLS, b.Insecure, "broker_auth.insecure")+")")
	}
	t.row("socket", c.Admin.Socket)
	t.row("domain", domain)
	for i, sink := range sinkSummaries(c.Events) {
		label := ""
		if i == 0 {
			label = "events"
		}
		t.row(label, sink)
	}
	if len(c.Hubs) == 0 {
		t.row("hubs", "none: no device can connect until one is declared under hubs:")
	}
	for i, h := range c.Hubs {
		label := ""
		if i == 0 {
			label = "hubs"
		}
		t.row(label, hubSummary(h))
	}
	return t.print(w)
}

func sinkSummaries(c config.Events) []string {
	var sinks []string
	if c.Log != nil {
		sinks = append(sinks, "log")
	}
	for _, m := range c.MQTT {
		sinks = append(sinks, m.Name+": "+m.URL)
	}
	for _, w := range c.Webhooks {
		text := w.Name + ": " + w.URL
		if w.SecretFile == "" {
			text += " (not signed)"
		}
		sinks = append(sinks, text)
	}
	return sinks
}

func hubSummary(h provision.Hub) string {
	parts := []string{count(len(h.Anchors), "trust anchor")}
	if len(h.Intermediates) > 0 {
		parts = append(parts, count(len(h.Intermediates), "intermediate"))
	}
	if h.AutoProvisioning {
		parts = append(parts, "auto-provisioning")
	} else {
		parts = append(parts, "known devices only")
	}
	if h.SNIOnly {
		parts = append(parts, "by SNI only")
	}
	if h.Disabled {
		parts = append(parts, "disabled")
	}
	return h.Name + ": " + strings.Join(parts, ", ")
}

// count is "1 thing" or "n things".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
