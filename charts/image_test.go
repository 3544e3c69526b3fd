package charts

import (
	"debug/elf"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/envoybin"
)

// TestImages builds what the images hold: a static hubgate that knows its
// version, and a library that Envoy's image can load.
func TestImages(t *testing.T) {
	t.Parallel()
	root, err := hubgateImage()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := elf.Open(root + "/usr/local/bin/hubgate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = binary.Close() }()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("hubgate is not static: it has a %s", p.Type)
		}
	}
	if out := must(t, root+"/usr/local/bin/hubgate", "version"); !strings.HasPrefix(out, "hubgate "+version+"\nrevision 0123abc\n") {
		t.Errorf("hubgate calls itself %s", out)
	}
	if text, err := os.ReadFile(root + "/etc/ssl/certs/ca-certificates.crt"); err != nil || strings.Count(string(text), "BEGIN CERTIFICATE") < 50 {
		t.Errorf("no CA bundle: %v", err)
	}
	// Envoy's image has glibc 2.35 (Ubuntu 22.04) or newer.
	lib, err := elf.Open(library(t) + "/libhubgate.so")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lib.Close() }()
	symbols, err := lib.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if v, ok := strings.CutPrefix(s.Version, "GLIBC_2."); ok && len(v) == 2 && v > "35" {
			t.Errorf("the library needs %s of glibc 2.%s", s.Name, v)
		}
	}
}

// TestDockerfile: its stages run what the tests run, on bases of exact
// versions, with the Envoy that the tests know.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	file := string(text)
	for _, want := range []string{
		"RUN ./scripts/image hubgate /out\n", "RUN ./scripts/image envoy /out\n",
		"\nARG ENVOY_IMAGE=envoyproxy/envoy:v" + envoybin.Version + "\n", "\nFROM scratch AS hubgate\n", "\nUSER 65532:65532\n",
	} {
		if !strings.Contains(file, want) {
			t.Errorf("no %q in the Dockerfile", want)
		}
	}
	for _, base := range regexp.MustCompile(`(?m)^ARG [A-Z]+_IMAGE=(.*)$`).FindAllStringSubmatch(file, -1) {
		if !regexp.MustCompile(`^[a-z/]+:v?[0-9]+\.[0-9]+\.[0-9]+(-[a-z]+)?$`).MatchString(base[1]) {
			t.Errorf("%s is no exact version", base[1])
		}
	}
}
