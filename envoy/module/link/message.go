package link

import "time"

// Message is one of the pointers to the types below.
type Message interface {
	kind() kind
	// fields names the message's fields in their order on the wire, for
	// reading and for writing alike.
	fields(*coder)
}

// Protocol is what a connection of a device speaks.
type Protocol uint8

const (
	// TCP is MQTT: Open names the session that hubgate's answer gave it.
	TCP Protocol = 1
	// HTTP connections are known to hubgate by the checks of their requests.
	HTTP Protocol = 2
)

// Reason codes of MQTT 5 that an End may carry. Any other is passed on, too.
const (
	NotAuthorized        byte = 0x87
	SessionTakenOver     byte = 0x8E
	AdministrativeAction byte = 0x98
	MaximumConnectTime   byte = 0xA0
)

// Hello is the library's first message.
type Hello struct {
	Version uint16 // the newest that it speaks
	Node    string // as in the checks' hubgate-node
	Epoch   string // 32 lowercase hexadecimal digits, new in every Envoy process
	Library string // the library's own version, for people
}

// Welcome is hubgate's answer to Hello.
type Welcome struct {
	Version uint16 // to be spoken from here on; not over Hello's
	// Heartbeat is the longest pause between two messages of the library.
	// Whole milliseconds.
	Heartbeat time.Duration
}

// SnapshotBegin opens the list of all open connections, one Open each.
type SnapshotBegin struct{}

// SnapshotEnd closes it. Connections of this epoch that were not in the list
// are closed.
type SnapshotEnd struct{}

// Open is a connection that was let in. The IDs are those of hubgate's answer;
// for HTTP they are empty.
type Open struct {
	Connection uint64
	Protocol   Protocol
	Session    string
	Hub        string
	Device     string
}

// Closed is the end of a connection, whoever ended it.
type Closed struct {
	Connection uint64
}

// Activity names connections on which devices have sent something since the
// last one. It comes about once a minute.
type Activity struct {
	Connections []uint64
}

// End orders the end of a connection.
type End struct {
	Seq        uint64 // hubgate's own number, repeated in Ended
	Connection uint64
	Session    string // must be the connection's own, unless empty
	Code       byte   // reason code for an MQTT 5 client
	Text       string // reason string for it and for Envoy's log
}

// Ended says that the connection of an End is closed, or was not there.
type Ended struct {
	Seq uint64
}

// Release lets a connection go on that was told to wait (hold in hubgate's
// answer) until its device's previous one was closed.
type Release struct {
	Connection uint64
	Session    string // must be the connection's own
}

// Ping is sent once a heartbeat.
type Ping struct{}

// Pong answers Ping.
type Pong struct{}

// Unknown is a message of a type that this version does not know. It is
// skipped where it arrives.
type Unknown struct {
	Type byte
	Body []byte
}

// kind is a message's type on the wire.
type kind byte

const (
	kindHello         kind = 1
	kindWelcome       kind = 2
	kindSnapshotBegin kind = 3
	kindSnapshotEnd   kind = 4
	kindOpen          kind = 5
	kindClosed        kind = 6
	kindActivity      kind = 7
	kindEnd           kind = 8
	kindEnded         kind = 9
	kindRelease       kind = 10
	kindPing          kind = 11
	kindPong          kind = 12
)

// blank is a new message of a type.
func blank(k kind) Message {
	switch k {
	case kindHello:
		return &Hello{}
	case kindWelcome:
		return &Welcome{}
	case kindSnapshotBegin:
		return &SnapshotBegin{}
	case kindSnapshotEnd:
		return &SnapshotEnd{}
	case kindOpen:
		return &Open{}
	case kindClosed:
		return &Closed{}
	case kindActivity:
		return &Activity{}
	case kindEnd:
		return &End{}
	case kindEnded:
		return &Ended{}
	case kindRelease:
		return &Release{}
	case kindPing:
		return &Ping{}
	case kindPong:
		return &Pong{}
	default:
		return &Unknown{Type: byte(k)}
	}
}

func (*Hello) kind() kind         { return kindHello }
func (*Welcome) kind() kind       { return kindWelcome }
func (*SnapshotBegin) kind() kind { return kindSnapshotBegin }
func (*SnapshotEnd) kind() kind   { return kindSnapshotEnd }
func (*Open) kind() kind          { return kindOpen }
func (*Closed) kind() kind        { return kindClosed }
func (*Activity) kind() kind      { return kindActivity }
func (*End) kind() kind           { return kindEnd }
func (*Ended) kind() kind         { return kindEnded }
func (*Release) kind() kind       { return kindRelease }
func (*Ping) kind() kind          { return kindPing }
func (*Pong) kind() kind          { return kindPong }
func (m *Unknown) kind() kind     { return kind(m.Type) }

func (m *Hello) fields(c *coder) {
	c.uint16(&m.Version)
	c.text(&m.Node)
	c.text(&m.Epoch)
	c.text(&m.Library)
	c.check(m.Version > 0 && isEpoch(m.Epoch))
}

func (m *Welcome) fields(c *coder) {
	c.uint16(&m.Version)
	ms := uint32(m.Heartbeat / time.Millisecond)
	c.check(time.Duration(ms)*time.Millisecond == m.Heartbeat)
	c.uint32(&ms)
	m.Heartbeat = time.Duration(ms) * time.Millisecond
	c.check(m.Version > 0 && m.Heartbeat >= MinHeartbeat && m.Heartbeat <= MaxHeartbeat)
}

func (*SnapshotBegin) fields(*coder) {}

func (*SnapshotEnd) fields(*coder) {}

func (m *Open) fields(c *coder) {
	c.uint64(&m.Connection)
	c.uint8((*uint8)(&m.Protocol))
	c.text(&m.Session)
	c.text(&m.Hub)
	c.text(&m.Device)
	c.check(m.Protocol == TCP || m.Protocol == HTTP)
}

func (m *Closed) fields(c *coder) { c.uint64(&m.Connection) }

func (m *Activity) fields(c *coder) { c.rest64(&m.Connections) }

func (m *End) fields(c *coder) {
	c.uint64(&m.Seq)
	c.uint64(&m.Connection)
	c.text(&m.Session)
	c.uint8(&m.Code)
	c.text(&m.Text)
}

func (m *Ended) fields(c *coder) { c.uint64(&m.Seq) }

func (m *Release) fields(c *coder) {
	c.uint64(&m.Connection)
	c.text(&m.Session)
}

func (*Ping) fields(*coder) {}

func (*Pong) fields(*coder) {}

func (m *Unknown) fields(c *coder) { c.rest(&m.Body) }

// isEpoch reports whether s is 16 bytes in lowercase hexadecimal digits.
func isEpoch(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 32
}
