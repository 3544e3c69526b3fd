package provision

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckDeviceSettings(t *testing.T) {
	t.Parallel()
	publish := func(topics ...string) Device {
		return Device{Filters: &Filters{Publish: Filter{Topics: topics}}}
	}
	for name, tt := range map[string]struct {
		device Device
		want   string
	}{
		"nothing":              {Device{}, ""},
		"longest texts":        {Device{Description: strings.Repeat("é", 1000), DisabledReason: strings.Repeat("x", 200)}, ""},
		"topics":               {publish("a", "a/b", "/", "+", "#", "a/+/b/#", "$SCW/x", "a b"), ""},
		"no topics":            {publish(), ""},
		"description":          {Device{Description: strings.Repeat("x", 1001)}, "description: has 1001 characters, more than 1000"},
		"description, escapes": {Device{Description: "\x1b[2J"}, "description: has control characters, which terminals may obey"},
		"description, bytes":   {Device{Description: "\xff"}, "description: is not valid UTF-8"},
		"reason":               {Device{DisabledReason: strings.Repeat("x", 201)}, "disabled_reason: has 201 characters, more than 200"},
		"too many topics":      {publish(strings.Split(strings.Repeat("a,", 100), ",")...), "message_filters.publish: has 101 topics, more than 100"},
		"empty topic":          {publish(""), `message_filters.publish: topic "" is empty`},
		"long topic":           {publish(strings.Repeat("x", 257)), `message_filters.publish: topic "` + strings.Repeat("x", 257) + `" has 257 bytes, more than 256`},
		"hash within":          {publish("a/#/b"), `message_filters.publish: topic "a/#/b" has # elsewhere than as its last level`},
		"hash in a level":      {publish("a#"), `message_filters.publish: topic "a#" has # elsewhere than as its last level`},
		"plus in a level":      {publish("a+/b"), `message_filters.publish: topic "a+/b" has + as a part of a level`},
		"control character":    {publish("a\x00"), `message_filters.publish: topic "a\x00" has characters that no topic may have`},
		"subscribe is looked at": {Device{Filters: &Filters{Subscribe: Filter{Reject: true, Topics: []string{"+a"}}}},
			`message_filters.subscribe: topic "+a" has + as a part of a level`},
	} {
		err := CheckDeviceSettings(tt.device)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var wrong *SettingError
		if !errors.As(err, &wrong) || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}
