package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Tell which build this is",
		Args:  args(),
		RunE: func(*cobra.Command, []string) error {
			b := readBuild()
			_, err := fmt.Fprintf(std.out, "hubgate %s\nrevision %s\nbuilt with %s for %s/%s\n",
				b.version, b.revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
