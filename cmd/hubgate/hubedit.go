package main

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

// hubFlags are the settings of a hub.
type hubFlags struct {
	name, project, topics            string
	enabled, sniOnly, unicode, quiet bool
	policy                           policyFlags
}

func (f *hubFlags) add(c *cobra.Command, creates bool) {
	flags := c.Flags()
	if creates {
		flags.StringVar(&f.project, "project", "", "project (UUID) that the hub belongs to")
		flags.BoolVar(&f.enabled, "enabled", true, "let devices connect")
	} else {
		flags.StringVar(&f.name, "name", "", "give it another name")
		flags.BoolVar(&f.quiet, "events-disabled", false, "send its events nowhere")
		flags.StringVar(&f.topics, "events-topic-prefix", "", "begin of the MQTT topics of its events")
	}
	flags.BoolVar(&f.sniOnly, "sni-only", false, "its devices have to name it in SNI")
	flags.BoolVar(&f.unicode, "unicode-names", false, "accept device names beyond ASCII")
	f.policy.add(c, creates)
}

// body is what was said outright.
func (f *hubFlags) body(c *cobra.Command, in io.Reader) (map[string]any, error) {
	body := said(c, map[string]field{
		"name": {"name", f.name}, "project": {"project_id", f.project}, "enabled": {"enabled", f.enabled},
		"sni-only": {"sni_only", f.sniOnly}, "unicode-names": {"unicode_names", f.unicode},
		"events-disabled": {"events_disabled", f.quiet}, "events-topic-prefix": {"events_topic_prefix", f.topics},
	})
	policy, err := f.policy.body(c, in)
	if len(policy) > 0 {
		body["policy"] = policy
	}
	return body, err
}

// field is a flag's field in the API, and its value.
type field struct {
	name  string
	value any
}

// said are the fields of the flags that were given.
func said(c *cobra.Command, fields map[string]field) map[string]any {
	body := map[string]any{}
	for flag, f := range fields {
		if c.Flags().Changed(flag) {
			body[f.name] = f.value
		}
	}
	return body
}

func newHubCreate(t *target, std streams) *cobra.Command {
	var (
		o output
		f hubFlags
	)
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a hub",
		Args:  args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			body, err := f.body(c, std.in)
			if err != nil {
				return err
			}
			body["name"] = args[0]
			return t.editHub(c.Context(), std, o, http.MethodPost, "/v1/hubs", body,
				"Hub %s is created. Prove that a CA is yours with `hubgate pki challenge`, and install it with `hubgate anchor add`.\n")
		},
	}
	o.flag(c)
	f.add(c, true)
	return c
}

func newHubUpdate(t *target, std streams) *cobra.Command {
	var (
		o output
		f hubFlags
	)
	c := &cobra.Command{
		Use:   "update HUB",
		Short: "Change a hub's settings",
		Example: `  hubgate hub update factory --name plant --sni-only
  hubgate hub update factory --connections reject --max-session-age 24h
  echo '[{"name_pattern": "SN-[0-9]{6}", "claims": "listed"}]' | hubgate hub update factory --admission -`,
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			body, err := f.body(c, std.in)
			if err != nil {
				return err
			}
			if len(body) == 0 {
				return usage("nothing is to be changed: give at least one flag")
			}
			return t.editHub(c.Context(), std, o, http.MethodPatch, hubPath(args[0]), body, "Hub %s is changed.\n")
		},
	}
	o.flag(c)
	f.add(c, false)
	return c
}

// editHub sends a change and shows the hub, or says that it is done.
func (t *target) editHub(ctx context.Context, std streams, o output, method, path string, body map[string]any, done string) error {
	return t.with(ctx, func(client *client) error {
		var h admin.Hub
		if err := client.call(ctx, method, path, nil, body, &h); err != nil {
			return err
		}
		return o.print(std.out, h, func() error { return say(std.out, done, h.Name) })
	})
}

func newHubSwitch(t *target, std streams, verb, short string, on bool, done string) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:               verb + " HUB",
		Short:             short,
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.editHub(c.Context(), std, o, http.MethodPatch, hubPath(args[0]), map[string]any{"enabled": on}, done)
		},
	}
	o.flag(c)
	return c
}

func newHubAuto(t *target, std streams) *cobra.Command {
	turn := func(word string, on bool, done string) *cobra.Command {
		var o output
		c := &cobra.Command{
			Use:               word + " HUB",
			Short:             "Turn it " + word,
			Args:              args("HUB"),
			ValidArgsFunction: t.completeHubs(nil),
			RunE: func(c *cobra.Command, args []string) error {
				return t.editHub(c.Context(), std, o, http.MethodPatch, hubPath(args[0]), map[string]any{"auto_provisioning": on}, done)
			},
		}
		o.flag(c)
		return c
	}
	return newGroup("auto-provisioning", "Let unseen devices create themselves, or not",
		turn("on", true, "Hub %s: a device with a valid chain creates itself on its first connection.\n"),
		turn("off", false, "Hub %s: unseen devices are refused from now on; known ones get in.\n"),
	)
}

func newHubDelete(t *target, std streams) *cobra.Command {
	var devices bool
	c := &cobra.Command{
		Use:               "delete HUB",
		Short:             "Delete a hub",
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			query := url.Values{}
			if devices {
				query.Set("with_devices", "true")
			}
			return t.with(c.Context(), func(client *client) error {
				if err := client.call(c.Context(), http.MethodDelete, hubPath(args[0]), query, nil, nil); err != nil {
					return err
				}
				return say(std.out, "Hub %s is deleted.\n", args[0])
			})
		},
	}
	c.Flags().BoolVar(&devices, "with-devices", false, "delete its devices, too")
	return c
}
