package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

func newHub(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("hub", "Create, show and change hubs",
		newHubList(&t, std),
		newHubShow(&t, std),
		newHubCreate(&t, std),
		newHubUpdate(&t, std),
		newHubSwitch(&t, std, "enable", "Let a hub's devices connect", true, "Hub %s is enabled: its devices get in.\n"),
		newHubSwitch(&t, std, "disable", "Refuse all of a hub's devices", false, "Hub %s is disabled: its connections end, and its devices are refused.\n"),
		newHubAuto(&t, std),
		newHubDelete(&t, std),
	), "work on the embedded store, which nobody may be serving")
}

// with runs a command's work on the hubgate that is meant.
func (t *target) with(ctx context.Context, work func(*client) error) error {
	c, err := t.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(work(c), c.close())
}

func newHubList(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "list",
		Short: "List the hubs",
		Args:  args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.with(c.Context(), func(client *client) error {
				list, err := client.hubs(c.Context())
				if err != nil {
					return err
				}
				return o.print(std.out, list, func() error { return printHubs(std.out, list.Hubs) })
			})
		},
	}
	o.flag(c)
	return c
}

func printHubs(w io.Writer, hubs []admin.Hub) error {
	if len(hubs) == 0 {
		return say(w, "There are no hubs. Create one with `hubgate hub create NAME`, or declare one under hubs: in the configuration.\n")
	}
	var t table
	t.row("NAME", "ENABLED", "AUTO-PROVISIONING", "DEVICES", "ANCHORS", "ID")
	for _, h := range hubs {
		t.row(h.Name, yesNo(h.Enabled), onOff(h.AutoProvisioning), strconv.Itoa(h.Devices), strconv.Itoa(len(h.TrustAnchors)), h.ID)
	}
	return t.print(w)
}

func newHubShow(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:               "show HUB",
		Aliases:           []string{"get"},
		Short:             "Show a hub, by name or ID",
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				var h admin.Hub
				if err := client.call(c.Context(), http.MethodGet, hubPath(args[0]), nil, nil, &h); err != nil {
					return err
				}
				return o.print(std.out, h, func() error { return printHub(std.out, h) })
			})
		},
	}
	o.flag(c)
	return c
}

func printHub(w io.Writer, h admin.Hub) error {
	var t table
	t.row("name", h.Name)
	t.row("id", h.ID)
	if h.DeclaredIn != "" {
		t.row("declared in", h.DeclaredIn)
	}
	t.row("enabled", yesNo(h.Enabled))
	t.row("auto-provisioning", onOff(h.AutoProvisioning))
	if h.SNIOnly {
		t.row("found", "by SNI only")
	}
	t.row("devices", strconv.Itoa(h.Devices))
	printPolicy(&t, h.Policy)
	for _, c := range h.TrustAnchors {
		t.row("trust anchor", shortCertificate(c))
	}
	for _, c := range h.Intermediates {
		t.row("intermediate", shortCertificate(c))
	}
	return t.print(w)
}

func shortCertificate(c admin.Certificate) string {
	return fmt.Sprintf("%s, valid to %s, SHA-256 %.16s…", c.Subject, clock(c.NotAfter), c.Fingerprint)
}
