package mqtt

import (
	"encoding/binary"
	"unicode/utf8"
)

// reader takes a packet apart. After a failure it gives nothing more.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// bytes is a string or binary data: two bytes of length, then as many bytes.
func (r *reader) bytes() []byte {
	if b := r.take(2); b != nil {
		return r.take(int(binary.BigEndian.Uint16(b)))
	}
	return nil
}

// varint is a length of up to four bytes. One that is longer than it need be
// is malformed.
func (r *reader) varint() int {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b := r.byte()
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			r.failed = r.failed || b == 0 && shift > 0
			return n
		}
	}
	r.failed = true
	return 0
}

func appendVarint(b []byte, n int) []byte {
	for n > 0x7F {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// isText reports whether s may be a string of MQTT: UTF-8 without NUL.
func isText[T string | []byte](s T) bool {
	for _, c := range []byte(s) {
		if c == 0 {
			return false
		}
	}
	return utf8.ValidString(string(s))
}
