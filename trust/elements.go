package trust

import "encoding/binary"

// countElements counts the ASN.1 values in DER, nested ones and those in
// extensions included, up to most or a little more. It decodes nothing, so that it costs a few
// nanoseconds for each where crypto/x509 takes a hundred times as long and
// allocates.
//
// What is broken ends the count of the value that it is in, and of no other: a
// parser gets no further there either.
func countElements(der []byte, most int) int {
	n := 0
	for len(der) > 0 && n < most {
		n++
		content, rest, ok := element(der)
		if !ok {
			break
		}
		switch tag := der[0]; {
		case tag == tagOID: // its arcs are values too, if small ones
			n += len(content) / 8
		case tag&constructed != 0, tag == tagOctetString && len(content) > 0 && content[0] == tagSequence:
			n += countElements(content, most-n)
		}
		der = rest
	}
	return n
}

// Identifier octets (X.690, 8.1.2).
const (
	constructed    = 0x20
	tagOctetString = 0x04 // an extension's value is in one
	tagOID         = 0x06
	tagSequence    = 0x30
	tagHigh        = 0x1f // the number follows; crypto/x509 has no use for it
)

// element splits off the first value.
func element(der []byte) (content, rest []byte, ok bool) {
	if len(der) < 2 || der[0]&tagHigh == tagHigh {
		return nil, nil, false
	}
	size, der := int(der[1]), der[2:]
	if octets := size - 0x80; octets >= 0 {
		if octets == 0 || octets > 3 || octets > len(der) { // MaxChainBytes takes three
			return nil, nil, false
		}
		var long [4]byte
		copy(long[4-octets:], der)
		size, der = int(binary.BigEndian.Uint32(long[:])), der[octets:]
	}
	if size > len(der) {
		return nil, nil, false
	}
	return der[:size], der[size:], true
}
