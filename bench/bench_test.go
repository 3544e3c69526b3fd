package main

import (
	"bytes"
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
	if err := run(t.Context(), []string{"-rounds", "1", "-long", "100ms", "-devices", "8", "-hubs", "50", "-scale", "1000", "-json", file}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	results, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(cases) {
		t.Errorf("%d results of %d cases", len(results), len(cases))
	}
	for _, r := range results {
		if len(r.Rows) < 2 || len(r.Targets) == 0 || !strings.Contains(out.String(), r.What) {
			t.Errorf("%+v in\n%s", r, &out)
		}
		for _, row := range r.Rows {
			for _, c := range r.Columns {
				if v, ok := row.Figures[c]; ok && v <= 0 {
					t.Errorf("%s: %s of %s is %v", r.Case, c, row.Side, v)
				}
			}
		}
		for _, target := range r.Targets {
			if target.Measured == 0 || target.Low > target.High {
				t.Errorf("%s: %+v", r.Case, target)
			}
		}
	}
}

// TestPage holds the page to the figures that it is made of.
func TestPage(t *testing.T) {
	const dir = "../docs"
	files, err := page(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1+len(charts) {
		t.Errorf("%d files of a page with %d charts", len(files), len(charts))
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("docs/%s is not what docs/performance.json gives (%v): go run ./bench -page docs", name, err)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-run", "nothing like it"}, {"-serve", "nothing", "127.0.0.1:0", "127.0.0.1:0"}, {"-x"}, {"-rounds", "0"}, {"stray"}, {"-page", "."}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
