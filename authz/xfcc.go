package authz

import (
	"fmt"
	"strings"
)

// An element of an x-forwarded-client-cert header is what one proxy says of
// its client: pairs of key and value, in the order of the header.
type element []pair

type pair struct{ key, value string }

// parseXFCC reads an x-forwarded-client-cert header: elements separated by
// commas, key=value pairs separated by semicolons. A value that contains any
// of , ; = is in double quotes, in which \" stands for a quote and \\ for a
// backslash; any other backslash stands for itself. Values are returned as
// they are written otherwise: which of them are URL-encoded depends on the key.
func parseXFCC(header string) ([]element, error) {
	var (
		elements []element
		current  element
	)
	for rest := header; ; {
		key, after, ok := strings.Cut(rest, "=")
		key = strings.Trim(key, " \t")
		if !ok || key == "" || strings.ContainsAny(key, `,;"`) {
			return nil, fmt.Errorf("no key=value at byte %d", len(header)-len(rest))
		}
		value, after, err := xfccValue(after)
		if err != nil {
			return nil, fmt.Errorf("%w in the value at byte %d", err, len(header)-len(rest))
		}
		current = append(current, pair{key, value})
		if after == "" {
			return append(elements, current), nil
		}
		if after[0] == ',' {
			elements, current = append(elements, current), nil
		}
		rest = after[1:]
	}
}

// xfccValue cuts the value off s. What remains is empty or begins with a
// separator.
func xfccValue(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ",;")
		if end < 0 {
			end = len(s)
		}
		if strings.Contains(s[:end], `"`) {
			return "", "", fmt.Errorf("a stray quote")
		}
		return s[:end], s[end:], nil
	}
	s = s[1:]
	end := closingQuote(s)
	if end < 0 {
		return "", "", fmt.Errorf("unbalanced quotes")
	}
	value, rest = s[:end], s[end+1:]
	if rest != "" && rest[0] != ',' && rest[0] != ';' {
		return "", "", fmt.Errorf("text after the closing quote")
	}
	if strings.Contains(value, `\`) {
		value = unescape.Replace(value)
	}
	return value, rest, nil
}

var unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`)

// closingQuote is the index of the first quote that no backslash escapes, -1
// if there is none.
func closingQuote(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// get returns the value of a key, whose case does not matter, "" if the
// element does not have it. Keys that say something of the certificate occur
// once: a second one is an attempt to contradict the first.
func (e element) get(key string) (string, error) {
	value, found := "", false
	for _, p := range e {
		if !strings.EqualFold(p.key, key) {
			continue
		}
		if found {
			return "", fmt.Errorf("%s is there twice", key)
		}
		value, found = p.value, true
	}
	return value, nil
}
