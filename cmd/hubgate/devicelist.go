package main

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

// deviceFilter says which devices are listed, and in which order.
type deviceFilter struct {
	sort, enabled, connected, prefix, anchor string
}

func (f *deviceFilter) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.sort, "sort", "name", "name or created")
	flags.StringVar(&f.enabled, "enabled", "", "true: only enabled devices, false: only disabled ones")
	flags.StringVar(&f.connected, "connected", "", "true: only devices with a connection, false: only those without")
	flags.StringVar(&f.prefix, "name-prefix", "", "only devices whose names begin so")
	flags.StringVar(&f.anchor, "anchor", "", "only devices last admitted by this trust anchor: its `SHA256`, or that of its key")
	for name, values := range map[string][]string{"sort": {"name", "created"}, "enabled": truths, "connected": truths} {
		// It fails only for a flag that is not there.
		_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

var truths = []string{"true", "false"}

func (f *deviceFilter) narrows() bool {
	return f.enabled+f.connected+f.prefix+f.anchor != ""
}

// query are the API's parameters. It knows anchors by their keys alone, people
// by what `anchor list` shows.
func (f *deviceFilter) query(ctx context.Context, c *client, hub string) (url.Values, error) {
	query := url.Values{"sort": {f.sort}}
	for name, value := range map[string]string{
		"enabled": f.enabled, "connected": f.connected, "name_prefix": f.prefix, "anchor": strings.ToLower(f.anchor),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.anchor == "" {
		return query, nil
	}
	var list admin.Anchors
	if err := c.call(ctx, http.MethodGet, hubPath(hub)+"/anchors", nil, nil, &list); err != nil {
		return nil, err
	}
	for _, a := range list.Anchors {
		if strings.EqualFold(a.Fingerprint, f.anchor) {
			query.Set("anchor", a.Key)
		}
	}
	return query, nil
}

// devices lists up to limit devices, 0 for all.
func (c *client) devices(ctx context.Context, hub string, query url.Values, cursor string, limit int) (admin.Devices, error) {
	query = maps.Clone(query)
	list := admin.Devices{Devices: []admin.Device{}, Next: cursor}
	for {
		size := apiPage
		if limit > 0 {
			size = min(size, limit-len(list.Devices))
		}
		query.Set("limit", strconv.Itoa(size))
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
