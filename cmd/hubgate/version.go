package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion(std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "version",
		Short: "Tell which build this is",
		Args:  args(),
		RunE: func(*cobra.Command, []string) error {
			b := readBuild()
			shown := shownBuild{b.version, b.revision, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return o.print(std.out, shown, func() error {
				return say(std.out, "hubgate %s\nrevision %s\nbuilt with %s for %s\n", shown.Version, shown.Revision, shown.Go, shown.Platform)
			})
		},
	}
	o.flag(c)
	return c
}

// shownBuild is a build as -o json shows it.
type shownBuild struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}
