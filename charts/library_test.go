package charts

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var buildLibrary = sync.OnceValues(func() (string, error) {
	if _, err := hubgate(); err != nil { // which makes the directory
		return "", err
	}
	path := filepath.Join(built, "libhubgate.so")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", path, "github.com/hubgate/hubgate/envoy/module")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	cmd.Stderr = os.Stderr
	return built, cmd.Run()
})

// library is the directory of hubgate's library for Envoy.
func library(t *testing.T) string {
	t.Helper()
	dir, err := buildLibrary()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
