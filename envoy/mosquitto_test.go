package envoy

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
)

// TestMosquitto: a real broker takes the name from the library for the
// client's own, and its ACL tells devices apart by it.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	e, h := startModule(t, Options{MQTT: &MQTT{Brokers: []string{startMosquitto(t)}}})
	for _, version := range []byte{mqtt311, mqtt5} {
		suffix := string('0' + version)
		// Of two devices with one client ID, neither disturbs the other, and
		// neither may say that it is the other.
		one := connected(t, e, "device-one-"+suffix, version, fullConnect(version, "client", "", ""))
		two := connected(t, e, "other-two-"+suffix, version, fullConnect(version, "client", hubID+"/device-one-"+suffix, "secret"))
		one.subscribe(t, hubID+"/device-one-"+suffix+"/#")
		two.subscribe(t, "#")
		two.publish(t, hubID+"/device-one-"+suffix+"/forged", "forged")
		two.publish(t, hubID+"/other-two-"+suffix+"/own", "own")
		two.expect(t, hubID+"/other-two-"+suffix+"/own", "own")
		one.publish(t, hubID+"/device-one-"+suffix+"/a", "hello")
		one.expect(t, hubID+"/device-one-"+suffix+"/a", "hello") // and nothing forged before
		two.ping(t)                                              // and nothing of the other's
	}
	// The broker's own packets and ours follow each other.
	c := connected(t, e, "device-ended", mqtt5, connectPacket(mqtt5, "c"))
	open := h.await(t, "device-ended")
	h.end(&link.End{Seq: 1, Connection: open.Connection, Code: link.AdministrativeAction, Text: "an operator ended the session"})
	assertPacket(t, c.conn, 0xe0, "\x98\x20\x1f"+str("an operator ended the session"))
	assertClosed(t, c.conn)
}

// client is as little of an MQTT client as it takes.
type client struct {
	conn    *tls.Conn
	version byte
}

// connected sends a CONNECT that the broker has to accept.
func connected(t *testing.T, e *edge, device string, version byte, connect string) *client {
	t.Helper()
	c := &client{conn: e.dialMQTT(t, device), version: version}
	write(t, c.conn, connect)
	first, body, err := readPacket(c.conn)
	if err != nil || first != 0x20 || body[1] != 0 {
		t.Fatalf("%s: packet %#x %q, %v; want to be accepted", device, first, body, err)
	}
	return c
}

func (c *client) properties() string {
	if c.version == mqtt5 {
		return "\x00"
	}
	return ""
}

func (c *client) subscribe(t *testing.T, filter string) {
	t.Helper()
	write(t, c.conn, packet(0x82, "\x00\x01"+c.properties()+str(filter)+"\x00"))
	if first, body, err := readPacket(c.conn); err != nil || first != 0x90 || body[len(body)-1] != 0 {
		t.Fatalf("packet %#x %q, %v; want the subscription granted", first, body, err)
	}
}

func (c *client) publish(t *testing.T, topic, payload string) {
	t.Helper()
	write(t, c.conn, packet(0x30, str(topic)+c.properties()+payload))
}

func (c *client) expect(t *testing.T, topic, payload string) {
	t.Helper()
	assertPacket(t, c.conn, 0x30, str(topic)+c.properties()+payload)
}

func (c *client) ping(t *testing.T) {
	t.Helper()
	write(t, c.conn, "\xc0\x00")
	assertPacket(t, c.conn, 0xd0, "")
}

// TestProxyTLVs: without the library, the PROXY header says who is connected.
func TestProxyTLVs(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	e := startEdge(t, Options{
		HTTPS: &HTTPS{}, MQTT: &MQTT{ProxyTLVs: true, Brokers: []string{listener.Addr().String()}},
	}, startAuthorizer(t))
	for _, device := range []string{"device-tlv-1", "device-tlv-2"} {
		write(t, e.dialMQTT(t, device), connectPacket(mqtt311, "c"))
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReader(conn)
		tlvs := readProxyHeader(t, r)
		for kind, want := range map[byte]string{TLVHubID: hubID, TLVDeviceID: deviceID, TLVDeviceName: device} {
			if tlvs[kind] != want {
				t.Errorf("TLV %#x is %q, want %q", kind, tlvs[kind], want)
			}
		}
		assertPacket(t, r, 0x10, connectPacket(mqtt311, "c")[2:])
		_ = conn.Close()
	}
}

// readProxyHeader reads a PROXY header of version 2 and gives its TLVs.
func readProxyHeader(t *testing.T, r io.Reader) map[byte]string {
	t.Helper()
	var fixed [16]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		t.Fatal(err)
	}
	const signature, proxyTCP4 = "\r\n\r\n\x00\r\nQUIT\n", "\x21\x11"
	if string(fixed[:14]) != signature+proxyTCP4 {
		t.Fatalf("header %q", fixed)
	}
	rest := make([]byte, binary.BigEndian.Uint16(fixed[14:]))
	if _, err := io.ReadFull(r, rest); err != nil {
		t.Fatal(err)
	}
	tlvs := make(map[byte]string)
	for rest = rest[12:]; len(rest) >= 3; { // after the addresses
		n := int(binary.BigEndian.Uint16(rest[1:]))
		tlvs[rest[0]] = string(rest[3 : 3+n])
		rest = rest[3+n:]
	}
	return tlvs
}
