package mqtt

// Scanner follows one direction of a connection from packet to packet without
// reading what is in them. The zero value waits for a packet's first byte.
type Scanner struct {
	body  uint32 // bytes of the packet still to come, or of its length so far
	shift uint8  // bits of the length so far
	part  part
	// Greeted is set once a CONNACK has begun.
	Greeted bool
}

// part is what comes next.
type part uint8

const (
	atFirst part = iota
	inLength
	inBody
)

func (s *Scanner) pass(n uint32) {
	if s.body -= n; s.body == 0 {
		s.part = atFirst
	}
}

// Between reports whether the next byte begins a packet.
func (s *Scanner) Between() bool { return s.part == atFirst }

// Scan reads on. It asks about the first byte of each packet whether to stop
// there, and returns how many bytes it has read: that byte is not one of them
// if it stopped. An error, of type *Error, is a length that makes no sense;
// there is nothing to be read from this connection any more.
func (s *Scanner) Scan(b []byte, stop func(first byte) bool) (int, error) {
	for i := 0; i < len(b); {
		switch s.part {
		case atFirst:
			if stop(b[i]) {
				return i, nil
			}
			s.body, s.shift, s.part = 0, 0, inLength
			s.Greeted = s.Greeted || b[i]&typeMask == typeConnack
			i++
		case inLength:
			if s.shift == 28 {
				return i, &Error{Code: malformedPacket, Text: "malformed packet length"}
			}
			s.body |= uint32(b[i]&0x7F) << s.shift
			s.shift += 7
			if b[i] < 0x80 {
				s.part = inBody
				s.pass(0)
			}
			i++
		case inBody:
			n := min(uint32(len(b)-i), s.body)
			s.pass(n)
			i += int(n)
		}
	}
	return len(b), nil
}

// IsConnect reports whether a packet's first byte is that of a CONNECT.
func IsConnect(first byte) bool { return first&typeMask == typeConnect }
