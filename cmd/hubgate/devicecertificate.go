package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

func newDeviceCertificate(t *target, std streams) *cobra.Command {
	return newGroup("certificate", "Give devices certificates of their own, outside the hub's CAs",
		newDeviceCertificateSet(t, std), newDeviceCertificateRemove(t, std))
}

func newDeviceCertificateSet(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "set HUB DEVICE FILE.pem",
		Short: "Let a device in with this certificate and no other, and end its connections",
		Long: `Let a device in with this certificate and no other, and end its connections. What
counts is the key, whoever signed the certificate; its common name has to be the
device's name, and it has to be valid. Revoke it by its key, or remove it.

The hub's policy has to allow it (hubgate hub update HUB --custom-certificates),
and the device has to name its hub in SNI, or use a listener that does.`,
		Example:           `  hubgate device certificate set factory SN-0001 sn-0001.pem`,
		Args:              args("HUB", "DEVICE", "FILE.pem"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := readChain(args[2], std.in)
			if err != nil {
				return err
			}
			return t.withDevice(c.Context(), args[0], args[1], func(client *client, path string) error {
				var d admin.Device
				if err := client.call(c.Context(), http.MethodPut, path+"/certificate", nil, admin.NewCustomCertificate{Certificate: text}, &d); err != nil {
					return err
				}
				return o.print(std.out, d, func() error {
					return say(std.out, "%s on hub %s gets in with this certificate alone, until %s.\n", d.Name, args[0], clock(d.CustomCertificate.NotAfter))
				})
			})
		},
	}
	o.flag(c)
	return c
}

func newDeviceCertificateRemove(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:               "remove HUB DEVICE",
		Short:             "Take a device's custom certificate, and end its connections",
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withDevice(c.Context(), args[0], args[1], func(client *client, path string) error {
				if err := client.call(c.Context(), http.MethodDelete, path+"/certificate", nil, nil, nil); err != nil {
					return err
				}
				return say(std.out, "%s on hub %s has no custom certificate any more: it gets in with one of the hub's CAs.\n", args[1], args[0])
			})
		},
	}
}

// customCertificate shows a device's, for people.
func customCertificate(c admin.CustomCertificate) string {
	return "until " + clock(c.NotAfter) + ", key " + c.Key
}
