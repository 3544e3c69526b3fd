package charts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/envoybin"
)

// TestExamples: Envoy takes the static examples, and those for gateways and
// meshes are what their CRDs' schemas say. The README has a row for each.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../envoy/examples/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d examples were found: %v", len(files), err)
	}
	readme, err := os.ReadFile("../envoy/examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	p := newPKI(t)
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(string(readme), "| ["+name+"]("+name+") |") {
				t.Errorf("%s has no row in the README", name)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "static_resources:") {
				conform(t, string(text))
				return
			}
			for _, dir := range []string{"/etc/envoy/tls/", "/etc/envoy/hubgate/"} {
				text = []byte(strings.ReplaceAll(string(text), dir, p.dir+"/"))
			}
			config := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(config, text, 0o600); err != nil {
				t.Fatal(err)
			}
			envoy, err := envoybin.Path(t.Context(), t.Output())
			if err != nil {
				t.Fatal(err)
			}
			must(t, "env", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH="+library(t), envoy, "--mode", "validate", "-c", config, "--log-level", "error")
		})
	}
}
