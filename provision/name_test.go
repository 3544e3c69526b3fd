package provision_test

import (
	"strings"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

func TestDeviceNames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value    string
		ascii, unicode bool
	}{
		{"serial", "SN-0001", true, true},
		{"one character", "x", true, true},
		{"64 characters", strings.Repeat("x", 64), true, true},
		{"inner space", "SN 0001", true, true},
		{"a UUID", "0b7d5c1e-4a53-4a0e-9d5c-2f6a1b3c4d5e", true, true},
		{"every other punctuation", `!"%&'()*,-.:;<=>?@[\]^_{|}~` + "`", true, true},
		{"empty", "", false, false},
		{"65 characters", strings.Repeat("x", 65), false, false},
		{"leading space", " SN", false, false},
		{"trailing space", "SN ", false, false},
		{"slash", "a/b", false, false},
		{"plus", "a+b", false, false},
		{"hash", "a#b", false, false},
		{"dollar", "$SYS", false, false},
		{"NUL", "a\x00b", false, false},
		{"newline", "a\nb", false, false},
		{"delete", "a\x7fb", false, false},
		{"invalid UTF-8", "a\xffb", false, false},
		{"letters of another script", "Gerät-7", false, true},
		{"64 of them", strings.Repeat("ü", 64), false, true},
		{"65 of them", strings.Repeat("ü", 65), false, false},
		{"not in form C", "Gera\u0308t", false, false},
		{"zero width joiner", "a\u200db", false, false},
		{"right-to-left override", "a\u202eb", false, false},
		{"line separator", "a\u2028b", false, false},
		{"paragraph separator", "a\u2029b", false, false},
		{"C1 control", "a\u0085b", false, false},
		{"private use", "a\ue000b", false, false},
		{"unassigned", "a\U000e0fffb", false, false},
		{"leading ideographic space", "\u3000a", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := provision.CheckDeviceName(tt.value, false); (err == nil) != tt.ascii {
				t.Errorf("ASCII only: CheckDeviceName(%q) = %v, want ok %t", tt.value, err, tt.ascii)
			}
			if err := provision.CheckDeviceName(tt.value, true); (err == nil) != tt.unicode {
				t.Errorf("Unicode: CheckDeviceName(%q) = %v, want ok %t", tt.value, err, tt.unicode)
			}
		})
	}
}
