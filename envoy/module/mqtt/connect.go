package mqtt

import (
	"encoding/binary"
	"math"
)

// Flags of a CONNECT packet.
const (
	flagReserved byte = 0x01
	flagWill     byte = 0x04
	flagsWill    byte = 0x38 // QoS and retain, meaningful with flagWill only
	flagPassword byte = 0x40
	flagUserName byte = 0x80
)

// The properties that a CONNECT packet may have, by the length of their value;
// propertyBytes and propertyPair stand for data with a length of its own.
const (
	propertyBytes      = -1
	propertyPair       = -2
	propertyAuthMethod = 0x15
	propertyAuthData   = 0x16
	propertyMaxPacket  = 0x27
)

var connectProperties = map[byte]int{
	0x11:               4, // session expiry interval
	propertyAuthMethod: propertyBytes,
	propertyAuthData:   propertyBytes,
	0x17:               1, // request problem information
	0x19:               1, // request response information
	0x21:               2, // receive maximum
	0x22:               2, // topic alias maximum
	0x26:               propertyPair,
	propertyMaxPacket:  4,
}

// protocolName begins every CONNECT of 3.1.1 and 5.0, with its length.
const protocolName = "\x00\x04MQTT"

// Connect is a CONNECT packet. Its fields may be replaced before it is
// written again; what has no meaning here (will, properties) is kept as it
// came. Its slices are those of the packet that was read.
type Connect struct {
	Version  byte
	ClientID []byte
	UserName []byte // nil if there is none
	Password []byte // nil if there is none

	// Enhanced says that the client wants to be authenticated by a method of
	// MQTT 5's own.
	Enhanced bool
	// MaxPacket is the longest packet that an MQTT 5 client takes.
	MaxPacket uint32

	flags      byte // without those of user name and password
	keepAlive  []byte
	properties []byte // MQTT 5: without their length
	will       []byte // all that lies between client ID and user name
}

// Split finds the packet at the stream's begin, which has to be a CONNECT of
// up to limit bytes. The packet is nil as long as it is not complete. Errors
// are of type *Error, and come as soon as they show.
func Split(stream []byte, limit int) (packet, rest []byte, err error) {
	if len(stream) == 0 {
		return nil, nil, nil
	}
	if stream[0] != typeConnect {
		return nil, nil, &Error{Code: protocolError, Text: "the first packet is no CONNECT"}
	}
	r := reader{rest: stream[1:]}
	length := r.varint()
	if r.failed {
		if len(stream) < 5 && allContinue(stream[1:]) {
			return nil, nil, nil
		}
		return nil, nil, &Error{Code: malformedPacket, Text: "malformed packet length"}
	}
	header := len(stream) - len(r.rest)
	if header+length > limit {
		// The version decides how to say so. If it does not come, time will
		// end the wait.
		if len(r.rest) <= len(protocolName) && length > len(protocolName) {
			return nil, nil, nil
		}
		e := &Error{Code: packetTooLarge, Text: "CONNECT over the limit"}
		if length > len(protocolName) && string(r.rest[:len(protocolName)]) == protocolName {
			e.Version = r.rest[len(protocolName)]
		}
		return nil, nil, e
	}
	if len(r.rest) < length {
		return nil, nil, nil
	}
	return stream[: header+length : header+length], r.rest[length:], nil
}

// allContinue: a length of which there is more to come.
func allContinue(b []byte) bool {
	for _, c := range b {
		if c < 0x80 {
			return false
		}
	}
	return true
}

// Parse reads one whole CONNECT packet. Errors are of type *Error.
func Parse(packet []byte) (*Connect, error) {
	r := reader{rest: packet}
	if r.byte() != typeConnect || r.varint() != len(r.rest) || r.failed {
		return nil, &Error{Code: malformedPacket, Text: "no CONNECT packet"}
	}
	if name := r.take(len(protocolName)); string(name) != protocolName {
		return nil, &Error{Code: unsupportedVersion, Text: "another protocol than MQTT 3.1.1 or 5.0"}
	}
	c := &Connect{Version: r.byte(), MaxPacket: math.MaxUint32}
	if c.Version != V311 && c.Version != V5 {
		return nil, &Error{Version: V311, Code: unsupportedVersion, Text: "neither MQTT 3.1.1 nor 5.0"}
	}
	flags := r.byte()
	c.flags = flags &^ (flagUserName | flagPassword)
	c.keepAlive = r.take(2)
	if c.Version == V5 {
		c.properties = r.take(r.varint())
		if !r.failed && !c.readProperties() {
			return nil, c.refuse(malformedPacket, "malformed properties of CONNECT")
		}
	}
	if flags&flagReserved != 0 || flags&flagWill == 0 && flags&flagsWill != 0 || flags&0x18 == 0x18 ||
		c.Version == V311 && flags&flagUserName == 0 && flags&flagPassword != 0 {
		return nil, c.refuse(malformedPacket, "malformed flags of CONNECT")
	}
	c.ClientID = r.bytes()
	will := r.rest
	if flags&flagWill != 0 {
		if c.Version == V5 {
			r.take(r.varint())
		}
		r.bytes() // topic
		r.bytes() // payload
	}
	if !r.failed {
		n := len(will) - len(r.rest)
		c.will = will[:n:n]
	}
	if flags&flagUserName != 0 {
		c.UserName = r.bytes()
	}
	if flags&flagPassword != 0 {
		c.Password = r.bytes()
	}
	if r.failed || len(r.rest) > 0 || !isText(c.UserName) {
		return nil, c.refuse(malformedPacket, "malformed CONNECT")
	}
	if !isText(c.ClientID) {
		return nil, c.refuse(clientIDNotValid, "the client ID is no UTF-8")
	}
	return c, nil
}

// readProperties reads what matters of them.
func (c *Connect) readProperties() bool {
	r := reader{rest: c.properties}
	for !r.failed && len(r.rest) > 0 {
		id := r.byte()
		length, known := connectProperties[id]
		if !known {
			return false
		}
		switch length {
		case propertyBytes:
			r.bytes()
		case propertyPair:
			r.bytes()
			r.bytes()
		default:
			value := r.take(length)
			if id == propertyMaxPacket && value != nil {
				c.MaxPacket = binary.BigEndian.Uint32(value)
			}
		}
		c.Enhanced = c.Enhanced || id == propertyAuthMethod || id == propertyAuthData
	}
	return !r.failed
}

// refuse is an error in this client's words.
func (c *Connect) refuse(code byte, text string) error {
	return &Error{Version: c.Version, Code: code, Text: text}
}

// Append appends the packet to b. A CONNECT that was not changed is written as
// it was read.
func (c *Connect) Append(b []byte) ([]byte, error) {
	if len(c.ClientID) > maxString || !isText(c.ClientID) {
		return b, c.refuse(clientIDNotValid, "the client ID is too long")
	}
	if len(c.UserName) > maxString || len(c.Password) > maxString {
		return b, c.refuse(packetTooLarge, "the user name is too long")
	}
	flags := c.flags
	length := len(protocolName) + 1 + 1 + len(c.keepAlive) + 2 + len(c.ClientID) + len(c.will)
	if c.Version == V5 {
		length += len(appendVarint(nil, len(c.properties))) + len(c.properties)
	}
	if c.UserName != nil {
		flags |= flagUserName
		length += 2 + len(c.UserName)
	}
	if c.Password != nil {
		flags |= flagPassword
		length += 2 + len(c.Password)
	}
	if length > maxRemaining {
		return b, c.refuse(packetTooLarge, "the packet is too long")
	}
	b = appendVarint(append(b, typeConnect), length)
	b = append(b, protocolName...)
	b = append(b, c.Version, flags)
	b = append(b, c.keepAlive...)
	if c.Version == V5 {
		b = appendVarint(b, len(c.properties))
		b = append(b, c.properties...)
	}
	b = appendBytes(b, c.ClientID)
	b = append(b, c.will...)
	if c.UserName != nil {
		b = appendBytes(b, c.UserName)
	}
	if c.Password != nil {
		b = appendBytes(b, c.Password)
	}
	return b, nil
}
