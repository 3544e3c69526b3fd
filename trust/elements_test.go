package trust

import (
	"bytes"
	"testing"
)

func TestCountElements(t *testing.T) {
	many := bytes.Repeat([]byte{5, 0}, 100)
	for _, r := range []struct {
		name string
		der  []byte
		want int
	}{
		{"nothing", nil, 0},
		{"one", []byte{5, 0}, 1},
		{"a sequence of two", []byte{0x30, 4, 5, 0, 5, 0}, 3},
		{"a sequence in a sequence, and one after", []byte{0x30, 4, 0x30, 2, 5, 0, 5, 0}, 4},
		{"a context-specific one", []byte{0xa3, 2, 5, 0}, 2},
		{"a sequence in an octet string", []byte{4, 4, 0x30, 2, 5, 0}, 3},
		{"an octet string of nulls", []byte{4, 4, 5, 0, 5, 0}, 1},
		{"an integer that looks like a sequence", []byte{2, 4, 0x30, 2, 5, 0}, 1},
		{"long length", append([]byte{0x30, 0x81, 200}, many...), 101},
		{"longer length", append([]byte{0x30, 0x82, 0, 200}, many...), 101},
		{"longest length", append([]byte{0x30, 0x83, 0, 0, 200}, many...), 101},
		{"too long a length", append([]byte{0x30, 0x84, 0, 0, 0, 200}, many...), 1},
		{"indefinite length", append([]byte{0x30, 0x80}, many...), 1},
		{"length cut short", []byte{0x30, 0x82, 1}, 1},
		{"content cut short", []byte{0x30, 5, 5, 0}, 1},
		{"identifier alone", []byte{0x30}, 1},
		{"high tag number", []byte{0x1f, 1, 0, 5, 0}, 1},
		{"broken inside, whole outside", []byte{0x30, 4, 0x30, 9, 5, 0, 5, 0, 5, 0}, 4},
		{"a long object identifier", append([]byte{6, 80}, make([]byte, 80)...), 11},
		{"an object identifier", []byte{6, 3, 0x55, 4, 3}, 1},
	} {
		t.Run(r.name, func(t *testing.T) {
			if got := countElements(r.der, 1000); got != r.want {
				t.Errorf("%d, want %d", got, r.want)
			}
			if got := countElements(r.der, 2); got > 2+10 {
				t.Errorf("%d, though 2 are enough", got)
			}
		})
	}
	t.Run("deep", func(t *testing.T) {
		var der []byte
		for range 5000 { // inside out would be quadratic to build; lengths are cut off
			der = append(der, 0x30, 0x83, 0, 0x40, 0)
		}
		if got := countElements(append(der, make([]byte, 1<<16)...), MaxElements); got != MaxElements {
			t.Errorf("%d, want %d", got, MaxElements)
		}
	})
	t.Run("usual certificates", func(t *testing.T) {
		f := newFactory("Acme")
		if got := countElements(f.device.Certificate.Raw, MaxElements); got < 30 || got > 100 {
			t.Errorf("%d in a device's certificate", got)
		}
	})
}
