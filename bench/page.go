package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writePage brings the page's tables and charts up to its figures. It is what
// -page does.
func writePage(dir string) error {
	files, err := page(dir)
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil { //nolint:gosec // documentation
			return err
		}
	}
	return nil
}

// page makes, out of the figures in performance.json, the page performance.md
// with its tables replaced, and its charts. Names are those of files in dir.
func page(dir string) (map[string][]byte, error) {
	results, err := read(filepath.Join(dir, "performance.json"))
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "performance.md"))
	if err != nil {
		return nil, err
	}
	for name, table := range map[string]string{"targets": targetsTable(results), "figures": figuresTables(results)} {
		if text, err = replace(text, name, table); err != nil {
			return nil, err
		}
	}
	files := map[string][]byte{"performance.md": text}
	for _, c := range charts {
		if files[filepath.Join("images", c.file)], err = c.draw(results); err != nil {
			return nil, fmt.Errorf("%s: %w", c.file, err)
		}
	}
	return files, nil
}

// replace puts a table between the marks of that name.
func replace(text []byte, name, table string) ([]byte, error) {
	begin, end := fmt.Sprintf("<!-- %s: made by go run ./bench -page docs -->\n", name), fmt.Sprintf("<!-- end of %s -->\n", name)
	before, rest, ok := bytes.Cut(text, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !ok || !ended {
		return nil, fmt.Errorf("performance.md has no place for the table %s: %q and %q", name, begin, end)
	}
	return bytes.Join([][]byte{before, []byte(begin + table + end), after}, nil), nil
}

func targetsTable(results []result) string {
	var b strings.Builder
	b.WriteString("| case | compared | measured | quartiles | target | |\n|---|---|---|---|---|---|\n")
	for _, r := range results {
		for i, t := range r.Targets {
			what := ""
			if i == 0 {
				what = fmt.Sprintf("`%s`: %s", r.Case, r.What)
			}
			quartiles := ""
			if t.Low != t.High {
				quartiles = fmt.Sprintf("%s to %s", t.format(t.Low), t.format(t.High))
			}
			met := t.met()
			if met == "missed" {
				met = "**missed**"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", what, t.What, t.format(t.Measured), quartiles, t.wanted(), met)
		}
	}
	return b.String()
}

func figuresTables(results []result) string {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "| `%s` (load %.1f) | %s |\n|---|%s\n", r.Case, r.Load, strings.Join(r.Columns, " | "), strings.Repeat("---|", len(r.Columns)))
		for _, row := range r.Rows {
			fmt.Fprintf(&b, "| %s |", row.Side)
			for _, c := range r.Columns {
				cell := ""
				if v, ok := row.Figures[c]; ok {
					cell = number(v)
				}
				fmt.Fprintf(&b, " %s |", cell)
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}
