package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// output is the flag -o.
type output string

const (
	outputTable output = "table"
	outputJSON  output = "json"
	outputYAML  output = "yaml"
)

func (o *output) flag(c *cobra.Command) {
	*o = outputTable
	c.Flags().VarP(o, "output", "o", "table, or json or yaml for scripts")
	_ = c.RegisterFlagCompletionFunc("output", // fails only for a flag that is not there
		cobra.FixedCompletions([]string{string(outputTable), string(outputJSON), string(outputYAML)}, cobra.ShellCompDirectiveNoFileComp))
}

// String implements pflag.Value.
func (o *output) String() string { return string(*o) }

// Set implements pflag.Value.
func (o *output) Set(s string) error {
	switch output(s) {
	case outputTable, outputJSON, outputYAML:
		*o = output(s)
		return nil
	}
	return fmt.Errorf("%q is none of table, json, yaml", s)
}

// Type implements pflag.Value.
func (o *output) Type() string { return "table|json|yaml" }

// print shows a value to programs as the flag says, or to people by the
// function.
func (o output) print(w io.Writer, value any, people func() error) error {
	switch o {
	case outputJSON:
		return printJSON(w, value)
	case outputYAML:
		return printYAML(w, value)
	}
	return people()
}

// say prints a text.
func say(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, args...)
	return err
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// printYAML prints what printJSON would: the same keys, in the same order.
func printYAML(w io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil { // JSON is YAML
		return err
	}
	blocks(&document)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	return errors.Join(e.Encode(&document), e.Close())
}

// blocks takes braces and needless quotes away.
func blocks(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		blocks(child)
	}
}

// table aligns columns.
type table struct{ rows [][]string }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) error {
	var text strings.Builder
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		_ = say(tw, "%s\n", strings.Join(row, "\t")) // a Builder takes everything
	}
	_ = tw.Flush()
	for line := range strings.Lines(text.String()) {
		// An empty last cell leaves the padding of the one before.
		if err := say(w, "%s\n", strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// clock shows a moment to people, to the second.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
