package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/provision"
)

func newConfig(std streams) *cobra.Command {
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Tell every mistake in a configuration file",
		Long: `Read a configuration file and the files it names, and tell every mistake at
once: file:line: key: what is wrong, what to write instead. The store is not
opened and nothing is changed.`,
		Example: `  hubgate config check hubgate.yaml`,
		Args:    args("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := config.Load(args[0])
			if problems, ok := err.(config.Problems); ok {
				fmt.Fprintln(std.out, problems)
				return fmt.Errorf("%s in %s", count(len(problems), "mistake"), args[0])
			}
			if err != nil {
				return err
			}
			return printConfig(std.out, c)
		},
	}
	return newGroup("config", "Check a configuration file", check)
}

// printConfig says in a few lines what a configuration means.
func printConfig(w io.Writer, c *config.Config) error {
	fmt.Fprintf(w, "%s is fine.\n\n", c.File)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
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
	fmt.Fprintf(t, "store\t%s\n", where)
	fmt.Fprintf(t, "authz\t%s%s\n", c.Authz.Listen, guard)
	fmt.Fprintf(t, "metrics\t%s\n", c.Metrics.Listen)
	fmt.Fprintf(t, "socket\t%s\n", c.Admin.Socket)
	fmt.Fprintf(t, "domain\t%s\n", domain)
	if len(c.Hubs) == 0 {
		fmt.Fprintf(t, "hubs\tnone: no device can connect until one is declared under hubs:\n")
	}
	for i, h := range c.Hubs {
		label := ""
		if i == 0 {
			label = "hubs"
		}
		fmt.Fprintf(t, "%s\t%s\n", label, hubSummary(h))
	}
	return t.Flush()
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
