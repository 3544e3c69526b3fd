package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// TestRedis serves on a Redis: the socket has a place of its own, and backups
// are Redis's.
func TestRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := newSite(t)
	writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub+"store: "+server.URL()+"\n"))
	v := s.serve()
	if _, err := os.Stat(filepath.Join(s.dir, "hubgate.sock")); err != nil {
		t.Error(err)
	}
	chain := s.factory.device(t, "SN-0001")
	if got := v.connect(chain); got != "device_provisioned" {
		t.Error(got)
	}
	if out := s.hubgate("device", "list", "factory").ok(t); !strings.Contains(out, "SN-0001") {
		t.Errorf("printed\n%s", out)
	}
	if out := s.hubgate("event", "tail", "--since", "start", "--follow=false").ok(t); !strings.Contains(out, "factory/SN-0001") {
		t.Errorf("printed\n%s", out)
	}
	s.hubgate("store", "backup", filepath.Join(s.dir, "b.db")).fails(t, exitError,
		"hubgate: this store is Redis, which makes its own backups (BGSAVE, or its append-only file): hubgate has none to give\n")

	// Offline, an explanation goes by the configuration alone.
	result := s.hubgate("explain", "--offline", "--cert", s.chain("good.pem", chain...))
	if result.code != exitOK || !strings.Contains(result.out, "device_provisioned") || !strings.HasPrefix(result.err, "Devices were not looked up") {
		t.Errorf("%+v", result)
	}
	if code := v.end(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, v.log)
	}
}

// TestRedisAway says what cannot be reached, without its password.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	writeFile(t, s.dir, "secret", []byte("hunter2\n"))
	writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub+"store: redis://127.0.0.1:1\nstore_password_file: secret\n"))
	result := s.hubgate("serve")
	if result.code != exitError || !strings.Contains(result.err, "127.0.0.1:1") || strings.Contains(result.err, "hunter2") {
		t.Errorf("%+v", result)
	}
}
