package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// listedCertificate is an anchor or an intermediate as the API lists it. All of
// it is passed on to programs.
type listedCertificate struct {
	Subject       string    `json:"subject"`
	Fingerprint   string    `json:"fingerprint_sha256"`
	NotAfter      time.Time `json:"not_after"`
	Waived        bool      `json:"waived"`
	Devices       int       `json:"devices"`
	ExpiresInDays int       `json:"expires_in_days"`
	Source        string    `json:"source"`
}

func newAnchor(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("anchor", "Say which CAs a hub trusts",
		newCertificateList(&t, std, "anchors", "List a hub's trust anchors"),
		newAnchorAdd(&t, std),
		newCertificateRemove(&t, std, "anchors", "Remove a trust anchor"),
	), "work on the embedded store, which nobody may be serving")
}

func newIntermediate(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("intermediate", "Say which intermediates a hub knows",
		newCertificateList(&t, std, "intermediates", "List a hub's intermediates, uploaded and learned"),
		newIntermediateAdd(&t, std),
		newCertificateRemove(&t, std, "intermediates", "Remove an intermediate"),
	), "work on the embedded store, which nobody may be serving")
}

func newCertificateList(t *target, std streams, kind, short string) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:               "list HUB",
		Short:             short,
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				var all map[string]any
				var list map[string][]listedCertificate
				path := hubPath(args[0]) + "/" + kind
				if o != outputTable {
					if err := client.call(c.Context(), http.MethodGet, path, nil, nil, &all); err != nil {
						return err
					}
				} else if err := client.call(c.Context(), http.MethodGet, path, nil, nil, &list); err != nil {
					return err
				}
				return o.print(std.out, all, func() error { return printCertificates(std, kind, args[0], list[kind]) })
			})
		},
	}
	o.flag(c)
	return c
}

func printCertificates(std streams, kind, hub string, list []listedCertificate) error {
	switch {
	case len(list) > 0:
	case kind == "anchors":
		return say(std.out, "Hub %s trusts no CA. Install one with `hubgate anchor add %s CA.pem --challenge FILE`.\n", hub, hub)
	default:
		return say(std.out, "Hub %s knows no intermediates. It learns those that devices present; `hubgate intermediate add %s FILE` uploads some.\n", hub, hub)
	}
	var t table
	if kind == "anchors" {
		t.row("SUBJECT", "VALID TO", "DEVICES", "PROOF", "SHA-256")
	} else {
		t.row("SUBJECT", "VALID TO", "SOURCE", "SHA-256")
	}
	for _, c := range list {
		proof := "proven"
		if c.Waived {
			proof = "waived"
		}
		if kind == "anchors" {
			t.row(c.Subject, clock(c.NotAfter), strconv.Itoa(c.Devices), proof, c.Fingerprint)
		} else {
			t.row(c.Subject, clock(c.NotAfter), orDash(c.Source), c.Fingerprint)
		}
	}
	return t.print(std.out)
}

func newAnchorAdd(t *target, std streams) *cobra.Command {
	var (
		challenge, reason string
		waive             bool
	)
	c := &cobra.Command{
		Use:   "add HUB CA.pem",
		Short: "Have a hub trust a CA",
		Long: `Have a hub trust a CA. --challenge is the proof that its key is yours, made by
` + "`hubgate pki challenge`" + `. For a vendor's CA, whose key you have not, an
administrator of all projects can waive the proof, and says why.`,
		Example: `  hubgate anchor add factory ca.pem --challenge challenge.pem
  hubgate anchor add factory vendor.pem --waive-proof --reason "vendor CA, order 4711"`,
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
				var added listedCertificate
				if err := client.call(c.Context(), http.MethodPost, hubPath(args[0])+"/anchors", nil, body, &added); err != nil {
					return err
				}
				return say(std.out, "Hub %s trusts %s, until %s. To let its devices create themselves: `hubgate hub auto-provisioning on %s`.\n",
					args[0], added.Subject, clock(added.NotAfter), args[0])
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&challenge, "challenge", "", "the proof that the CA is yours, PEM")
	flags.BoolVar(&waive, "waive-proof", false, "trust it without a proof; needs a token of all projects")
	flags.StringVar(&reason, "reason", "", "why the proof is waived, for the log")
	return c
}

func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func newIntermediateAdd(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:               "add HUB FILE.pem",
		Short:             "Have a hub know intermediates that devices do not present",
		Args:              args("HUB", "FILE.pem"),
		ValidArgsFunction: t.completeHubs(completeFiles),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := readChain(args[1], std.in)
			if err != nil {
				return err
			}
			return t.with(c.Context(), func(client *client) error {
				if err := client.call(c.Context(), http.MethodPost, hubPath(args[0])+"/intermediates", nil, map[string]any{"certificates": text}, nil); err != nil {
					return err
				}
				return say(std.out, "Hub %s knows them: see `hubgate intermediate list %s`.\n", args[0], args[0])
			})
		},
	}
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
