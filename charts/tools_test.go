package charts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// tool is the path of a program that `make tools` installs, at the version that
// the Makefile names.
func tool(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("../.cache/tools/" + name + "-v*")
	if err != nil || len(found) == 0 {
		t.Fatalf("%s is not installed: run make tools", name)
	}
	path, err := filepath.Abs(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a program and returns all that it says.
func run(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(out), err
}

func must(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := run(t, path, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
	return out
}

// built is a directory with what scripts/image builds for each image, laid out
// as there: the commands are those of the Dockerfile's stages.
var built string

func image(name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir := filepath.Join(built, name)
		cmd := exec.Command("../scripts/image", name, dir)
		cmd.Env = append(os.Environ(), "VERSION="+version, "REVISION=0123abc")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("scripts/image %s: %w\n%s", name, err, out)
		}
		return dir, nil
	})
}

// version is stamped into the binaries.
const version = "v9.9.9-test"

var (
	hubgateImage = image("hubgate")
	envoyImage   = image("envoy")
)

// hubgate is the binary of the image.
func hubgate() (string, error) {
	dir, err := hubgateImage()
	return filepath.Join(dir, "usr/local/bin/hubgate"), err
}

// library is the directory of hubgate's library in Envoy's image.
func library(t *testing.T) string {
	t.Helper()
	dir, err := envoyImage()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "opt/hubgate")
}

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "hubgate-images-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

// crdModules publish the CustomResourceDefinitions that the chart's and the
// examples' objects are of. Their own files are read where the Go module proxy
// put them; nothing of them is linked.
var crdModules = []struct{ module, files string }{
	{"github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds/*.yaml"},
	{"github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/*.yaml"},
	{"sigs.k8s.io/gateway-api@v1.6.3", "config/crd/experimental/*.yaml"},
	{"github.com/envoyproxy/gateway@v1.9.1", "charts/gateway-helm/charts/crds/crds/generated/*.yaml"},
	{"istio.io/api@v1.32.0", "kubernetes/customresourcedefinitions.gen.yaml"},
}

// schemas is a directory with the strict JSON schemas of Kubernetes' own kinds
// and of those CRDs, as kubeconform looks for them.
var schemas = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../.cache/tools/schemas-" + kubernetes)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "deployment-apps-v1.json")); err != nil {
		return "", errors.New("the schemas of Kubernetes are not installed: run make tools")
	}
	var errs []error
	for _, m := range crdModules {
		errs = append(errs, crds(filepath.Join(dir, "crds"), m.module, m.files))
	}
	return dir, errors.Join(errs...)
})

// kubernetes is the version whose schemas the Makefile installs.
const kubernetes = "1.37.0"

func crds(dir, module, files string) error {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = os.TempDir() // outside of this module
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", module, err, out)
	}
	var at struct{ Dir string }
	if err := json.Unmarshal(out, &at); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(at.Dir, files))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("%s: no %s (%w)", module, files, err)
	}
	for _, file := range found {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		documents, err := objects(text)
		if err != nil {
			continue // a template of the other chart
		}
		for _, crd := range documents {
			if err := writeSchemas(dir, crd); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeSchemas writes a schema for each version of a CRD.
func writeSchemas(dir string, crd object) error {
	if crd.str("kind") != "CustomResourceDefinition" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	spec := crd.at("spec")
	for _, version := range spec.list("versions") {
		schema := version.at("schema", "openAPIV3Schema")
		strict(schema)
		properties := schema.at("properties")
		properties["apiVersion"], properties["kind"] = map[string]any{"type": "string"}, map[string]any{"type": "string"}
		properties["metadata"] = map[string]any{"type": "object"}
		text, err := json.Marshal(schema)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s-%s-%s.json", strings.ToLower(spec.at("names").str("kind")), spec.str("group"), version.str("name"))
		temp := filepath.Join(dir, fmt.Sprintf("%s.%d", name, os.Getpid()))
		if err := errors.Join(os.WriteFile(temp, text, 0o600), os.Rename(temp, filepath.Join(dir, name))); err != nil {
			return err
		}
	}
	return nil
}

// strict closes every object of a schema that does not say that it is open: a
// misspelt field is a mistake.
func strict(schema object) {
	if open, _ := schema["x-kubernetes-preserve-unknown-fields"].(bool); open {
		return
	}
	if properties := schema.at("properties"); len(properties) > 0 {
		if _, said := schema["additionalProperties"]; !said {
			schema["additionalProperties"] = false
		}
		for name := range properties {
			strict(properties.at(name))
		}
	}
	strictParts(schema)
}

func strictParts(schema object) {
	for _, key := range []string{"items", "additionalProperties"} {
		if part := schema.at(key); len(part) > 0 {
			strict(part)
		}
	}
}

// conform gives manifests to kubeconform.
func conform(t *testing.T, manifests string) {
	t.Helper()
	dir, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "manifests.yaml")
	if err := os.WriteFile(file, []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, tool(t, "kubeconform"), "-strict", "-summary",
		"-schema-location", dir+"/{{ .ResourceKind }}{{ .KindSuffix }}.json",
		"-schema-location", dir+"/crds/{{ .ResourceKind }}-{{ .Group }}-{{ .ResourceAPIVersion }}.json", file)
	if err != nil || !strings.Contains(out, "Skipped: 0") {
		t.Errorf("kubeconform: %v\n%s", err, out)
	}
}
