package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/trust"
)

func newCert(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("cert", "Revoke certificates and keys by hand",
		newCertRevoke(&t, std),
		newCertUnrevoke(&t, std),
		newCertList(&t, std),
	), "work on the embedded store, which nobody may be serving")
}

func newCRL(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("crl", "Say which certificate revocation lists a hub goes by",
		newCRLList(&t, std),
		newCRLAdd(&t, std),
		newCRLSources(&t, std),
		newCRLRemove(&t, std),
	), "work on the embedded store, which nobody may be serving")
}

func newCertRevoke(t *target, std streams) *cobra.Command {
	var (
		o    output
		body admin.NewRevocation
		file string
	)
	c := &cobra.Command{
		Use:   "revoke HUB",
		Short: "Revoke a certificate or a key: it is refused, and its connections end",
		Long: `Revoke a certificate by its serial number and issuer, or a key with all its
certificates. An intermediate takes with it whatever it issued.`,
		Example: `  hubgate cert revoke factory --serial 3A1F --issuer SHA256
  hubgate cert revoke factory --certificate device.pem --reason "sold"
  hubgate cert revoke factory --device SN-0001 --reason "stolen"`,
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			given := 0
			for _, v := range []string{body.Serial, body.Key, file, body.Device} {
				if v != "" {
					given++
				}
			}
			switch {
			case given != 1:
				return usage("give one of --serial with --issuer, --key, --certificate, --device")
			case (body.Serial == "") != (body.Issuer == ""):
				return usage("--serial and --issuer go together")
			}
			if file != "" {
				text, err := readChain(file, std.in)
				if err != nil {
					return err
				}
				body.Certificate = text
			}
			return t.with(c.Context(), func(client *client) error {
				var v admin.Revocation
				if err := client.call(c.Context(), http.MethodPost, hubPath(args[0])+"/revocations", nil, body, &v); err != nil {
					return err
				}
				return o.print(std.out, v, func() error {
					return say(std.out, "Hub %s refuses it from now on, and its connections end. To lift that: `hubgate cert unrevoke %s %s`.\n", args[0], args[0], v.ID)
				})
			})
		},
	}
	o.flag(c)
	flags := c.Flags()
	flags.StringVar(&body.Serial, "serial", "", "serial number in hexadecimal, as openssl shows it")
	flags.StringVar(&body.Issuer, "issuer", "", "who issued it: SHA-256 of the CA's key, or of its certificate")
	flags.StringVar(&body.Key, "key", "", "SHA-256 of a public key, as `hubgate device get` shows it")
	flags.StringVar(&file, "certificate", "", "file of the certificate, PEM; the first in it is meant")
	flags.StringVar(&body.Device, "device", "", "name or ID of a device: the key that it connected with last")
	flags.StringVar(&body.Reason, "reason", "", "why, for people")
	return c
}

func newCertUnrevoke(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:               "unrevoke HUB ID",
		Short:             "Lift a revocation that was made by hand",
		Args:              args("HUB", "ID"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				path := hubPath(args[0]) + "/revocations/" + url.PathEscape(args[1])
				if err := client.call(c.Context(), http.MethodDelete, path, nil, nil, nil); err != nil {
					return err
				}
				return say(std.out, "It is lifted on hub %s.\n", args[0])
			})
		},
	}
}

func newCertList(t *target, std streams) *cobra.Command {
	return newCertificateList(t, std, "List what is revoked by hand on a hub", "revocations", func(hub string, list admin.Revocations) error {
		if len(list.Revocations) == 0 {
			return say(std.out, "Nothing is revoked by hand on hub %s. What its CAs revoke is in `hubgate crl list %s`.\n", hub, hub)
		}
		var t table
		t.row("ID", "SERIAL", "ISSUER OR KEY", "BY", "AT", "REASON")
		for _, v := range list.Revocations {
			t.row(v.ID, orDash(v.Serial), v.Issuer+v.Key, orDash(v.By), clock(v.At), orDash(v.Reason))
		}
		return t.print(std.out)
	})
}

func newCRLList(t *target, std streams) *cobra.Command {
	return newCertificateList(t, std, "List a hub's revocation lists, and where they come from", "crls", func(hub string, list admin.CRLs) error {
		if len(list.CRLs) == 0 {
			if err := say(std.out, "Hub %s has no revocation list. `hubgate crl add %s FILE` uploads one.\n", hub, hub); err != nil {
				return err
			}
		} else {
			var t table
			t.row("ISSUER", "NUMBER", "ENTRIES", "NEXT UPDATE", "CURRENT", "ISSUER'S KEY SHA-256")
			for _, c := range list.CRLs {
				t.row(c.Name, c.Number, strconv.Itoa(c.Entries), clock(c.NextUpdate), yesNo(c.Current), c.Issuer)
			}
			if err := t.print(std.out); err != nil {
				return err
			}
		}
		for _, source := range list.Sources {
			if err := say(std.out, "Source: %s\n", source); err != nil {
				return err
			}
		}
		return nil
	})
}

func newCRLAdd(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "add HUB FILE",
		Short: "Upload a revocation list of one of the hub's CAs",
		Long: `Upload a revocation list (PEM or DER) that one of the hub's CAs signed. It takes
the place of that CA's list before; an older one is refused.`,
		Args:              args("HUB", "FILE"),
		ValidArgsFunction: t.completeHubs(completeFiles),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := readCRL(args[1], std.in)
			if err != nil {
				return err
			}
			return t.with(c.Context(), func(client *client) error {
				var added admin.CRL
				if err := client.call(c.Context(), http.MethodPost, hubPath(args[0])+"/crls", nil, admin.NewCRL{CRL: text}, &added); err != nil {
					return err
				}
				return o.print(std.out, added, func() error {
					return say(std.out, "Hub %s goes by list %s of %s, with %d entries; the next is due %s.\n",
						args[0], added.Number, added.Name, added.Entries, clock(added.NextUpdate))
				})
			})
		},
	}
	o.flag(c)
	return c
}

// readCRL reads a list, "-" for the input, as PEM.
func readCRL(file string, in io.Reader) (string, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	const most = 2 * trust.MaxCRLBytes
	b, err := io.ReadAll(io.LimitReader(in, most))
	switch {
	case err != nil:
		return "", err
	case len(b) == most:
		return "", fmt.Errorf("%s: it is larger than any CRL may be (%d bytes)", file, trust.MaxCRLBytes)
	}
	if bytes.Contains(b, []byte("-----BEGIN")) {
		return string(b), nil
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: b})), nil
}

func newCRLSources(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "sources HUB [URL…]",
		Short: "Set the addresses that a hub gets its revocation lists from",
		Long: `Set the addresses that a hub gets its revocation lists from, in place of those
before; without any, it gets none. What came from an address stays in force.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("no HUB given")
			}
			return nil
		},
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				body := admin.CRLSources{URLs: append([]string{}, args[1:]...)}
				if err := client.call(c.Context(), http.MethodPut, hubPath(args[0])+"/crls", nil, body, nil); err != nil {
					return err
				}
				if len(args) == 1 {
					return say(std.out, "Hub %s gets its revocation lists from nowhere.\n", args[0])
				}
				return say(std.out, "Hub %s gets its revocation lists from %s.\n", args[0], strings.Join(args[1:], ", "))
			})
		},
	}
}

func newCRLRemove(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:               "remove HUB KEY_SHA256",
		Short:             "Remove the revocation list of the issuer of that key, and all that it revokes",
		Args:              args("HUB", "KEY_SHA256"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				path := hubPath(args[0]) + "/crls/" + url.PathEscape(args[1])
				if err := client.call(c.Context(), http.MethodDelete, path, nil, nil, nil); err != nil {
					return err
				}
				return say(std.out, "It is removed from hub %s.\n", args[0])
			})
		},
	}
}
