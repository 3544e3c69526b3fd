package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the servers that it measures.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestSmoke measures for a moment: every server starts, answers as it should,
// and the figures arrive in the table and the file.
func TestSmoke(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-rounds", "1", "-long", "100ms", "-devices", "8", "-json", file}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var results []result
	if err := json.Unmarshal(text, &results); err != nil {
		t.Fatal(err)
	}
	if len(results) != len(closedCases) {
		t.Errorf("%d results of %d cases", len(results), len(closedCases))
	}
	for _, r := range results {
		for _, server := range []string{"hubgate", "stock", "raw"} {
			f := r.Servers[server]
			if f.Rate <= 0 || f.Allocs <= 0 || f.P50 <= 0 || f.P50 > f.P999 {
				t.Errorf("%s, %s: %+v", r.Case, server, f)
			}
		}
		if !strings.Contains(out.String(), r.Case) {
			t.Errorf("%s is not in the table:\n%s", r.Case, &out)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-run", "nothing like it"}, {"-serve", "nothing", "127.0.0.1:0", "127.0.0.1:0"}, {"-x"}, {"-rounds", "0"}, {"stray"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
