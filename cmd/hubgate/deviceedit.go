package main

import (
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

// deviceFlags are the settings of a device that people choose.
type deviceFlags struct {
	description, reason         string
	enabled, insecure, multiple bool
	noFilters                   bool
	publish, subscribe          filterFlags
}

func (f *deviceFlags) add(c *cobra.Command, creates bool) {
	flags := c.Flags()
	flags.StringVar(&f.description, "description", "", "what it is")
	flags.BoolVar(&f.enabled, "enabled", true, "let it connect")
	flags.StringVar(&f.reason, "reason", "", "why it is disabled")
	flags.BoolVar(&f.insecure, "allow-insecure", false, "let it connect without TLS, by its secret (hubgate device secret)")
	flags.BoolVar(&f.multiple, "allow-multiple-connections", false, "let it hold several connections")
	f.publish.add(c, "publish", "publish to")
	f.subscribe.add(c, "subscribe", "subscribe to")
	if !creates {
		flags.BoolVar(&f.noFilters, "no-filters", false, "let it publish and subscribe to all topics")
	}
}

func (f *deviceFlags) body(c *cobra.Command) map[string]any {
	return said(c, map[string]field{
		"description": {"description", f.description}, "enabled": {"enabled", f.enabled}, "reason": {"disabled_reason", f.reason},
		"allow-insecure": {"allow_insecure", f.insecure}, "allow-multiple-connections": {"allow_multiple_connections", f.multiple},
	})
}

// filterFlags say which topics a device may use in one direction.
type filterFlags struct {
	direction      string
	accept, reject []string
}

func (f *filterFlags) add(c *cobra.Command, direction, verb string) {
	f.direction = direction
	c.Flags().StringArrayVar(&f.accept, direction+"-accept", nil, "let it "+verb+" this `TOPIC` (+ and # as in MQTT) and no other; may be repeated, '' is none")
	c.Flags().StringArrayVar(&f.reject, direction+"-reject", nil, "let it "+verb+" all but this `TOPIC`; may be repeated, '' is none")
}

func (f *filterFlags) given() bool { return len(f.accept)+len(f.reject) > 0 }

// filter is what was said, or else what there was.
func (f *filterFlags) filter(before admin.Filter) admin.Filter {
	switch {
	case len(f.accept) > 0:
		return admin.Filter{Policy: "accept", Topics: topics(f.accept)}
	case len(f.reject) > 0:
		return admin.Filter{Policy: "reject", Topics: topics(f.reject)}
	}
	return before
}

func topics(given []string) []string {
	return slices.DeleteFunc(slices.Clone(given), func(topic string) bool { return topic == "" })
}

func (f *deviceFlags) filters() bool { return f.publish.given() || f.subscribe.given() }

// over are the filters that were said, over those that there are: nil for none.
func (f *deviceFlags) over(before *admin.Filters) admin.Filters {
	if before == nil {
		all := admin.Filter{Policy: "reject", Topics: []string{}}
		before = &admin.Filters{Publish: all, Subscribe: all}
	}
	return admin.Filters{Publish: f.publish.filter(before.Publish), Subscribe: f.subscribe.filter(before.Subscribe)}
}

// check refuses what contradicts itself.
func (f *deviceFlags) check() error {
	for _, one := range []filterFlags{f.publish, f.subscribe} {
		if len(one.accept) > 0 && len(one.reject) > 0 {
			return usage("--%s-accept, --%s-reject: leave one of the two out", one.direction, one.direction)
		}
	}
	if f.noFilters && f.filters() {
		return usage("--no-filters goes without filters: leave one of the two out")
	}
	return nil
}

func newDeviceCreate(t *target, std streams) *cobra.Command {
	var (
		o output
		f deviceFlags
	)
	c := &cobra.Command{
		Use:   "create HUB NAME",
		Short: "Create a device before it first connects",
		Long: `Create a device before it first connects. Its first accepted connection binds it
to its certificate's key and CA.`,
		Args:              args("HUB", "NAME"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			body := f.body(c)
			body["name"] = args[1]
			if err := f.check(); err != nil {
				return err
			}
			if f.filters() {
				body["message_filters"] = f.over(nil)
			}
			return t.with(c.Context(), func(client *client) error {
				var d admin.Device
				if err := client.call(c.Context(), http.MethodPost, hubPath(args[0])+"/devices", nil, body, &d); err != nil {
					return err
				}
				return o.print(std.out, d, func() error {
					return say(std.out, "%s on hub %s is created. Its first connection binds it to its certificate.\n%s", d.Name, args[0], lacksSecret(d, args[0]))
				})
			})
		},
	}
	o.flag(c)
	f.add(c, true)
	return c
}

func newDeviceUpdate(t *target, std streams) *cobra.Command {
	var (
		o output
		f deviceFlags
	)
	c := &cobra.Command{
		Use:   "update HUB DEVICE",
		Short: "Change a device's settings",
		Example: `  hubgate device update factory SN-0001 --description "line 3"
  hubgate device update factory SN-0001 --publish-accept 'up/#' --subscribe-reject 'fleet/#'
  hubgate device update factory SN-0001 --no-filters`,
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			body := f.body(c)
			if err := f.check(); err != nil {
				return err
			}
			if len(body) == 0 && !f.filters() && !f.noFilters {
				return usage("nothing is to be changed: give at least one flag")
			}
			return t.withDevice(c.Context(), args[0], args[1], func(client *client, path string) error {
				var d admin.Device
				switch {
				case f.noFilters:
					body["message_filters"] = nil
				case f.filters():
					// The API replaces filters as a whole: the other direction stays as it is.
					if err := client.call(c.Context(), http.MethodGet, path, nil, nil, &d); err != nil {
						return err
					}
					body["message_filters"] = f.over(d.MessageFilters)
				}
				d = admin.Device{}
				if err := client.call(c.Context(), http.MethodPatch, path, nil, body, &d); err != nil {
					return err
				}
				return o.print(std.out, d, func() error {
					return say(std.out, "%s on hub %s is changed.\n%s", d.Name, args[0], lacksSecret(d, args[0]))
				})
			})
		},
	}
	o.flag(c)
	f.add(c, false)
	return c
}
