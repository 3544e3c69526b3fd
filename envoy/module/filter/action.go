package filter

import "github.com/hubgate/hubgate/envoy/module/mqtt"

// Action is what Envoy is to do after a hook, in the order of the fields. The
// zero value lets everything pass.
type Action struct {
	Take   bool   // discard the bytes that the hook was about,
	Put    []byte // and pass these on in their place
	Broker []byte // pass these on to the broker, outside of any hook about bytes
	Device []byte // send these to the device
	Read   Reading
	Close  Closing
	Detail string // why it is closed, for Envoy's access log
	Stop   bool   // the next filter gets nothing of this hook
}

// Reading turns reading from the device off and on again.
type Reading uint8

// The values of Reading.
const (
	AsBefore Reading = iota
	Pause
	Resume
)

// Closing is how the connection is closed, if it is.
type Closing uint8

// The values of Closing.
const (
	Keep  Closing = iota
	Flush         // once the device has taken what it was sent
	Now
)

// Passing is what may pass without a hook of the filter, in one direction.
type Passing uint8

// The values of Passing.
const (
	Ask  Passing = iota // nothing
	Pass                // everything
	Scan                // whole packets and parts of them, but no second CONNECT
)

// Shared is what the shim knows of a connection: with it, it lets bytes pass
// without entering Go, which costs more than looking for the packets in them.
// It lies in C's memory, and has the layout of C's structure of that name.
type Shared struct {
	FromDevice, FromBroker mqtt.Scanner
	Active                 uint32 // atomic: the device has sent something
	Device, Broker         Passing
}

// Hook is what Envoy lends to a hook about bytes, until it returns.
type Hook interface {
	// Chunks are the pieces that Envoy keeps the bytes in.
	Chunks() [][]byte
	// Metadata gives a field of hubgate's answer, empty if it has none.
	Metadata(key string) string
	// Remember sets filter state of the connection, for Envoy to tell hubgate.
	Remember(key, value string)
}
