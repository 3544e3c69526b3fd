package filter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hubgate/hubgate/envoy/module/mqtt"
)

// identity is whom hubgate let in.
type identity struct {
	hub, device, name string
}

// keep is the format that leaves what the client said.
const keep = "keep"

// format is a text with placeholders; nil keeps what the client said.
type format []string // texts and placeholders in turn, beginning with a text

const (
	fieldHub    = "hub_id"
	fieldDevice = "device_id"
	fieldName   = "device_name"
	fieldClient = "client_id" // what the client said
)

// parseFormat reads a format, which has to tell devices apart.
func parseFormat(s string, fields ...string) (format, error) {
	if s == keep {
		return nil, nil
	}
	var f format
	for rest := s; ; {
		text, after, ok := strings.Cut(rest, "{")
		if strings.Contains(text, "}") {
			return nil, fmt.Errorf("%q: a brace that was not opened", s)
		}
		f = append(f, text)
		if !ok {
			break
		}
		field, after, ok := strings.Cut(after, "}")
		if !ok {
			return nil, fmt.Errorf("%q: a brace that is not closed", s)
		}
		known := false
		for _, name := range fields {
			known = known || name == field
		}
		if !known {
			return nil, fmt.Errorf("%q: {%s} is none of {%s}", s, field, strings.Join(fields, "}, {"))
		}
		f = append(f, field)
		rest = after
	}
	if !slices.Contains(f, fieldDevice) && (!slices.Contains(f, fieldHub) || !slices.Contains(f, fieldName)) {
		return nil, fmt.Errorf("%q: needs {device_id}, or both {hub_id} and {device_name}, as devices could pass for each other", s)
	}
	if found := f.certain(); !found[fieldDevice] && (!found[fieldHub] || !found[fieldName]) {
		return nil, fmt.Errorf("%q: a device could pass for another, as where a field ends is not certain: put / between {device_name} and what can be of any length", s)
	}
	for i := 0; i < len(f); i += 2 {
		for _, c := range []byte(f[i]) {
			if c <= ' ' || c > '~' || c == '+' || c == '#' {
				return nil, fmt.Errorf("%q: only printable ASCII without ' ', '+' and '#' is safe with every broker", s)
			}
		}
	}
	return f, nil
}

// certain tells which fields can be read back from whatever the format becomes,
// so that no two devices ever become the same. IDs have one length; a name ends
// where there is a character that names do not have; what a client says of itself
// can be anything; and the length of one field is known if all others are.
func (f format) certain() map[string]bool {
	const neverInNames = "/$"
	found := make(map[string]bool)
	first, last := 1, len(f)-2
	for ; first < len(f); first += 2 {
		if f[first] == fieldClient || f[first] == fieldName && !startsWithAny(f[first+1], neverInNames) {
			break
		}
		found[f[first]] = true
	}
	for ; last > first; last -= 2 {
		if before := f[last-1]; f[last] == fieldClient || f[last] == fieldName && (before == "" || !startsWithAny(before[len(before)-1:], neverInNames)) {
			break
		}
		found[f[last]] = true
	}
	if first == last {
		found[f[first]] = true
	}
	return found
}

func startsWithAny(s, chars string) bool { return s != "" && strings.Contains(chars, s[:1]) }

func (f format) expand(who identity, clientID string) string {
	var b strings.Builder
	for i, part := range f {
		switch {
		case i%2 == 0:
			b.WriteString(part)
		case part == fieldHub:
			b.WriteString(who.hub)
		case part == fieldDevice:
			b.WriteString(who.device)
		case part == fieldName:
			b.WriteString(who.name)
		case part == fieldClient:
			b.WriteString(clientID)
		}
	}
	return b.String()
}

// rewrite writes into a CONNECT who the device is.
func (s *Settings) rewrite(c *mqtt.Connect, who identity) error {
	if s.userName != nil {
		if c.Enhanced {
			// It would let the device be somebody else for the broker.
			return &mqtt.Error{Version: c.Version, Code: 0x8C, Text: "authentication methods are not for devices"}
		}
		c.UserName, c.Password = []byte(s.userName.expand(who, "")), nil
	}
	// The broker makes up an ID for a client without one, and tells it so.
	if s.clientID != nil && len(c.ClientID) > 0 {
		c.ClientID = []byte(s.clientID.expand(who, string(c.ClientID)))
	}
	return nil
}
