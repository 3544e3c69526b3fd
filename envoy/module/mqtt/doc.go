// Package mqtt knows as much of MQTT 3.1.1 and 5.0 as it takes to tell a
// broker who is connected: it reads a CONNECT packet and writes it again with
// another client ID, user name and password, it finds where packets begin in a
// stream, and it makes the packets that end a connection.
//
// It is loaded into Envoy and reads what devices send, so it never panics,
// keeps nothing of what it need not, and takes a packet for malformed rather
// than guess: what it and a broker understood differently could let a device
// in under a name that is not its own. It imports the standard library only.
package mqtt

import "fmt"

// Versions of the protocol, by the number in the CONNECT packet.
const (
	V311 byte = 4
	V5   byte = 5
)

// The types of packets that matter here, in a packet's first byte.
const (
	typeConnect    byte = 0x10
	typeConnack    byte = 0x20
	typeDisconnect byte = 0xE0
	typeMask       byte = 0xF0
)

// Reason codes of MQTT 5.
const (
	malformedPacket      byte = 0x81
	protocolError        byte = 0x82
	unsupportedVersion   byte = 0x84
	clientIDNotValid     byte = 0x85
	notAuthorized        byte = 0x87
	serverUnavailable    byte = 0x88
	badAuthentication    byte = 0x8C
	packetTooLarge       byte = 0x95
	maxRemaining              = 268_435_455 // what four bytes of length can say
	maxString                 = 1<<16 - 1
	propertyReasonString byte = 0x1F
)

// Error is why a client has to go, in the words of its own protocol.
type Error struct {
	Version byte // of the client's protocol; 0 if it did not say
	Code    byte // reason code of MQTT 5
	Text    string
}

func (e *Error) Error() string { return fmt.Sprintf("mqtt: %s (0x%02x)", e.Text, e.Code) }

// Connack is the packet that refuses the client's CONNECT, nil where its
// protocol has none for this and the connection is just closed.
func (e *Error) Connack() []byte { return Connack(e.Version, e.Code) }

// Connack refuses a CONNECT of this version for a reason of MQTT 5. A reason
// that a CONNACK cannot give is "server unavailable" there. MQTT 3.1.1 knows
// few reasons; the result is nil for the others.
func Connack(version, code byte) []byte {
	if version == V5 {
		switch code {
		case malformedPacket, protocolError, unsupportedVersion, clientIDNotValid, notAuthorized,
			badAuthentication, packetTooLarge:
		default:
			code = serverUnavailable
		}
		return []byte{typeConnack, 3, 0, code, 0}
	}
	switch code {
	case unsupportedVersion:
		return []byte{typeConnack, 2, 0, 1}
	case clientIDNotValid:
		return []byte{typeConnack, 2, 0, 2}
	default:
		return nil
	}
}

// Disconnect tells an MQTT 5 client why its connection ends. The text is left
// out if it is no text, or if the packet would exceed limit, the client's
// Maximum Packet Size.
func Disconnect(code byte, text string, limit uint32) []byte {
	packet := []byte{typeDisconnect, 2, code, 0}
	if text == "" || len(text) > maxString || !isText(text) {
		return packet
	}
	var properties []byte
	properties = append(properties, propertyReasonString)
	properties = appendBytes(properties, text)
	var body []byte
	body = append(body, code)
	body = appendVarint(body, len(properties))
	body = append(body, properties...)
	long := append(appendVarint([]byte{typeDisconnect}, len(body)), body...)
	if uint64(len(long)) > uint64(limit) {
		return packet
	}
	return long
}
