package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
)

// TestAnchorSwap replaces a hub's trust anchor while hubgate serves, the way
// Kubernetes replaces a mounted file, and the toggle with it.
func TestAnchorSwap(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	successor := newFactory(t, "Successor")
	version := func(name string, anchor *factory, toggle string) {
		t.Helper()
		dir := filepath.Join(s.dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, dir, "factory.pem", pki.EncodeCertificates(anchor.root.Certificate))
		writeFile(t, dir, "hubgate.yaml", []byte(strings.Replace(factoryHub, "auto_provisioning: true", "auto_provisioning: "+toggle, 1)))
		if err := os.Symlink(name, filepath.Join(s.dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(s.dir, "..tmp"), filepath.Join(s.dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", s.factory, "true")
	for _, name := range []string{"factory.pem", "hubgate.yaml"} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("..data/"+name, filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	v := s.serve()
	old, young := s.factory.device(t, "SN-0001"), successor.device(t, "SN-0002")
	reasons := func(oldWant, youngWant string) {
		t.Helper()
		if got := v.connect(old); got != oldWant {
			t.Errorf("old anchor: %s, want %s", got, oldWant)
		}
		if got := v.connect(young); got != youngWant {
			t.Errorf("new anchor: %s, want %s", got, youngWant)
		}
	}
	reasons("device_provisioned", "chain_incomplete")
	version("..2", successor, "true")
	v.logged("configuration reloaded")
	reasons("chain_incomplete", "device_provisioned")
	version("..3", successor, "false")
	eventually(t, func() bool { return strings.Count(v.log.String(), "configuration reloaded") == 2 }, v.log.String)
	if got := v.connect(successor.device(t, "SN-0003")); got != "device_unknown" {
		t.Errorf("%s with auto-provisioning off", got)
	}
}

// TestBrokenReload: a file with mistakes changes nothing but a metric, and
// settings that cannot follow are named.
func TestBrokenReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub+"log: {level: loud}\n"))
	v.logged("log.level")
	if _, metrics := v.get("/metrics"); !strings.Contains(metrics, "hubgate_config_last_reload_successful 0") {
		t.Error("the metric does not tell of the broken file")
	}
	if got := v.connect(s.factory.device(t, "SN-0001")); got != "device_provisioned" {
		t.Errorf("%s while the file is broken", got)
	}
	writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub+"log: {level: debug}\npartitions: 128\n"))
	v.logged("some changed settings need a restart")
	v.logged("keys=partitions")
	if _, metrics := v.get("/metrics"); !strings.Contains(metrics, "hubgate_config_last_reload_successful 1") {
		t.Error("the metric does not tell of the mended file")
	}
}

// TestHangup is not parallel: the signal reaches every hubgate of the process.
func TestHangup(t *testing.T) {
	s := newSite(t)
	v := s.serve()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	v.logged("configuration reloaded")
}
