package sessions

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Versions of MQTT in a CONNECT.
const (
	mqtt311 = 4
	mqtt5   = 5
)

// versions are both.
var versions = []byte{mqtt311, mqtt5}

// dialing says how a device connects.
type dialing struct {
	version  byte // of MQTT; 0 is 5
	clientID string
	userName string
	password string
	slowly   bool // one byte of the CONNECT per TLS record
	plain    bool // without TLS
	cache    tls.ClientSessionCache
	tls      uint16 // the version of TLS; 0 is any
}

// client is a device's open MQTT connection. What it is sent is read as it
// comes.
type client struct {
	device   *device
	conn     net.Conn
	version  byte
	resumed  bool
	messages chan [2]string // topic, payload
	pongs    chan struct{}
	acks     chan byte // the last byte of each SUBACK

	closed   chan struct{} // no more comes
	closedAt time.Time
	code     int // of the DISCONNECT, -1 if there was none
}

// errRefused is a CONNACK that says no; errDenied is hubgate's TLS alert.
var (
	errRefused = errors.New("refused by the broker")
	errDenied  = errors.New("TLS alert access_denied")
)

// handshake is a device's connection to one of Envoy's listeners.
func (d *device) handshake(e *edge, address string, how dialing) (*tls.Conn, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, &tls.Config{
		MinVersion: tls.VersionTLS12, MaxVersion: how.tls, RootCAs: e.servers, ServerName: d.fleet.hub.Name + "." + domain,
		Certificates: []tls.Certificate{d.cert}, ClientSessionCache: how.cache,
	})
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// dial connects a device to the broker.
func (d *device) dial(e *edge, how dialing) (*client, error) {
	conn, err := d.reach(e, how)
	if err != nil {
		return nil, err
	}
	c, err := d.greet(conn, how)
	if err != nil {
		_ = conn.Close()
		if strings.Contains(err.Error(), "access denied") {
			err = errDenied
		}
		return nil, err
	}
	return c, nil
}

// reach is a connection of which nothing was sent yet.
func (d *device) reach(e *edge, how dialing) (net.Conn, error) {
	if !how.plain {
		return d.handshake(e, e.mqtt, how)
	}
	conn, err := net.DialTimeout("tcp", e.insecureMQTT, patience)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

func (d *device) greet(conn net.Conn, how dialing) (*client, error) {
	if how.version == 0 {
		how.version = mqtt5
	}
	if how.clientID == "" {
		how.clientID = d.name
	}
	packet := connectPacket(how)
	for step := len(packet); len(packet) > 0; packet = packet[step:] {
		if how.slowly {
			step = 1
		}
		if _, err := io.WriteString(conn, packet[:step]); err != nil {
			return nil, err
		}
	}
	r := bufio.NewReaderSize(conn, 512)
	first, body, err := readPacket(r)
	if err != nil {
		return nil, err
	}
	if first != 0x20 || len(body) < 2 || body[1] != 0 {
		return nil, fmt.Errorf("%w: packet %#x %q", errRefused, first, body)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	secure, _ := conn.(*tls.Conn)
	c := &client{
		device: d, conn: conn, version: how.version, resumed: secure != nil && secure.ConnectionState().DidResume, code: -1,
		messages: make(chan [2]string, 64), pongs: make(chan struct{}, 64), acks: make(chan byte, 8), closed: make(chan struct{}),
	}
	go c.read(r)
	return c, nil
}

// connect is dial for a device that has to get in. The connection ends with the
// test.
func (d *device) connect(t testing.TB, e *edge, how dialing) *client {
	t.Helper()
	c, err := d.dial(e, how)
	if err != nil {
		t.Fatalf("%s of %s: %v", d.name, d.fleet.hub.Name, err)
	}
	t.Cleanup(c.close)
	return c
}

// read follows what comes until nothing more does.
func (c *client) read(r *bufio.Reader) {
	defer close(c.closed)
	for {
		first, body, err := readPacket(r)
		if err != nil {
			c.closedAt = time.Now()
			_ = c.conn.Close()
			return
		}
		switch {
		case first&0xf0 == 0x30:
			n := int(binary.BigEndian.Uint16([]byte(body)))
			topic, payload := body[2:2+n], body[2+n:]
			c.messages <- [2]string{topic, payload[len(c.properties()):]}
		case first == 0x90:
			c.acks <- body[len(body)-1]
		case first == 0xd0:
			c.pongs <- struct{}{}
		case first == 0xe0:
			c.code = 0
			if len(body) > 0 {
				c.code = int(body[0])
			}
		}
	}
}

// close leaves, and waits until nothing is read any more.
func (c *client) close() {
	_ = c.conn.Close()
	<-c.closed
}

// open reports whether the connection still is.
func (c *client) open() bool {
	select {
	case <-c.closed:
		return false
	default:
		return true
	}
}

// ends waits for the end of the connection and checks what the device was told:
// a client of MQTT 5 the reason, any other nothing.
func (c *client) ends(t testing.TB, code int) {
	t.Helper()
	select {
	case <-c.closed:
	case <-time.After(patience):
		t.Fatalf("the connection of %s (MQTT version %d, %s) is still open", c.device.name, c.version, c.conn.LocalAddr())
	}
	if c.version != mqtt5 {
		code = -1
	}
	if c.code != code {
		t.Errorf("%s (MQTT version %d) was told %#x, want %#x", c.device.name, c.version, c.code, code)
	}
}

func (c *client) send(t testing.TB, packet string) {
	t.Helper()
	if _, err := io.WriteString(c.conn, packet); err != nil {
		t.Fatalf("%s: %v", c.device.name, err)
	}
}

// ping makes sure that the broker has seen all that was sent, and that the
// connection is open.
func (c *client) ping(t testing.TB) {
	t.Helper()
	c.send(t, "\xc0\x00")
	select {
	case <-c.pongs:
	case <-c.closed:
		t.Fatalf("the connection of %s is closed, code %#x", c.device.name, c.code)
	case <-time.After(patience):
		t.Fatalf("%s: no PINGRESP", c.device.name)
	}
}

func (c *client) properties() string {
	if c.version == mqtt5 {
		return "\x00"
	}
	return ""
}

func (c *client) subscribe(t testing.TB, filter string) {
	t.Helper()
	c.send(t, packet(0x82, "\x00\x01"+c.properties()+str(filter)+"\x00"))
	select {
	case <-c.acks: // whether it is granted is seen from what comes
	case <-time.After(patience):
		t.Fatalf("%s: no SUBACK", c.device.name)
	}
}

func (c *client) publish(t testing.TB, topic, payload string) {
	t.Helper()
	c.send(t, packet(0x30, str(topic)+c.properties()+payload))
}

// receives waits for exactly this message.
func (c *client) receives(t testing.TB, topic, payload string) {
	t.Helper()
	select {
	case m := <-c.messages:
		if m != [2]string{topic, payload} {
			t.Errorf("%s received %q, want %q on %q", c.device.name, m, payload, topic)
		}
	case <-c.closed:
		t.Fatalf("the connection of %s is closed, code %#x", c.device.name, c.code)
	case <-time.After(patience):
		t.Fatalf("%s received nothing on %q", c.device.name, topic)
	}
}

// receivedNothing checks that no message has come.
func (c *client) receivedNothing(t testing.TB) {
	t.Helper()
	c.ping(t)
	select {
	case m := <-c.messages:
		t.Errorf("%s received %q", c.device.name, m)
	default:
	}
}

func connectPacket(how dialing) string {
	flags, properties, tail := byte(2), "", ""
	if how.version == mqtt5 {
		properties = "\x00"
	}
	if how.userName != "" {
		flags |= 0x80
		tail += str(how.userName)
	}
	if how.password != "" {
		flags |= 0x40
		tail += str(how.password)
	}
	return packet(0x10, str("MQTT")+string([]byte{how.version, flags, 0, 0})+properties+str(how.clientID)+tail)
}

// packet puts a body behind its first byte and its length.
func packet(first byte, body string) string {
	header := []byte{first}
	for n := len(body); ; n >>= 7 {
		if n < 0x80 {
			return string(append(header, byte(n))) + body
		}
		header = append(header, byte(n)|0x80)
	}
}

// str is a string of MQTT.
func str(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }

// readPacket gives the next packet's first byte and body.
func readPacket(r *bufio.Reader) (byte, string, error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, "", err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, "", err
		}
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	body := make([]byte, length)
	_, err = io.ReadFull(r, body)
	return first, string(body), err
}
