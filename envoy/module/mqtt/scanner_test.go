package mqtt

import (
	"bytes"
	"slices"
	"testing"
)

const (
	publish  = "\x30\x05\x00\x01tpq"
	pingreq  = "\xc0\x00"
	subscrib = "\x82\x06\x00\x01\x00\x01t\x00"
)

var long = "\x30\xac\x02" + string(bytes.Repeat([]byte{0x10}, 300)) // a body full of what looks like CONNECT

func TestScanner(t *testing.T) {
	stream := []byte(publish + pingreq + long + subscrib + bare311 + "more")
	before := len(stream) - len(bare311) - 4
	for size := 1; size <= len(stream); size++ {
		var s Scanner
		var firsts []byte
		read := 0
		for part := range slices.Chunk(stream, size) {
			n, err := s.Scan(part, func(first byte) bool {
				firsts = append(firsts, first)
				return IsConnect(first)
			})
			read += n
			if err != nil {
				t.Fatal(err)
			}
			if n < len(part) {
				break
			}
		}
		if read != before || string(firsts) != "\x30\xc0\x30\x82\x10" || !s.Between() {
			t.Errorf("in pieces of %d: read %d, want %d; packets %x", size, read, before, firsts)
		}
	}
}

func TestScannerRefusesLengths(t *testing.T) {
	var s Scanner
	if _, err := s.Scan([]byte("\x30\xff\xff\xff\xff\x01"), func(byte) bool { return false }); err == nil {
		t.Error("a length of five bytes was taken")
	}
}

// FuzzScanner: pieces make no difference, and nothing is read twice.
func FuzzScanner(f *testing.F) {
	f.Add([]byte(publish+pingreq+long+subscrib+bare311), 3)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		scan := func(size int) (firsts []byte, read int, failed bool) {
			var s Scanner
			for part := range slices.Chunk(stream, size) {
				n, err := s.Scan(part, func(first byte) bool {
					firsts = append(firsts, first)
					return IsConnect(first)
				})
				read += n
				if err != nil || n < len(part) {
					return firsts, read, err != nil
				}
			}
			return firsts, read, false
		}
		firsts, read, failed := scan(len(stream) + 1)
		f2, r2, failed2 := scan(max(1, size&0xFF))
		if !bytes.Equal(firsts, f2) || read != r2 || failed != failed2 {
			t.Errorf("%q: %x, %d, %t; in pieces %x, %d, %t", stream, firsts, read, failed, f2, r2, failed2)
		}
	})
}
