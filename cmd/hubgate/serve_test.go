package main

import (
	"strings"
	"testing"
)

func TestServe(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	chain := s.factory.device(t, "SN-0001")
	for _, want := range []string{"device_provisioned", "device_known"} {
		if got := v.connect(chain); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if code, text := v.get("/readyz"); code != 200 || text != "ready\n" {
		t.Errorf("/readyz: %d %s", code, text)
	}
	if code, text := v.get("/livez"); code != 200 || text != "alive\n" {
		t.Errorf("/livez: %d %s", code, text)
	}
	_, metrics := v.get("/metrics")
	for _, name := range []string{
		`hubgate_build_info{`, `hubgate_devices_provisioned_total{hub="factory"} 1`, "hubgate_config_last_reload_successful 1",
		"hubgate_config_last_reload_success_timestamp_seconds", "go_goroutines", "process_open_fds", "hubgate_store_up 1",
	} {
		if !strings.Contains(metrics, name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
	if code := v.end(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, v.log)
	}
}
