package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every command line in the documentation names commands and flags that exist.
func TestCommandsInTheDocsParse(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, "../../README.md") {
		for _, line := range commandLines(t, page) {
			found++
			args := strings.Fields(line)[1:]
			cmd, rest, err := newRoot(streams{strings.NewReader(""), io.Discard, io.Discard}).Find(args)
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: %s\n%v", filepath.Base(page), line, err)
			}
		}
	}
	if found < 10 {
		t.Errorf("found only %d command lines", found)
	}
}

// commandLines returns the lines of a page's shell blocks that run hubgate,
// without comments and redirections.
func commandLines(t *testing.T, page string) []string {
	t.Helper()
	f, err := os.Open(page)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var lines []string
	shell, open := false, ""
	for scan := bufio.NewScanner(f); scan.Scan(); {
		line := strings.TrimSpace(scan.Text())
		if fence, ok := strings.CutPrefix(line, "```"); ok {
			shell = fence == "sh"
			continue
		}
		if !shell {
			continue
		}
		line, _, _ = strings.Cut(open+line, " # ")
		line, _, _ = strings.Cut(line, " > ")
		if more, ok := strings.CutSuffix(line, `\`); ok {
			open = more
			continue
		}
		open = ""
		if strings.HasPrefix(line, "hubgate ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestMetricsAreDocumented: what the source names, and what a hubgate tells that
// serves, has its row in the operator's page, and a sentence for help.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?:Name: +|NewDesc\()"(hubgate_[a-z_]*[a-z])"`)
	metrics := make(map[string]string) // where it was found
	err = filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if name := entry.Name(); err != nil || entry.IsDir() && len(name) > 2 && (strings.HasPrefix(name, ".") || name == "testdata") {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range named.FindAllSubmatch(text, -1) {
			metrics[string(m[1])] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	code, text := newSite(t).serve().get("/metrics")
	if code != 200 {
		t.Fatal(code, text)
	}
	for line := range strings.Lines(text) {
		if help, ok := strings.CutPrefix(strings.TrimSpace(line), "# HELP hubgate_"); ok {
			name, sentence, _ := strings.Cut(help, " ")
			metrics["hubgate_"+name] = "/metrics"
			if !strings.HasSuffix(sentence, ".") {
				t.Errorf("hubgate_%s: its help is no sentence: %q", name, sentence)
			}
		}
	}
	if len(metrics) < 30 {
		t.Errorf("only %d metrics were found", len(metrics))
	}
	for name, where := range metrics {
		if !regexp.MustCompile("`" + name + "[`{]").Match(page) {
			t.Errorf("%s, of %s, has no row in docs/operations.md", name, where)
		}
	}
}
