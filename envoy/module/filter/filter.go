package filter

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/envoy/module/mqtt"
)

// Fields of hubgate's answer.
const (
	keyHub     = "hub_id"
	keyDevice  = "device_id"
	keyName    = "device_name"
	keySession = "session_id"
	keyHold    = "hold" // "true": the CONNECT waits for a Release
)

type phase uint8

const (
	waiting phase = iota
	held
	open
	ending
	closing
	closed
)

// Filter is one connection. Only End and Release, the link's orders, may be
// called by other threads than the connection's own.
type Filter struct {
	settings *Settings
	links    Links
	id       uint64 // Envoy's
	waker    Waker
	shared   *Shared // nil once closed; written under mu, as Active reads it

	phase     phase
	session   *link.Session
	who       *identity // nil once written
	hold      bool
	heldUntil time.Time
	pending   []byte // of the CONNECT, while waiting; for the broker, while held
	version   byte   // of MQTT
	maxPacket uint32
	order     *order // being carried out
	timer     *time.Timer
	waits     uint8 // counts timers: only the last one matters

	mu       sync.Mutex
	ordered  *order
	released bool
	expired  uint8 // number of the timer that has fired last
}

// order is an End.
type order struct {
	code byte
	text string
}

// Links is where open connections are registered: a link.Client.
type Links interface {
	Open(open link.Open, control link.Control) *link.Session
	// Down is for how long there has been no link, 0 while there is one.
	Down() time.Duration
}

// Waker has Envoy call Scheduled soon. Wake may be called from any thread and
// at any time.
type Waker interface{ Wake() }

// New is the filter of a connection, which it uses shared for until Closed. In
// front of HTTP, that is one whose handshake is done; in front of a broker, one
// that hubgate has let in.
func New(settings *Settings, links Links, id uint64, shared *Shared, waker Waker) *Filter {
	f := &Filter{settings: settings, links: links, id: id, shared: shared, waker: waker, waits: 1}
	if settings.HTTP {
		f.phase, shared.Device, shared.Broker = open, Pass, Pass
		f.session = links.Open(link.Open{Connection: id, Protocol: link.HTTP}, f)
	}
	return f
}

// Closed is the hook for the connection's end, whoever ended it.
func (f *Filter) Closed() {
	f.phase, f.pending, f.order = closed, nil, nil
	f.unlimit()
	f.mu.Lock()
	if f.shared != nil {
		f.shared.Device, f.shared.Broker = Ask, Ask
	}
	f.shared = nil
	f.mu.Unlock()
	if f.session != nil {
		f.session.Close()
	}
}

// Active reports whether the device has sent something since it was last
// asked.
func (f *Filter) Active() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shared != nil && atomic.SwapUint32(&f.shared.Active, 0) != 0
}

// End closes the connection on its own thread.
func (f *Filter) End(code byte, text string) {
	f.mu.Lock()
	f.ordered = &order{code, text}
	f.mu.Unlock()
	f.waker.Wake()
}

// Release lets the CONNECT go on. hubgate says it of every connection.
func (f *Filter) Release() {
	if !f.hold { // which is set before anybody can know of f
		return
	}
	f.mu.Lock()
	f.released = true
	f.mu.Unlock()
	f.waker.Wake()
}

// limit has Scheduled called after d, instead of an earlier limit.
func (f *Filter) limit(d time.Duration) {
	f.unlimit()
	n := f.waits
	f.timer = time.AfterFunc(d, func() {
		f.mu.Lock()
		f.expired = n
		f.mu.Unlock()
		f.waker.Wake()
	})
}

func (f *Filter) unlimit() {
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
	f.waits++
}

// Read is the hook for bytes of the device.
func (f *Filter) Read(h Hook, end bool) Action {
	if f.settings.HTTP && f.phase == open {
		return Action{}
	}
	switch f.phase {
	case waiting:
		if f.settings.Ahead {
			return f.ahead(h, end)
		}
		return f.connect(h, end)
	case open:
		return f.forward(h)
	case held:
		if end {
			return f.close(Now, "hubgate_device_left")
		}
	}
	// Envoy may have read more before it stopped reading; of a connection
	// that ends, nothing is wanted any more.
	return Action{Take: f.phase != held, Stop: true}
}

// connect collects the CONNECT.
func (f *Filter) connect(h Hook, end bool) Action {
	if f.session == nil && !f.identify(h) {
		return f.close(Now, "hubgate_no_identity")
	}
	packet, rest, action := f.collect(h, end)
	if packet == nil {
		return action
	}
	var err error
	if f.pending, err = f.rewrite(packet, rest); err != nil {
		return f.refuse(err)
	}
	f.mu.Lock()
	released := f.released
	f.mu.Unlock()
	if f.hold && !released && f.links.Down() < unlinkedTimeout {
		f.phase = held
		f.heldUntil = time.Now().Add(f.settings.ConnectTimeout)
		f.limit(min(linkInterval, f.settings.ConnectTimeout))
		return Action{Take: true, Read: Pause, Stop: true}
	}
	return Action{Take: true, Put: f.enter()}
}

// collect gives the CONNECT once it is complete, and what followed it; until
// then the packet is nil, and the action is what to do.
func (f *Filter) collect(h Hook, end bool) (packet, rest []byte, _ Action) {
	for _, chunk := range h.Chunks() {
		f.pending = append(f.pending, chunk...)
	}
	packet, rest, err := mqtt.Split(f.pending, f.settings.MaxConnect)
	switch {
	case err != nil:
		return nil, nil, f.refuse(err)
	case packet == nil && end:
		return nil, nil, f.close(Now, "hubgate_no_connect")
	}
	return packet, rest, Action{Take: true, Stop: true}
}

// enter begins to let everything pass, and gives what was held back.
func (f *Filter) enter() []byte {
	pending := f.pending
	f.phase, f.pending, f.who = open, nil, nil
	f.unlimit()
	f.shared.Device, f.shared.Broker = Scan, Scan
	if f.version != mqtt.V5 {
		f.shared.Broker = Pass // there is no last packet to find a place for
	}
	return pending
}

// identify reads whom hubgate let in, and tells it that the connection is
// open. It reports whether the answer named a device.
func (f *Filter) identify(h Hook) bool {
	f.who = &identity{hub: h.Metadata(keyHub), device: h.Metadata(keyDevice), name: h.Metadata(keyName)}
	if f.who.hub == "" || f.who.device == "" || f.who.name == "" {
		return false
	}
	f.hold = h.Metadata(keyHold) == "true"
	f.session = f.links.Open(link.Open{
		Connection: f.id, Protocol: link.TCP,
		Session: h.Metadata(keySession), Hub: f.who.hub, Device: f.who.device,
	}, f)
	return true
}

// rewrite gives what the broker is to read instead of the CONNECT and what
// followed it.
func (f *Filter) rewrite(packet, rest []byte) ([]byte, error) {
	trip(packet)
	c, err := mqtt.Parse(packet)
	if err != nil {
		return nil, err
	}
	f.version, f.maxPacket = c.Version, c.MaxPacket
	if err := f.settings.rewrite(c, *f.who); err != nil {
		return nil, err
	}
	n, err := f.shared.FromDevice.Scan(rest, mqtt.IsConnect)
	if err != nil {
		return nil, err
	}
	if n < len(rest) {
		return nil, errSecondConnect
	}
	written, err := c.Append(nil)
	return append(written, rest...), err
}

var errSecondConnect = &mqtt.Error{Code: 0x82, Text: "a second CONNECT"}

// forward lets bytes of an open connection pass.
func (f *Filter) forward(h Hook) Action {
	for _, chunk := range h.Chunks() {
		n, err := f.shared.FromDevice.Scan(chunk, mqtt.IsConnect)
		if err == nil && n == len(chunk) {
			continue
		}
		f.order = &order{code: 0x81, text: "malformed packet"}
		if err == nil {
			f.order = &order{code: errSecondConnect.Code, text: errSecondConnect.Text}
		}
		action := f.carryOut("hubgate_protocol_error")
		action.Take, action.Stop = true, true
		return action
	}
	return Action{}
}

// Write is the hook for bytes of the broker.
func (f *Filter) Write(h Hook) Action {
	switch {
	case f.settings.HTTP && f.phase == open:
		return Action{}
	case f.phase == ending:
		return f.finishPacket(h)
	case f.phase != open:
		return Action{Take: true, Stop: true}
	}
	for _, chunk := range h.Chunks() {
		if _, err := f.shared.FromBroker.Scan(chunk, func(byte) bool { return false }); err != nil {
			// What it is sent next could be in the midst of anything.
			f.version, f.shared.Broker = mqtt.V311, Pass
			return Action{}
		}
	}
	return Action{}
}

// finishPacket lets the rest of a packet pass, and has the last one follow it.
func (f *Filter) finishPacket(h Hook) Action {
	var pass []byte
	for _, chunk := range h.Chunks() {
		n, err := f.shared.FromBroker.Scan(chunk, func(byte) bool { return true })
		if err != nil {
			return Action{} // time will end the wait
		}
		pass = append(pass, chunk[:n]...)
		if f.shared.FromBroker.Between() {
			f.waker.Wake()
			break
		}
	}
	return Action{Take: true, Put: pass, Stop: len(pass) == 0}
}

// Scheduled is the hook that Wake asks for. It is late if the device has not
// sent a complete CONNECT in time.
func (f *Filter) Scheduled(late bool) Action {
	f.mu.Lock()
	ordered, released, expired := f.ordered, f.released, f.expired == f.waits
	f.ordered = nil
	f.mu.Unlock()
	switch f.phase {
	case waiting, held, open:
		if ordered != nil {
			f.order = ordered
			return f.carryOut("hubgate_ended")
		}
	case ending:
		if f.shared.FromBroker.Between() || expired {
			return f.carryOut("hubgate_ended")
		}
	}
	switch {
	case late && f.phase == waiting:
		return f.close(Now, "hubgate_connect_timeout")
	case released && f.phase == held:
		return Action{Broker: f.enter(), Read: Resume}
	case expired && f.phase == held:
		return f.holdOn()
	case expired && f.phase == closing:
		return f.close(Now, "hubgate_flush_timeout")
	}
	return Action{}
}

// holdOn decides whether a connection that nobody has released is held longer.
func (f *Filter) holdOn() Action {
	left := time.Until(f.heldUntil)
	switch {
	case f.links.Down() >= unlinkedTimeout:
		return Action{Broker: f.enter(), Read: Resume}
	case left <= 0:
		f.order = &order{text: "the previous connection did not end in time"}
		return f.carryOut("hubgate_hold_timeout")
	}
	f.limit(min(linkInterval, left))
	return Action{}
}

// carryOut ends the connection as f.order says: with a last packet if the
// client understands one, and if it can be sent between two others.
func (f *Filter) carryOut(detail string) Action {
	var last []byte
	switch {
	case f.settings.HTTP || f.version != mqtt.V5:
	case f.phase != ending && !f.shared.FromBroker.Between():
		f.phase, f.shared.Device, f.shared.Broker = ending, Ask, Ask
		f.limit(packetTimeout)
		return Action{Stop: true}
	case !f.shared.FromBroker.Between():
	case f.shared.FromBroker.Greeted:
		last = mqtt.Disconnect(f.order.code, f.order.text, f.maxPacket)
	default:
		last = mqtt.Connack(f.version, f.order.code)
	}
	return f.closeWith(last, detail)
}

// refuse ends a connection whose CONNECT is no good.
func (f *Filter) refuse(err error) Action {
	var last []byte
	detail := "hubgate_internal"
	if e, ok := err.(*mqtt.Error); ok { //nolint:errorlint // package mqtt wraps nothing
		if e.Version == 0 {
			e = &mqtt.Error{Version: f.version, Code: e.Code}
		}
		last, detail = e.Connack(), "hubgate_bad_connect"
	}
	return f.closeWith(last, detail)
}

func (f *Filter) closeWith(last []byte, detail string) Action {
	if last == nil {
		return f.close(Now, detail)
	}
	action := f.close(Flush, detail)
	action.Device = last
	f.limit(flushTimeout)
	return action
}

// Fail closes the connection after a hook that panicked; f may be nil.
func (f *Filter) Fail() Action {
	if f != nil {
		return f.close(Now, "hubgate_internal")
	}
	return Action{Close: Now, Detail: "hubgate_internal", Stop: true}
}

func (f *Filter) close(how Closing, detail string) Action {
	f.phase, f.pending = closing, nil
	f.unlimit()
	if f.shared != nil {
		f.shared.Device, f.shared.Broker = Ask, Ask
	}
	return Action{Take: true, Close: how, Detail: detail, Stop: true}
}
