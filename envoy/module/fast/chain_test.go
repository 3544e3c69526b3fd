package fast

import (
	"encoding/base64"
	"strings"
	"testing"
)

// encoded is a chain as hubgate reads it.
func encoded(certificates [][]byte) string {
	size := 0
	var texts []string
	for _, der := range certificates {
		size += len(der)
		texts = append(texts, base64.StdEncoding.EncodeToString(der))
	}
	if len(certificates) > 10 || size > 32<<10 {
		return ";truncated"
	}
	return strings.Join(texts, ",")
}

func TestEncodeChainAtItsBounds(t *testing.T) {
	certificate := make([]byte, 1000)
	full := make([][]byte, 10)
	for i := range full {
		full[i] = certificate
	}
	big := [][]byte{make([]byte, 32<<10-1), {1}}
	for name, chain := range map[string][][]byte{
		"none": nil, "one": {certificate}, "ten": full, "eleven": append(full, certificate),
		"32 KiB": big, "a byte more": append(big, []byte{1}),
	} {
		if got, want := EncodeChain(chain), encoded(chain); got != want {
			t.Errorf("%s: %.50q (%d bytes), want %.50q (%d bytes)", name, got, len(got), want, len(want))
		}
	}
}

// FuzzEncodeChain: C writes what Go reads.
func FuzzEncodeChain(f *testing.F) {
	f.Add([]byte("abcdefgh"), 3)
	f.Add([]byte{}, 0)
	f.Add([]byte{0, 1, 2, 0xFF, 0xFE, 0xFD, 62, 63}, 1)
	f.Fuzz(func(t *testing.T, bytes []byte, size int) {
		size = max(1, size&0xFFF)
		var chain [][]byte
		for len(bytes) > size {
			chain, bytes = append(chain, bytes[:size]), bytes[size:]
		}
		chain = append(chain, bytes)
		if got, want := EncodeChain(chain), encoded(chain); got != want {
			t.Fatalf("%q: %q, want %q", chain, got, want)
		}
	})
}
