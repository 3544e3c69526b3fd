package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

func newDeviceSecret(t *target, std streams) *cobra.Command {
	return newGroup("secret", "Make and take the secrets of devices that connect without TLS",
		newDeviceSecretCreate(t, std), newDeviceSecretRemove(t, std))
}

func newDeviceSecretCreate(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "create HUB DEVICE",
		Short: "Give a device a new secret, and print it: it is told this once",
		Long: `Give a device a new secret, and print it to standard output: it is told this
once, and hubgate keeps only its hash. The secret that the device had ends, and
so do its connections.

With it, the device may connect where Envoy listens without TLS, once that is
allowed: hubgate device update HUB DEVICE --allow-insecure. Whoever can read
that network can read the secret.`,
		Example:           `  hubgate device secret create factory SN-0001 > sn-0001.secret`,
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withDevice(c.Context(), args[0], args[1], func(client *client, path string) error {
				var made admin.DeviceSecret
				if err := client.call(c.Context(), http.MethodPost, path+"/secret", nil, nil, &made); err != nil {
					return err
				}
				return o.print(std.out, made, func() error {
					told := fmt.Sprintf("The secret goes with the user name %s. Keep it: it is not told again.\n", made.UserName)
					if !made.AllowInsecure {
						told += fmt.Sprintf("It opens nothing yet: `hubgate device update %s %s --allow-insecure` lets the device use it.\n", args[0], args[1])
					}
					if err := say(std.err, "%s", told); err != nil {
						return err
					}
					return say(std.out, "%s\n", made.Secret)
				})
			})
		},
	}
	o.flag(c)
	return c
}

func newDeviceSecretRemove(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:               "remove HUB DEVICE",
		Short:             "Take a device's secret, and end its connections",
		Args:              args("HUB", "DEVICE"),
		ValidArgsFunction: t.completeHubs(t.completeDevices),
		RunE: func(c *cobra.Command, args []string) error {
			return t.withDevice(c.Context(), args[0], args[1], func(client *client, path string) error {
				if err := client.call(c.Context(), http.MethodDelete, path+"/secret", nil, nil, nil); err != nil {
					return err
				}
				return say(std.out, "%s on hub %s has no secret any more: it gets in with its certificate alone.\n", args[1], args[0])
			})
		},
	}
}

// withoutTLS says how the device may connect without TLS.
func withoutTLS(d admin.Device) string {
	switch {
	case !d.AllowInsecure:
		return "no"
	case !d.HasSecret:
		return "yes, but it has no secret"
	}
	return "yes, by its secret"
}

// lacksSecret tells that a device that may connect without TLS cannot yet.
func lacksSecret(d admin.Device, hub string) string {
	if !d.AllowInsecure || d.HasSecret {
		return ""
	}
	return fmt.Sprintf("It cannot connect without TLS before it has a secret: `hubgate device secret create %s %s`.\n", hub, d.Name)
}
