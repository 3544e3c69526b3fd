package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

func newSession(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("session", "Show and end live connections",
		newSessionList(&t, std),
		newSessionEnd(&t, std),
	), "")
}

func newSessionList(t *target, std streams) *cobra.Command {
	var (
		o      output
		hub    string
		limit  int
		cursor string
	)
	c := &cobra.Command{
		Use:   "list",
		Short: "List the live connections of devices",
		Long: `List the live connections of devices, of all Envoys. One that its Envoy has not
yet told to be open is shown as pending.`,
		Example: `  hubgate session list --hub factory
  hubgate session list --limit 0 -o json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 0 {
				return &usageError{fmt.Errorf("--limit: %d is negative; 0 lists all", limit)}
			}
			return t.with(c.Context(), func(client *client) error {
				list, err := client.sessions(c.Context(), hub, cursor, limit)
				if err != nil {
					return err
				}
				return o.print(std.out, list, func() error { return printSessions(std.out, list) })
			})
		},
	}
	o.flag(c)
	c.Flags().StringVar(&hub, "hub", "", "of this hub alone (name or ID)")
	_ = c.RegisterFlagCompletionFunc("hub", t.completeHubFlag) // fails only for a flag that is not there
	c.Flags().IntVar(&limit, "limit", 100, "list so many; 0 lists all")
	c.Flags().StringVar(&cursor, "cursor", "", "continue a list where it stopped")
	return c
}

// sessions lists up to limit sessions, 0 for all.
func (c *client) sessions(ctx context.Context, hub, cursor string, limit int) (admin.Sessions, error) {
	list := admin.Sessions{Sessions: []admin.Session{}, Next: cursor}
	for {
		size := apiPage
		if limit > 0 {
			size = min(size, limit-len(list.Sessions))
		}
		query := url.Values{"limit": {strconv.Itoa(size)}}
		if hub != "" {
			query.Set("hub", hub)
		}
		if list.Next != "" {
			query.Set("cursor", list.Next)
		}
		var page admin.Sessions
		if err := c.call(ctx, http.MethodGet, "/v1/sessions", query, nil, &page); err != nil {
			return list, err
		}
		list.Sessions = append(list.Sessions, page.Sessions...)
		list.Next = page.Next
		if list.Next == "" || limit > 0 && len(list.Sessions) >= limit {
			return list, nil
		}
	}
}

func printSessions(w io.Writer, list admin.Sessions) error {
	if len(list.Sessions) == 0 {
		return say(w, "No device is connected.\n")
	}
	var t table
	t.row("DEVICE", "HUB", "PROTOCOL", "STATE", "SINCE", "ACTIVE", "FROM", "ENVOY", "ID")
	for _, s := range list.Sessions {
		state := "open"
		switch {
		case !s.Confirmed:
			state = "pending"
		case s.Unended != "":
			state = "unended: " + s.Unended
		}
		t.row(s.DeviceName, s.HubName, s.Protocol, state, clock(s.Since), clock(s.LastActivityAt), orDash(s.Source), orDash(s.Node), s.ID)
	}
	if err := t.print(w); err != nil || list.Next == "" {
		return err
	}
	return say(w, "\nThere are more: --limit 0 lists all, --cursor %s continues.\n", list.Next)
}

func newSessionEnd(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "end HUB DEVICE",
		Short: "End all connections of a device",
		Long: `End all connections that a device has now. It may connect again at once; to keep
it out, use ` + "`hubgate device disable`" + `, which ends its connections too.`,
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withDevice(c.Context(), args[0], args[1], func(client *client, path string) error {
				var ended admin.Sessions
				if err := client.call(c.Context(), http.MethodPost, path+"/end-sessions", nil, nil, &ended); err != nil {
					return err
				}
				return o.print(std.out, ended, func() error { return printEnded(std.out, args[0], args[1], ended) })
			})
		},
	}
	o.flag(c)
	return c
}

func printEnded(w io.Writer, hub, device string, ended admin.Sessions) error {
	able := 0
	for _, s := range ended.Sessions {
		if s.CanBeEnded {
			able++
		}
	}
	unable := len(ended.Sessions) - able
	switch {
	case len(ended.Sessions) == 0:
		return say(w, "%s on hub %s has no connection on record; one that is told of later and began before now is ended.\n", device, hub)
	case unable == 0:
		return say(w, "%s on hub %s: %s ended.\n", device, hub, plural(able))
	case able == 0:
		return say(w, "%s on hub %s: %s cannot be ended, as that Envoy has not hubgate's library.\n", device, hub, plural(unable))
	default:
		return say(w, "%s on hub %s: %s ended; %s cannot be, as that Envoy has not hubgate's library.\n", device, hub, plural(able), plural(unable))
	}
}

func plural(connections int) string {
	if connections == 1 {
		return "1 connection"
	}
	return strconv.Itoa(connections) + " connections"
}
