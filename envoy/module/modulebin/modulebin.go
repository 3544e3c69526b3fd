// Package modulebin builds the library that Envoy loads, for tests, the demo
// and benchmarks: each of them runs what is in the working tree.
package modulebin

import (
	"context"
	"errors"
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
// working directory, and kept in its .cache. Callers may race.
func Path(ctx context.Context, tags ...string) (string, error) {
	if own := os.Getenv(Variable); own != "" && len(tags) == 0 {
		return filepath.Abs(own)
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	source := strings.TrimSpace(string(out))
	if err != nil || filepath.Base(source) != "go.mod" {
		return "", errors.New("hubgate's library is built from its source, and here is none")
	}
	dir := filepath.Join(filepath.Dir(source), ".cache", strings.Join(append([]string{"module"}, tags...), "-"))
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
