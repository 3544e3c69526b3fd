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

func newDevice(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("device", "Show, create, ban, carry and delete devices",
		newDeviceList(&t, std),
		newDeviceShow(&t, std),
		newDeviceSwitch(&t, std, "enable", "Let a device connect again",
			"%s on hub %s is enabled: it gets in from its next connection on."),
		newDeviceSwitch(&t, std, "disable", "Ban a device",
			"%s on hub %s is disabled: its connections end, and it is refused from now on."),
		newDeviceDelete(&t, std),
		newDeviceCreate(&t, std),
		newDeviceUpdate(&t, std),
		newDeviceImport(&t, std),
		newDeviceExport(&t, std),
	), "work on the embedded store, which nobody may be serving")
}

// apiPage is how many devices are asked for at once.
const apiPage = 1000

func newDeviceList(t *target, std streams) *cobra.Command {
	var (
		o      output
		sort   string
		limit  int
		cursor string
	)
	c := &cobra.Command{
		Use:   "list HUB",
		Short: "List a hub's devices",
		Example: `  hubgate device list factory
  hubgate device list factory --sort created --limit 0 -o json`,
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 0 {
				return &usageError{fmt.Errorf("--limit: %d is negative; 0 lists all", limit)}
			}
			return t.with(c.Context(), func(client *client) error {
				list, err := client.devices(c.Context(), args[0], sort, cursor, limit)
				if err != nil {
					return err
				}
				return o.print(std.out, list, func() error { return printDevices(std.out, args[0], list) })
			})
		},
	}
	o.flag(c)
	c.Flags().StringVar(&sort, "sort", "name", "name or created")
	c.Flags().IntVar(&limit, "limit", 100, "list so many; 0 lists all")
	c.Flags().StringVar(&cursor, "cursor", "", "continue a list where it stopped")
	return c
}

// devices lists up to limit devices, 0 for all.
func (c *client) devices(ctx context.Context, hub, sort, cursor string, limit int) (admin.Devices, error) {
	list := admin.Devices{Devices: []admin.Device{}, Next: cursor}
	for {
		size := apiPage
		if limit > 0 {
			size = min(size, limit-len(list.Devices))
		}
		query := url.Values{"sort": {sort}, "limit": {strconv.Itoa(size)}}
		if list.Next != "" {
			query.Set("cursor", list.Next)
		}
		var page admin.Devices
		if err := c.call(ctx, http.MethodGet, hubPath(hub)+"/devices", query, nil, &page); err != nil {
			return list, err
		}
		list.Devices = append(list.Devices, page.Devices...)
		list.Next = page.Next
		if list.Next == "" || limit > 0 && len(list.Devices) >= limit {
			return list, nil
		}
	}
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
				d, err := client.device(c.Context(), http.MethodGet, args[0], args[1], "")
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
func (c *client) device(ctx context.Context, method, hub, device, act string) (d admin.Device, err error) {
	path, err := c.devicePath(ctx, hub, device)
	if err != nil {
		return d, err
	}
	return d, c.call(ctx, method, path+act, nil, nil, &d)
}

func printDevice(w io.Writer, d admin.Device) error {
	filters := "none (all messages and subscriptions are allowed)"
	if d.MessageFilters != nil {
		filters = "set (see -o json)"
	}
	t := table{rows: [][]string{
		{"name", d.Name},
		{"id", d.ID},
		{"hub", d.HubID},
		{"description", orDash(d.Description)},
		{"enabled", yesNo(d.Enabled)},
		{"connected", connected(d)},
		{"allow insecure", yesNo(d.AllowInsecure)},
		{"allow multiple connections", yesNo(d.AllowMultipleConnections)},
		{"message filters", filters},
		{"provisioned", clock(d.CreatedAt) + " from " + orDash(d.ProvisionedFrom)},
		{"changed", clock(d.UpdatedAt)},
		{"key", d.CurrentKey},
		{"trust anchor", d.Anchor},
	}}
	return t.print(w)
}

func connected(d admin.Device) string {
	if d.LastActivityAt == nil {
		return yesNo(d.IsConnected)
	}
	return yesNo(d.IsConnected) + ", last active " + clock(*d.LastActivityAt)
}

func newDeviceSwitch(t *target, std streams, verb, short, done string) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:               verb + " HUB DEVICE",
		Short:             short,
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				d, err := client.device(c.Context(), http.MethodPost, args[0], args[1], "/"+verb)
				if err != nil {
					return err
				}
				return o.print(std.out, d, func() error { return say(std.out, done+"\n", d.Name, args[0]) })
			})
		},
	}
	o.flag(c)
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
			return t.with(c.Context(), func(client *client) error {
				path, err := client.devicePath(c.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				if err := client.call(c.Context(), http.MethodDelete, path, nil, nil, nil); err != nil {
					return err
				}
				_, err = fmt.Fprintf(std.out, "%s on hub %s is deleted. It provisions itself again when it next connects;"+
					" to keep a device out, disable it instead.\n", args[1], args[0])
				return err
			})
		},
	}
}
