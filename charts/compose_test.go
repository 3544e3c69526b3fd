package charts

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/process"
)

// TestCompose gives each file of the compose project to the program that reads
// it: hubgate, Envoy, promtool, and redis-server and mosquitto, which have to
// start with theirs.
func TestCompose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../compose")); err != nil {
		t.Fatal(err)
	}
	must(t, dir+"/certificates")
	must(t, dir+"/certificates") // again: what is there stays
	edit := func(name string, pairs ...string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "edited-"+name)
		if err := os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ports, err := process.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := hubgate()
	if err != nil {
		t.Fatal(err)
	}
	out := must(t, binary, "config", "check", edit("hubgate.yaml", "vendor-ca.crt", "pki/vendor-ca.crt"))
	if !strings.Contains(out, "factory: 1 trust anchor, auto-provisioning") {
		t.Error(out)
	}
	envoy, err := envoybin.Path(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	config := edit("envoy.yaml", "/etc/envoy/tls/tls.", dir+"/pki/server.")
	must(t, "env", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH="+library(t), envoy, "--mode", "validate", "-c", config, "--log-level", "error")
	rules, err := filepath.Abs("hubgate/files/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	must(t, "promtool", "check", "config", edit("prometheus.yml", "alerts.yaml", rules))
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	start(t, process.Spec{
		Name: "redis-server", Path: "redis-server", Ready: process.Accepts(address(0)),
		Args: []string{edit("redis.conf", "/data", dir), "--bind", "127.0.0.1", "--port", fmt.Sprint(ports[0])},
	})
	mosquitto, err := exec.LookPath("mosquitto")
	if err != nil {
		mosquitto = "/usr/sbin/mosquitto"
	}
	start(t, process.Spec{
		Name: "mosquitto", Path: mosquitto, Ready: process.Accepts(address(1)),
		Args: []string{"-c", edit("mosquitto.conf", "listener 1883", fmt.Sprintf("listener %d 127.0.0.1", ports[1]))},
	})

	// What is mounted is there, and what is pulled has an exact version.
	text, err := os.ReadFile(dir + "/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project := parse(t, string(text))[0]
	for name := range project.at("services") {
		s := project.at("services", name)
		if image := s.str("image"); image != "" && !regexp.MustCompile(`:v?[0-9]+\.[0-9]+\.[0-9]+(-[a-z]+)?$`).MatchString(image) {
			t.Errorf("%s: %s is no exact version", name, image)
		}
		if target := s.at("build").str("target"); s.str("image") == "" && target != "hubgate" && target != "envoy" {
			t.Errorf("%s: there is no target %q", name, target)
		}
		for _, v := range s.strs("volumes") {
			source, _, _ := strings.Cut(v, ":")
			path := filepath.Join(dir, source)
			if strings.HasPrefix(source, "../charts/") {
				path = strings.TrimPrefix(source, "../charts/")
			} else if !strings.HasPrefix(source, ".") {
				continue
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s mounts %s: %v", name, source, err)
			}
		}
	}
}
