package fast

import (
	"slices"
	"testing"

	"github.com/hubgate/hubgate/envoy/module/mqtt"
)

// FuzzScan: C and Go see the same packets, in whatever pieces.
func FuzzScan(f *testing.F) {
	f.Add([]byte("\x30\x05\x00\x01tpq\xc0\x00\x10\x02ab"), 3, false)
	f.Add([]byte("\x30\x85\x00\x00\x01tpq\xc0\x00\x10\x02ab"), 1, true)
	f.Add([]byte("\x30\xff\xff\xff\xff\x01"), 2, true)
	f.Fuzz(func(t *testing.T, stream []byte, size int, connects bool) {
		var inC, inGo mqtt.Scanner
		for part := range slices.Chunk(stream, max(1, size&0xFF)) {
			plain := Scan(&inC, part, connects)
			n, err := inGo.Scan(part, func(first byte) bool { return !connects && mqtt.IsConnect(first) })
			if plain != (err == nil && n == len(part)) {
				t.Fatalf("%q of %q: C %t; Go %d bytes, %v", part, stream, plain, n, err)
			}
			if !plain {
				return
			}
			if inC != inGo {
				t.Fatalf("%q of %q: C %+v, Go %+v", part, stream, inC, inGo)
			}
		}
	})
}
