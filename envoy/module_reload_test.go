package envoy

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestModuleReload replaces the listeners under open connections: there is
// still one link, and still one epoch.
func TestModuleReload(t *testing.T) {
	t.Parallel()
	listeners := filepath.Join(t.TempDir(), "listeners.yaml")
	var resources []any
	publish := func(path string) {
		data, err := yaml.Marshal(map[string]any{"resources": resources})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, h := startModule(t, Options{NodeID: "edge-1", NodeCluster: "edge", Admin: freeAddresses(t, 1)[0]}, func(config string) string {
		var bootstrap map[string]any
		if err := yaml.Unmarshal([]byte(config), &bootstrap); err != nil {
			t.Fatal(err)
		}
		static := bootstrap["static_resources"].(map[string]any)
		for _, l := range static["listeners"].([]any) {
			l := l.(map[string]any)
			l["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener"
			resources = append(resources, l)
		}
		delete(static, "listeners")
		publish(listeners)
		bootstrap["dynamic_resources"] = map[string]any{"lds_config": map[string]any{
			"path_config_source": map[string]any{"path": listeners}, "resource_api_version": "V3",
		}}
		data, err := yaml.Marshal(bootstrap)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	})
	before, _ := h.established(t, e, "device-before", mqtt5)
	epoch := h.epoch()
	for round := 1; round <= 3; round++ {
		for _, l := range resources {
			l.(map[string]any)["per_connection_buffer_limit_bytes"] = bufferLimit + round
		}
		next := listeners + ".next"
		publish(next)
		if err := os.Rename(next, listeners); err != nil {
			t.Fatal(err)
		}
		eventually(t, "new listeners", func() bool {
			return strings.Contains(stats(t, e.options.Admin, "listener_modified"), fmt.Sprintf("listener_modified: %d", 2*round))
		})
		conn, _ := h.established(t, e, fmt.Sprintf("device-after-%d", round), mqtt5)
		assertEcho(t, conn, "\xc0\x00")
	}
	assertEcho(t, before, "\xc0\x00")
	if h.epoch() != epoch || h.links() != 1 {
		t.Errorf("epoch %s after %s, %d links; want one of each", h.epoch(), epoch, h.links())
	}
}

// stats asks Envoy's admin interface.
func stats(t *testing.T, address, filter string) string {
	t.Helper()
	response, err := http.Get("http://" + address + "/stats?filter=" + filter)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
