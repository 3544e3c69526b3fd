package provision

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what people set of a device. A record has to stay small: it is in
// every replica's cache.
const (
	MaxDescriptionRunes = 1000
	MaxReasonRunes      = 200
	// MaxFilterTopics bounds each list of topics, MaxTopicBytes each topic.
	MaxFilterTopics = 100
	MaxTopicBytes   = 256
)

// SettingError is what is wrong with a setting of a device.
type SettingError struct {
	Field string // as in the API
	Text  string
}

// Error says which field is wrong, and what is.
func (e *SettingError) Error() string { return e.Field + ": " + e.Text }

// CheckDeviceSettings reports what makes settings that people chose unusable: a
// *SettingError. The name is not looked at: see CheckDeviceName.
func CheckDeviceSettings(d Device) error {
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"description", d.Description, MaxDescriptionRunes},
		{"disabled_reason", d.DisabledReason, MaxReasonRunes},
	} {
		switch n := utf8.RuneCountInString(text.value); {
		case !utf8.ValidString(text.value):
			return &SettingError{text.field, "is not valid UTF-8"}
		case strings.ContainsFunc(text.value, unicode.IsControl):
			return &SettingError{text.field, "has control characters, which terminals may obey"}
		case n > text.limit:
			return &SettingError{text.field, fmt.Sprintf("has %d characters, more than %d", n, text.limit)}
		}
	}
	if f := d.Filters; f != nil {
		if err := checkFilter("message_filters.publish", f.Publish); err != nil {
			return err
		}
		return checkFilter("message_filters.subscribe", f.Subscribe)
	}
	return nil
}

func checkFilter(field string, f Filter) error {
	if n := len(f.Topics); n > MaxFilterTopics {
		return &SettingError{field, fmt.Sprintf("has %d topics, more than %d", n, MaxFilterTopics)}
	}
	for _, topic := range f.Topics {
		if text := wrongTopicFilter(topic); text != "" {
			return &SettingError{field, fmt.Sprintf("topic %q %s", topic, text)}
		}
	}
	return nil
}

// wrongTopicFilter says what makes a topic filter unusable in a list, "" if it
// is fit.
func wrongTopicFilter(topic string) string {
	if len(topic) > MaxTopicBytes {
		return fmt.Sprintf("has %d bytes, more than %d", len(topic), MaxTopicBytes)
	}
	return malformedTopicFilter(topic)
}

// malformedTopicFilter says what makes a text no topic filter, "" if it is one
// (MQTT 5.0, 4.7.1): `+` is a whole level, `#` the whole last level.
func malformedTopicFilter(topic string) string {
	switch {
	case topic == "":
		return "is empty"
	case !utf8.ValidString(topic) || strings.ContainsFunc(topic, unicode.IsControl):
		return "has characters that no topic may have"
	}
	levels := strings.Split(topic, "/")
	for i, level := range levels {
		switch {
		case strings.Contains(level, "#") && (level != "#" || i < len(levels)-1):
			return "has # elsewhere than as its last level"
		case strings.Contains(level, "+") && level != "+":
			return "has + as a part of a level"
		}
	}
	return ""
}

// Equal reports whether the filters allow the same by the same words.
func (f *Filters) Equal(o *Filters) bool {
	if f == nil || o == nil {
		return f == o
	}
	return f.Publish.equal(o.Publish) && f.Subscribe.equal(o.Subscribe)
}

func (f Filter) equal(o Filter) bool {
	return f.Reject == o.Reject && slices.Equal(f.Topics, o.Topics)
}
