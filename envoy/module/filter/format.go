package filter

import (
	"fmt"
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
	found := make(map[string]bool)
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
		found[field] = true
		f = append(f, field)
		rest = after
	}
	if !found[fieldDevice] && (!found[fieldHub] || !found[fieldName]) {
		return nil, fmt.Errorf("%q: needs {device_id}, or both {hub_id} and {device_name}, as devices could pass for each other", s)
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
