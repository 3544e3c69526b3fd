package main

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// completeTimeout bounds how long a shell waits for suggestions.
const completeTimeout = 2 * time.Second

// completion suggests words for an argument.
type completion = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// completeContexts suggests the names of contexts.
func completeContexts(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, _, err := loadContexts()
	if err != nil || len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, len(all.Contexts))
	for i, r := range all.Contexts {
		names[i] = r.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeHubs suggests hubs for the first argument, and then whatever rest
// says: nil for nothing.
func (t *target) completeHubs(rest completion) completion {
	return func(c *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(given) > 0 {
			if rest == nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return rest(c, given, begun)
		}
		ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
		defer cancel()
		var names []string
		err := t.with(ctx, func(client *client) error {
			list, err := client.hubs(ctx)
			if err != nil {
				return err
			}
			for _, h := range list.Hubs {
				names = append(names, h.Name)
			}
			return nil
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDevices suggests devices of the hub that is the first argument, for
// the second.
func (t *target) completeDevices(c *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(given) != 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
	defer cancel()
	var names []string
	err := t.with(ctx, func(client *client) error {
		list, err := client.devices(ctx, given[0], url.Values{"name_prefix": {begun}}, "", 100)
		for _, d := range list.Devices {
			names = append(names, d.Name)
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeHubFlag suggests hubs for a flag.
func (t *target) completeHubFlag(c *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	return t.completeHubs(nil)(c, nil, begun)
}
