package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

func newDevice(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("device", "Show, create, ban, carry and delete devices",
		newDeviceList(&t, std),
		newDeviceShow(&t, std),
		newDeviceSwitch(&t, std, "enable", "Let a device connect again",
			"%s on hub %s is enabled: it gets in from its next connection on."),
		newDeviceSwitch(&t, std, "disable", "Ban a device",
			"%s on hub %s is disabled: its connections end, and it is refused from now on."),
		newDeviceApprove(&t, std),
		newDeviceDelete(&t, std),
		newDeviceCreate(&t, std),
		newDeviceUpdate(&t, std),
		newDeviceSecret(&t, std),
		newDeviceCertificate(&t, std),
		newDeviceImport(&t, std),
		newDeviceExport(&t, std),
	), "work on the embedded store, which nobody may be serving")
}

// withDevice is with for what is done to one device, at that path of the API.
func (t *target) withDevice(ctx context.Context, hub, device string, work func(client *client, path string) error) error {
	return t.with(ctx, func(c *client) error {
		path, err := c.devicePath(ctx, hub, device)
		if err != nil {
			return err
		}
		return work(c, path)
	})
}

// apiPage is how many devices are asked for at once.
const apiPage = 1000

func newDeviceList(t *target, std streams) *cobra.Command {
	var (
		o      output
		f      deviceFilter
		limit  int
		cursor string
	)
	c := &cobra.Command{
		Use:   "list HUB",
		Short: "List a hub's devices",
		Example: `  hubgate device list factory
  hubgate device list factory --enabled false
  hubgate device list factory --name-prefix SN-2026- --connected true
  hubgate device list factory --sort created --limit 0 -o json`,
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 0 {
				return &usageError{fmt.Errorf("--limit: %d is negative; 0 lists all", limit)}
			}
			return t.with(c.Context(), func(client *client) error {
				query, err := f.query(c.Context(), client, args[0])
				if err != nil {
					return err
				}
				list, err := client.devices(c.Context(), args[0], query, cursor, limit)
				if err != nil {
					return err
				}
				return o.print(std.out, list, func() error {
					if len(list.Devices) == 0 && f.narrows() {
						return say(std.out, "Hub %s has no such device: `hubgate device list %s` lists all.\n", args[0], args[0])
					}
					return printDevices(std.out, args[0], list)
				})
			})
		},
	}
	o.flag(c)
	f.add(c)
	c.Flags().IntVar(&limit, "limit", 100, "list so many; 0 lists all")
	c.Flags().StringVar(&cursor, "cursor", "", "continue a list where it stopped")
	return c
}

func printDevices(w io.Writer, hub string, list admin.Devices) error {
	if len(list.Devices) == 0 {
		return say(w, "Hub %s has no devices. They appear when they first connect, if auto-provisioning is on: see `hubgate hub show %s`.\n", hub, hub)
	}
	var t table
	t.row("NAME", "ENABLED", "CONNECTED", "PROVISIONED", "FROM", "ID")
	for _, d := range list.Devices {
		t.row(d.Name, yesNo(d.Enabled), yesNo(d.IsConnected), clock(d.CreatedAt), orDash(d.ProvisionedFrom), d.ID)
	}
	if err := t.print(w); err != nil || list.Next == "" {
		return err
	}
	return say(w, "\nThere are more: --limit 0 lists all, --cursor %s continues.\n", list.Next)
}

func newDeviceShow(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:               "show HUB DEVICE",
		Aliases:           []string{"get"},
		Short:             "Show a device, by name or ID",
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				d, err := client.device(c.Context(), http.MethodGet, args[0], args[1], "", nil)
				if err != nil {
					return err
				}
				return o.print(std.out, d, func() error { return printDevice(std.out, d) })
			})
		},
	}
	o.flag(c)
	return c
}

// device asks for something to be done with a device and returns it.
func (c *client) device(ctx context.Context, method, hub, device, act string, body any) (d admin.Device, err error) {
	path, err := c.devicePath(ctx, hub, device)
	if err != nil {
		return d, err
	}
	return d, c.call(ctx, method, path+act, nil, body, &d)
}

func printDevice(w io.Writer, d admin.Device) error {
	var filters admin.Filters
	if d.MessageFilters != nil {
		filters = *d.MessageFilters
	}
	enabled := yesNo(d.Enabled)
	if d.DisabledReason != "" {
		enabled += ", " + d.DisabledReason
	}
	t := table{rows: [][]string{
		{"name", d.Name},
		{"id", d.ID},
		{"hub", d.HubID},
		{"description", orDash(d.Description)},
		{"enabled", enabled},
		{"connected", connected(d)},
		{"allow insecure", withoutTLS(d)},
		{"allow multiple connections", yesNo(d.AllowMultipleConnections)},
		{"publishes to", topicsOf(filters.Publish)},
		{"subscribes to", topicsOf(filters.Subscribe)},
		{"provisioned", clock(d.CreatedAt) + " from " + orDash(d.ProvisionedFrom)},
		{"changed", clock(d.UpdatedAt)},
		{"key", d.CurrentKey},
		{"trust anchor", d.Anchor},
	}}
	if d.PendingKey != "" {
		t.row("key to approve", d.PendingKey)
	}
	if d.CustomCertificate != nil {
		t.row("custom certificate", customCertificate(*d.CustomCertificate))
	}
	return t.print(w)
}

// topicsOf says what a filter lets through.
func topicsOf(f admin.Filter) string {
	list := strings.Join(f.Topics, ", ")
	switch {
	case f.Policy == "accept" && list == "":
		return "no topics"
	case f.Policy == "accept":
		return list
	case list == "":
		return "all topics"
	}
	return "all topics but " + list
}

func connected(d admin.Device) string {
	if d.LastActivityAt == nil {
		return yesNo(d.IsConnected)
	}
	return yesNo(d.IsConnected) + ", last active " + clock(*d.LastActivityAt)
}

func newDeviceSwitch(t *target, std streams, verb, short, done string) *cobra.Command {
	var (
		o      output
		reason string
	)
	c := &cobra.Command{
		Use:               verb + " HUB DEVICE",
		Short:             short,
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				var body any
				if reason != "" {
					body = admin.Ban{Reason: reason}
				}
				d, err := client.device(c.Context(), http.MethodPost, args[0], args[1], "/"+verb, body)
				if err != nil {
					return err
				}
				return o.print(std.out, d, func() error { return say(std.out, done+"\n", d.Name, args[0]) })
			})
		},
	}
	o.flag(c)
	if verb == "disable" {
		c.Flags().StringVar(&reason, "reason", "", "why, for those who look at it later")
	}
	return c
}

func newDeviceApprove(t *target, std streams) *cobra.Command {
	var (
		o   output
		key string
	)
	c := &cobra.Command{
		Use:   "approve HUB DEVICE",
		Short: "Let a device in with another key",
		Long: `Let a device in with another key, where the hub's policy asks for approval
(keys: approve), and no longer with the one it had. Without --key it is the key
that the device last came with, which ` + "`hubgate device show`" + ` tells.`,
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				if key == "" {
					d, err := client.device(c.Context(), http.MethodGet, args[0], args[1], "", nil)
					if err != nil {
						return err
					}
					switch key = d.PendingKey; {
					case key != "":
					case d.CustomCertificate != nil:
						return fmt.Errorf("device %s has a custom certificate, and no other key lets it in: remove that first, with `hubgate device certificate remove %s %s`", d.Name, args[0], d.Name)
					default:
						return fmt.Errorf("no key of device %s waits for approval", d.Name)
					}
				}
				d, err := client.device(c.Context(), http.MethodPost, args[0], args[1], "/approve", admin.Approval{Key: key})
				if err != nil {
					return err
				}
				return o.print(std.out, d, func() error {
					return say(std.out, "%s on hub %s is let in with the key %s from now on.\n", d.Name, args[0], d.CurrentKey)
				})
			})
		},
	}
	o.flag(c)
	c.Flags().StringVar(&key, "key", "", "SHA-256 of the key, instead of the one that waits")
	return c
}

func newDeviceDelete(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "delete HUB DEVICE",
		Short: "Forget a device, which may then provision again",
		Long: `Forget a device. Its certificate stays valid: on its next connection it
provisions itself again. To keep it out, use ` + "`hubgate device disable`" + `.`,
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withDevice(c.Context(), args[0], args[1], func(client *client, path string) error {
				if err := client.call(c.Context(), http.MethodDelete, path, nil, nil, nil); err != nil {
					return err
				}
				_, err := fmt.Fprintf(std.out, "%s on hub %s is deleted. It provisions itself again when it next connects;"+
					" to keep a device out, disable it instead.\n", args[1], args[0])
				return err
			})
		},
	}
}
