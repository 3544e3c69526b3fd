package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `hubgate lets factory-certified devices connect through Envoy and creates each
one on its first connection, exactly once.

The commands that administer work on the hubgate that --url, HUBGATE_URL or the
current context (` + "`hubgate context`" + `) names, otherwise on the one that serves here.

` + exitCodes

const rootExample = `  hubgate serve --config hubgate.yaml     answer Envoy's checks
  hubgate envoy config > envoy.yaml       what Envoy needs for it
  hubgate explain --cert chain.pem        why a device gets in, or not
  hubgate event tail                      what happens right now`

func newRoot(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "hubgate",
		Short:         "Zero-touch provisioning of factory-certified devices behind Envoy",
		Long:          rootLong,
		Example:       rootExample,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newServe(std),
		newConfig(std),
		newExplain(std),
		newHub(std),
		newAnchor(std),
		newIntermediate(std),
		newCert(std),
		newCRL(std),
		newDevice(std),
		newClaim(std),
		newSession(std),
		newEvent(std),
		newToken(std),
		newPKI(std),
		newContext(std),
		newStore(std),
		newEnvoy(std),
		newProbe(std),
		newDemo(std),
		newVersion(std),
	)
	root.Args, root.RunE = cobra.ArbitraryArgs, group
	// A group runs only to show its help: its help need not say so.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	return root
}

// group is what a command does that only holds others: alone it shows its help,
// and it names what it does not know.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		text += ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return &usageError{fmt.Errorf("%s", text)}
}

func newGroup(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: group}
	c.AddCommand(commands...)
	return c
}

// args demands these arguments, by name.
func args(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, given []string) error {
		if len(given) == len(names) {
			return nil
		}
		wanted := "no arguments"
		if len(names) > 0 {
			wanted = strings.Join(names, " ")
		}
		return &usageError{fmt.Errorf("%d arguments given, wanted: %s", len(given), wanted)}
	}
}
