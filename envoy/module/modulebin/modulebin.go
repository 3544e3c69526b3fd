// Package modulebin builds the library that Envoy loads, for tests, the demo
// and benchmarks: each of them runs what is in the working tree.
package modulebin

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Variable names the environment variable that overrides the library.
const Variable = "HUBGATE_MODULE"

// Path gives the path of libhubgate.so: the file that HUBGATE_MODULE names,
// else one that is built now, with Go and a C compiler, from the module of the
// working directory. Callers may race.
func Path(ctx context.Context, tags ...string) (string, error) {
	if own := os.Getenv(Variable); own != "" && len(tags) == 0 {
		return filepath.Abs(own)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("nowhere to keep hubgate's library (set %s to one of your own): %w", Variable, err)
	}
	dir := filepath.Join(cache, "hubgate", strings.Join(append([]string{"module"}, tags...), "-"))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	built := filepath.Join(work, "libhubgate.so")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildmode=c-shared", "-ldflags", "-s -w",
		"-tags", strings.Join(tags, ","), "-o", built, "github.com/hubgate/hubgate/envoy/module")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build hubgate's library: %w\n%s", err, out)
	}
	// An Envoy that runs keeps the file it has.
	target := filepath.Join(dir, "libhubgate.so")
	return target, os.Rename(built, target)
}
