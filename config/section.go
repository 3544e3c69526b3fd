package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// document parses the text into its one top mapping; nil if it is empty.
func (l *loader) document(data []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, another yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = decoder.Decode(&another)
		if err == nil {
			l.add(another.Line, "", "a second YAML document begins here: use one document (remove the line ---)")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		line, text := 1, strings.TrimPrefix(err.Error(), "yaml: ")
		var syntax *yaml.LoadError
		if errors.As(err, &syntax) {
			line, text = max(1, syntax.Mark.Line), syntax.Message
		}
		l.add(line, "", "no valid YAML: %s", text)
		return nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	return root
}

func (l *loader) add(line int, key, format string, args ...any) {
	l.problems = append(l.problems, Problem{File: l.file, Line: line, Key: key, Text: fmt.Sprintf(format, args...)})
}

// section is one mapping of the file. A nil section is one that is not there:
// reading from it gives the defaults.
type section struct {
	loader *loader
	path   string // "" at the top
	line   int
	values map[string]*yaml.Node
}

// item is an entry of a list of strings, or a value, with its place.
type item struct {
	value string
	line  int
	key   string // with its path
}

// section takes a mapping apart. Keys other than those known are problems.
func (l *loader) section(node *yaml.Node, path string, known ...string) *section {
	if node == nil {
		return nil
	}
	if !l.isKind(node, path, yaml.MappingNode, "a mapping (key: value lines)") {
		return nil
	}
	s := &section{loader: l, path: path, line: node.Line, values: make(map[string]*yaml.Node)}
	first := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := key.Value
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			l.add(key.Line, path, "this key is none: write plain key: value lines, without merges")
			continue
		case first[name] != 0:
			l.add(key.Line, s.key(name), "given twice (first in line %d): keep one", first[name])
			continue
		}
		first[name] = key.Line
		if !slices.Contains(known, name) {
			l.add(key.Line, s.key(name), "unknown key%s", meant(name, known))
			continue
		}
		if value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
			l.add(key.Line, s.key(name), "has no value: give it one, or remove the key")
			continue
		}
		s.values[name] = value
	}
	return s
}

func (s *section) key(name string) string {
	if s == nil {
		return name
	}
	if s.path == "" {
		return name
	}
	return s.path + "." + name
}

// has tells whether the key was given (with a value).
func (s *section) has(key string) bool {
	return s != nil && s.values[key] != nil
}

// problem reports what is wrong with a key's value, or at the section's start
// if the key is missing.
func (s *section) problem(key, format string, args ...any) {
	line := s.line
	if node := s.values[key]; node != nil {
		line = node.Line
	}
	s.loader.add(line, s.key(key), format, args...)
}

func (s *section) sub(key string, known ...string) *section {
	if !s.has(key) {
		return nil
	}
	return s.loader.section(s.values[key], s.key(key), known...)
}

// str returns a string, "" if it was not given or is unfit.
func (s *section) str(key string) string {
	if !s.has(key) {
		return ""
	}
	value, _ := s.loader.str(s.values[key], s.key(key))
	return value
}

func (s *section) boolean(key string, otherwise bool) bool {
	if !s.has(key) {
		return otherwise
	}
	node := s.values[key]
	if node.Kind == yaml.ScalarNode && node.Tag == "!!bool" {
		return strings.EqualFold(node.Value, "true")
	}
	s.problem(key, "%s is neither true nor false", shown(node))
	return otherwise
}

// integer returns a whole number, 0 if it was not given or is unfit.
func (s *section) integer(key string, least, most int) int {
	if !s.has(key) {
		return 0
	}
	node := s.values[key]
	n, err := strconv.Atoi(node.Value)
	if node.Kind != yaml.ScalarNode || node.Tag != "!!int" || err != nil || n < least || n > most {
		s.problem(key, "%s is no whole number from %d to %d", shown(node), least, most)
		return 0
	}
	return n
}

// duration reads a time such as 30s, 5m or 1h30m; 0 if it was not given or is
// unfit.
func (s *section) duration(key string, least, most time.Duration) time.Duration {
	if !s.has(key) {
		return 0
	}
	node := s.values[key]
	d, err := time.ParseDuration(node.Value)
	if node.Kind != yaml.ScalarNode || err != nil || d < least || d > most {
		s.problem(key, "%s is no time from %s to %s, such as 30s, 5m or 24h", shown(node), least, most)
		return 0
	}
	return d
}

func (s *section) choice(key, otherwise string, choices ...string) string {
	if !s.has(key) {
		return otherwise
	}
	value, ok := s.loader.str(s.values[key], s.key(key))
	if ok && !slices.Contains(choices, value) {
		s.problem(key, "%q is none of %s", value, strings.Join(choices, ", "))
		return otherwise
	}
	return value
}

func (s *section) list(key string) []*yaml.Node {
	if !s.has(key) {
		return nil
	}
	node := s.values[key]
	if !s.loader.isKind(node, s.key(key), yaml.SequenceNode, "a list ([a, b], or lines that begin with -)") {
		return nil
	}
	return node.Content
}

// items returns a list of strings, and whether it is fit. Entries that are not
// are left out.
func (s *section) items(key string) (items []item, fit bool) {
	if !s.has(key) {
		return nil, true
	}
	before := len(s.loader.problems)
	for i, node := range s.list(key) {
		at := fmt.Sprintf("%s[%d]", s.key(key), i)
		if value, ok := s.loader.str(node, at); ok {
			items = append(items, item{value, node.Line, at})
		}
	}
	return items, len(s.loader.problems) == before
}

func (l *loader) str(node *yaml.Node, key string) (string, bool) {
	switch {
	case !l.isKind(node, key, yaml.ScalarNode, "a text"):
	case node.Tag != "!!str":
		l.add(node.Line, key, "%s is no text: put it in quotes if it is meant", shown(node))
	case node.Value == "":
		l.add(node.Line, key, "is empty: give it a value, or remove the key")
	default:
		return node.Value, true
	}
	return "", false
}

// isKind reports a node of another kind than wanted, and aliases: a
// configuration that is read by people needs none.
func (l *loader) isKind(node *yaml.Node, key string, kind yaml.Kind, wanted string) bool {
	switch node.Kind {
	case kind:
		return true
	case yaml.AliasNode:
		l.add(node.Line, key, "YAML aliases (*%s) are not supported: write the value out", node.Value)
	default:
		l.add(node.Line, key, "%s where %s belongs", shown(node), wanted)
	}
	return false
}

// shown names a node in a message.
func shown(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "*" + node.Value
	}
	const most = 60
	value := node.Value
	if len(value) > most {
		value = strings.ToValidUTF8(value[:most], "") + "…"
	}
	return strconv.Quote(value)
}

// meant suggests the known key that a mistyped one may stand for, else lists
// what there is.
func meant(name string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	if best != "" && least < len(name) {
		return fmt.Sprintf(": did you mean %s?", best)
	}
	return ": known here are " + strings.Join(known, ", ")
}

// distance is the Levenshtein distance of two short strings.
func distance(a, b string) int {
	if len(a) > 40 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
