package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
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
