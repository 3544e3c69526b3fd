package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

func newAnchor(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("anchor", "Say which CAs a hub trusts",
		newAnchorList(&t, std),
		newAnchorAdd(&t, std),
		newCertificateRemove(&t, std, "anchors", "Remove a trust anchor"),
	), "work on the embedded store, which nobody may be serving")
}

func newIntermediate(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("intermediate", "Say which intermediates a hub knows",
		newIntermediateList(&t, std),
		newIntermediateAdd(&t, std),
		newCertificateRemove(&t, std, "intermediates", "Remove an intermediate"),
	), "work on the embedded store, which nobody may be serving")
}

func newAnchorList(t *target, std streams) *cobra.Command {
	return newCertificateList(t, std, "List a hub's trust anchors", "anchors", func(hub string, list admin.Anchors) error {
		if len(list.Anchors) == 0 {
			return say(std.out, "Hub %s trusts no CA. Install one with `hubgate anchor add %s CA.pem --challenge FILE`.\n", hub, hub)
		}
		var t table
		t.row("SUBJECT", "VALID TO", "DEVICES", "PROOF", "ROTATION", "SHA-256")
		for _, c := range list.Anchors {
			proof := "proven"
			if c.Waived {
				proof = "waived"
			}
			t.row(c.Subject, clock(c.NotAfter), strconv.Itoa(c.Devices), proof, rotation(c), c.Fingerprint)
		}
		return t.print(std.out)
	})
}

// rotation says where an anchor is in its rotation.
func rotation(a admin.Anchor) string {
	switch {
	case a.RotationGroup == "":
		return "-"
	case !a.Superseded:
		return "successor"
	case a.Devices > 0:
		return "retire once DEVICES is 0"
	}
	return "retire now"
}

func newIntermediateList(t *target, std streams) *cobra.Command {
	return newCertificateList(t, std, "List a hub's intermediates, uploaded and learned", "intermediates", func(hub string, list admin.Intermediates) error {
		if len(list.Intermediates) == 0 {
			return say(std.out, "Hub %s knows no intermediates. It learns those that devices present; `hubgate intermediate add %s FILE` uploads some.\n", hub, hub)
		}
		var t table
		t.row("SUBJECT", "VALID TO", "SOURCE", "SHA-256")
		for _, c := range list.Intermediates {
			t.row(c.Subject, clock(c.NotAfter), orDash(c.Source), c.Fingerprint)
		}
		return t.print(std.out)
	})
}

func newCertificateList[T any](t *target, std streams, short, kind string, people func(hub string, list T) error) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:               "list HUB",
		Short:             short,
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				var list T
				if err := client.call(c.Context(), http.MethodGet, hubPath(args[0])+"/"+kind, nil, nil, &list); err != nil {
					return err
				}
				return o.print(std.out, list, func() error { return people(args[0], list) })
			})
		},
	}
	o.flag(c)
	return c
}

func newAnchorAdd(t *target, std streams) *cobra.Command {
	var (
		o                 output
		challenge, reason string
		rotates           string
		waive             bool
	)
	c := &cobra.Command{
		Use:   "add HUB CA.pem",
		Short: "Have a hub trust a CA",
		Long: `Have a hub trust a CA. --challenge is the proof that its key is yours, made by
` + "`hubgate pki challenge`" + `. For a vendor's CA, whose key you have not, an
administrator of all projects can waive the proof, and says why.

--rotates puts the CA beside the one that it is to take the place of: devices
that either has admitted are admitted by both, and ` + "`hubgate anchor list`" + ` tells
when the old one can be removed.`,
		Example: `  hubgate anchor add factory ca.pem --challenge challenge.pem
  hubgate anchor add factory vendor.pem --waive-proof --reason "vendor CA, order 4711"
  hubgate anchor add factory ca-2.pem --challenge challenge-2.pem --rotates SHA256`,
		Args:              args("HUB", "CA.pem"),
		ValidArgsFunction: t.completeHubs(completeFiles),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case waive && challenge != "":
				return usage("--challenge, --waive-proof: leave one of the two out")
			case waive != (reason != ""):
				return usage("--waive-proof and --reason go together")
			case !waive && challenge == "":
				return usage("--challenge is missing: make one with `hubgate pki challenge`, or say --waive-proof --reason TEXT")
			}
			ca, err := readChain(args[1], std.in)
			if err != nil {
				return err
			}
			body := map[string]any{"certificate": ca}
			if rotates != "" {
				body["rotates"] = rotates
			}
			if waive {
				body["waive_proof"], body["waiver_reason"] = true, reason
			} else {
				text, err := readChain(challenge, std.in)
				if err != nil {
					return err
				}
				body["challenge"] = text
			}
			return t.with(c.Context(), func(client *client) error {
				var added admin.Anchor
				if err := client.call(c.Context(), http.MethodPost, hubPath(args[0])+"/anchors", nil, body, &added); err != nil {
					return err
				}
				return o.print(std.out, added, func() error {
					return say(std.out, "Hub %s trusts %s, until %s. To let its devices create themselves: `hubgate hub auto-provisioning on %s`.\n",
						args[0], added.Subject, clock(added.NotAfter), args[0])
				})
			})
		},
	}
	o.flag(c)
	flags := c.Flags()
	flags.StringVar(&challenge, "challenge", "", "the proof that the CA is yours, PEM")
	flags.BoolVar(&waive, "waive-proof", false, "trust it without a proof; needs a token of all projects")
	flags.StringVar(&reason, "reason", "", "why the proof is waived, for the log")
	flags.StringVar(&rotates, "rotates", "", "SHA-256 fingerprint of the hub's anchor that the CA takes the place of")
	return c
}

func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func newIntermediateAdd(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "add HUB FILE.pem",
		Short: "Have a hub know intermediates that devices do not present",
		Long: `Have a hub know intermediates that devices do not present. For a hub that is
found by its CAs (not --sni-only) this takes an admin of all projects, as nobody
proves to own an intermediate's key.`,
		Args:              args("HUB", "FILE.pem"),
		ValidArgsFunction: t.completeHubs(completeFiles),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := readChain(args[1], std.in)
			if err != nil {
				return err
			}
			return t.with(c.Context(), func(client *client) error {
				var known admin.Intermediates
				if err := client.call(c.Context(), http.MethodPost, hubPath(args[0])+"/intermediates", nil, map[string]any{"certificates": text}, &known); err != nil {
					return err
				}
				return o.print(std.out, known, func() error {
					return say(std.out, "Hub %s knows them: see `hubgate intermediate list %s`.\n", args[0], args[0])
				})
			})
		},
	}
	o.flag(c)
	return c
}

func newCertificateRemove(t *target, std streams, kind, short string) *cobra.Command {
	var end bool
	c := &cobra.Command{
		Use:               "remove HUB SHA256",
		Short:             short,
		Args:              args("HUB", "SHA256"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			query := url.Values{}
			if end {
				query.Set("end_devices", "true")
			}
			return t.with(c.Context(), func(client *client) error {
				path := fmt.Sprintf("%s/%s/%s", hubPath(args[0]), kind, url.PathEscape(args[1]))
				if err := client.call(c.Context(), http.MethodDelete, path, query, nil, nil); err != nil {
					return err
				}
				return say(std.out, "It is removed from hub %s.\n", args[0])
			})
		},
	}
	if kind == "anchors" {
		c.Flags().BoolVar(&end, "end-devices", false, "even if devices were admitted by it last; they are refused and their connections end")
	}
	return c
}
