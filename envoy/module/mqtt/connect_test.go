package mqtt

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// Packets are written by hand, so that writer and reader cannot share a
// mistake.
const (
	// Client ID "dev", clean session, keep-alive 60 s.
	bare311 = "\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03dev"
	bare5   = "\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03dev"
	// With a retained will of QoS 1 for "t" with payload 00 FF, user name "u" and
	// password "p".
	full311 = "\x10\x1c\x00\x04MQTT\x04\xee\x00\x3c\x00\x03dev\x00\x01t\x00\x02\x00\xff\x00\x01u\x00\x01p"
	// The same, with a session expiry of 10 s, a user property, a maximum
	// packet size of 200, and a will delay of 5 s.
	full5 = "\x10\x34\x00\x04MQTT\x05\xee\x00\x3c" +
		"\x11\x11\x00\x00\x00\x0a\x26\x00\x01k\x00\x01v\x27\x00\x00\x00\xc8" +
		"\x00\x03dev\x05\x18\x00\x00\x00\x05\x00\x01t\x00\x02\x00\xff\x00\x01u\x00\x01p"
	// An authentication method "m" with the data "d".
	enhanced5 = "\x10\x18\x00\x04MQTT\x05\x02\x00\x3c\x08\x15\x00\x01m\x16\x00\x01d\x00\x03dev"
)

var packets = map[string]string{
	"bare 3.1.1": bare311, "bare 5.0": bare5, "full 3.1.1": full311, "full 5.0": full5, "enhanced 5.0": enhanced5,
	"no client ID": "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
}

func parse(t *testing.T, packet string) *Connect {
	t.Helper()
	c, err := Parse([]byte(packet))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func written(t *testing.T, c *Connect) string {
	t.Helper()
	b, err := c.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUnchangedIsWrittenAsItWasRead(t *testing.T) {
	for name, packet := range packets {
		if got := written(t, parse(t, packet)); got != packet {
			t.Errorf("%s: %q became %q", name, packet, got)
		}
	}
}

func TestParse(t *testing.T) {
	c := parse(t, full5)
	if c.Version != V5 || string(c.ClientID) != "dev" || string(c.UserName) != "u" || string(c.Password) != "p" ||
		c.MaxPacket != 200 || c.Enhanced {
		t.Errorf("%+v", c)
	}
	if c = parse(t, bare311); c.Version != V311 || c.UserName != nil || c.Password != nil || c.MaxPacket != math.MaxUint32 {
		t.Errorf("%+v", c)
	}
	if !parse(t, enhanced5).Enhanced {
		t.Error("an authentication method was not seen")
	}
}

// identify does what a filter does with a CONNECT.
func identify(c *Connect, clientID, userName string) {
	if len(c.ClientID) > 0 {
		c.ClientID = []byte(clientID)
	}
	c.UserName, c.Password = []byte(userName), nil
}

func TestIdentify(t *testing.T) {
	for packet, want := range map[string]string{
		bare311: "\x10\x16\x00\x04MQTT\x04\x82\x00\x3c\x00\x05d-dev\x00\x03h/n",
		full311: "\x10\x1d\x00\x04MQTT\x04\xae\x00\x3c\x00\x05d-dev\x00\x01t\x00\x02\x00\xff\x00\x03h/n",
		full5: "\x10\x35\x00\x04MQTT\x05\xae\x00\x3c" +
			"\x11\x11\x00\x00\x00\x0a\x26\x00\x01k\x00\x01v\x27\x00\x00\x00\xc8" +
			"\x00\x05d-dev\x05\x18\x00\x00\x00\x05\x00\x01t\x00\x02\x00\xff\x00\x03h/n",
		packets["no client ID"]: "\x10\x11\x00\x04MQTT\x04\x82\x00\x3c\x00\x00\x00\x03h/n",
	} {
		c := parse(t, packet)
		identify(c, "d-"+string(c.ClientID), "h/n")
		if got := written(t, c); got != want {
			t.Errorf("%q became %q, want %q", packet, got, want)
		}
	}
}

func TestLongestNames(t *testing.T) {
	c := parse(t, bare5)
	identify(c, strings.Repeat("c", maxString), strings.Repeat("u", maxString))
	if again := parse(t, written(t, c)); len(again.ClientID) != maxString || len(again.UserName) != maxString {
		t.Errorf("client ID of %d bytes, user name of %d", len(again.ClientID), len(again.UserName))
	}
	for want, c := range map[byte]*Connect{
		clientIDNotValid: {Version: V5, ClientID: make([]byte, maxString+1)},
		packetTooLarge:   {Version: V5, UserName: make([]byte, maxString+1)},
	} {
		var e *Error
		if b, err := c.Append(nil); !errors.As(err, &e) || e.Code != want || b != nil {
			t.Errorf("%d bytes, %v; want code %#x", len(b), err, want)
		}
	}
}

// TestParseRefuses also says what the client hears.
func TestParseRefuses(t *testing.T) {
	const closed = ""
	for name, tc := range map[string]struct {
		packet  string
		code    byte
		connack string
	}{
		"another packet":      {"\x30\x03\x00\x01t", malformedPacket, closed},
		"flags in the header": {"\x11" + bare311[1:], malformedPacket, closed},
		"a byte too many":     {bare311 + "x", malformedPacket, closed},
		"a byte in the body too many": {
			"\x10\x10" + bare311[2:] + "x", malformedPacket, closed,
		},
		"MQTT 3.1":                {"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", unsupportedVersion, "\x20\x02\x00\x01"},
		"version 6":               {strings.Replace(bare311, "MQTT\x04", "MQTT\x06", 1), unsupportedVersion, "\x20\x02\x00\x01"},
		"a bridge's version":      {strings.Replace(bare311, "MQTT\x04", "MQTT\x84", 1), unsupportedVersion, "\x20\x02\x00\x01"},
		"reserved flag":           {strings.Replace(bare311, "\x04\x02", "\x04\x03", 1), malformedPacket, closed},
		"reserved flag in 5.0":    {strings.Replace(bare5, "\x05\x02", "\x05\x03", 1), malformedPacket, "\x20\x03\x00\x81\x00"},
		"QoS without will":        {strings.Replace(bare5, "\x05\x02", "\x05\x0a", 1), malformedPacket, "\x20\x03\x00\x81\x00"},
		"QoS 3":                   {strings.Replace(full5, "\x05\xee", "\x05\xfe", 1), malformedPacket, "\x20\x03\x00\x81\x00"},
		"password without a name": {"\x10\x12\x00\x04MQTT\x04\x42\x00\x3c\x00\x03dev\x00\x01p", malformedPacket, closed},
		"NUL in the client ID":    {strings.Replace(bare5, "dev", "d\x00v", 1), clientIDNotValid, "\x20\x03\x00\x85\x00"},
		"no UTF-8":                {strings.Replace(bare311, "dev", "d\xffv", 1), clientIDNotValid, "\x20\x02\x00\x02"},
		"no UTF-8 in the name":    {"\x10\x12\x00\x04MQTT\x04\x82\x00\x3c\x00\x03dev\x00\x01\xff", malformedPacket, closed},
		"another's property":      {strings.Replace(enhanced5, "\x16\x00\x01d", "\x1f\x00\x01d", 1), malformedPacket, "\x20\x03\x00\x81\x00"},
		"a property cut short":    {strings.Replace(enhanced5, "\x16\x00\x01d", "\x16\x00\x02d", 1), malformedPacket, "\x20\x03\x00\x81\x00"},
		"a length of five bytes":  {"\x10\x8f\x80\x80\x80\x00" + bare311[2:], malformedPacket, closed},
		"a length too long":       {"\x10\x8f\x00" + bare311[2:], malformedPacket, closed},
	} {
		_, err := Parse([]byte(tc.packet))
		var e *Error
		if !errors.As(err, &e) || e.Code != tc.code || string(e.Connack()) != tc.connack {
			t.Errorf("%s: %v, CONNACK %q; want code %#x, CONNACK %q", name, err, e.Connack(), tc.code, tc.connack)
		}
	}
	for name, packet := range packets {
		for n := range len(packet) {
			if _, err := Parse([]byte(packet[:n])); err == nil {
				t.Errorf("%s cut to %d bytes was taken", name, n)
			}
		}
	}
}

func TestSplit(t *testing.T) {
	for name, whole := range packets {
		for n := range len(whole) {
			if packet, _, err := Split([]byte(whole[:n]), len(whole)); packet != nil || err != nil {
				t.Errorf("%s: %d bytes: %q, %v; want more", name, n, packet, err)
			}
		}
		packet, rest, err := Split([]byte(whole+"more"), len(whole))
		if string(packet) != whole || string(rest) != "more" || err != nil {
			t.Errorf("%s: %q, %q, %v", name, packet, rest, err)
		}
	}
	for name, tc := range map[string]struct {
		stream string
		limit  int
		want   Error
	}{
		"another packet first":   {"\x30", 99, Error{Code: protocolError}},
		"HTTP":                   {"GET / HTTP/1.1\r\n", 99, Error{Code: protocolError}},
		"a length without end":   {"\x10\xff\xff\xff\xff", 99, Error{Code: malformedPacket}},
		"a length too long":      {"\x10\x80\x00", 99, Error{Code: malformedPacket}},
		"over the limit, 3.1.1":  {bare311[:9], 16, Error{Version: V311, Code: packetTooLarge}},
		"over the limit, 5.0":    {bare5[:9], 17, Error{Version: V5, Code: packetTooLarge}},
		"over it, other name":    {"\x10\xff\xff\x7fabcdefghi", 99, Error{Code: packetTooLarge}},
		"over it and too short":  {"\x10\x06", 4, Error{Code: packetTooLarge}},
		"the longest there is":   {"\x10\xff\xff\xff\x7f" + bare5[2:9], 1 << 20, Error{Version: V5, Code: packetTooLarge}},
		"over it, no length yet": {"\x10\xff\xff\xff\x80", 99, Error{Code: malformedPacket}},
	} {
		packet, _, err := Split([]byte(tc.stream), tc.limit)
		var e *Error
		if !errors.As(err, &e) || packet != nil || e.Version != tc.want.Version || e.Code != tc.want.Code {
			t.Errorf("%s: %q, %v; want %v", name, packet, err, tc.want)
		}
	}
	// Whether to answer in 5.0's way is not known yet.
	if packet, _, err := Split([]byte("\x10\xff\x7f\x00\x04MQTT"), 99); packet != nil || err != nil {
		t.Errorf("%q, %v; want more", packet, err)
	}
}

func TestConnackAndDisconnect(t *testing.T) {
	for want, got := range map[string][]byte{
		"\x20\x03\x00\x87\x00":                 Connack(V5, notAuthorized),
		"\x20\x03\x00\x88\x00":                 Connack(V5, 0x98), // no reason of a CONNACK's
		"\xe0\x02\x98\x00":                     Disconnect(0x98, "", 4),
		"\xe0\x07\x8e\x05\x1f\x00\x02ab":       Disconnect(0x8E, "ab", 9),
		"\xe0\x02\x8e\x00":                     Disconnect(0x8E, "ab", 8),
		"\xe0\x02\x87\x00":                     Disconnect(0x87, strings.Repeat("x", 300), 100),
		"\xe0\xb0\x02\x87\xad\x02\x1f\x01\x2a": Disconnect(0x87, strings.Repeat("x", 298), 999)[:9],
	} {
		if string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := Connack(V311, notAuthorized); got != nil {
		t.Errorf("3.1.1: %q, want nothing", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, packet := range packets {
		f.Add([]byte(packet), "d-", "h/n")
	}
	f.Fuzz(func(t *testing.T, packet []byte, prefix, userName string) {
		c, err := Parse(packet)
		if err != nil {
			if e := new(*Error); !errors.As(err, e) {
				t.Fatalf("error of type %T", err)
			}
			return
		}
		same, err := c.Append(nil)
		if err != nil || !bytes.Equal(same, packet) {
			t.Fatalf("%q became %q, %v", packet, same, err)
		}
		before := fmt.Sprintf("%q %q %x %x %x", c.will, c.properties, c.keepAlive, c.flags, c.Version)
		clientID := prefix + string(c.ClientID)
		named := len(c.ClientID) > 0
		identify(c, clientID, userName)
		b, err := c.Append(nil)
		if err != nil || !isText(userName) {
			return
		}
		again, err := Parse(b)
		if err != nil {
			t.Fatalf("%q became %q: %v", packet, b, err)
		}
		if string(again.UserName) != userName || again.Password != nil || named && string(again.ClientID) != clientID ||
			!named && len(again.ClientID) > 0 {
			t.Errorf("%q became %q", packet, b)
		}
		if after := fmt.Sprintf("%q %q %x %x %x", again.will, again.properties, again.keepAlive, again.flags, again.Version); after != before {
			t.Errorf("%s became %s", before, after)
		}
	})
}

// FuzzSplit: in whatever pieces a stream arrives, its first packet is the same.
func FuzzSplit(f *testing.F) {
	for _, packet := range packets {
		f.Add([]byte(packet+"more"), 64)
	}
	f.Fuzz(func(t *testing.T, stream []byte, limit int) {
		for n := range len(stream) + 1 {
			packet, rest, err := Split(stream[:n], limit)
			if err != nil {
				return
			}
			if packet == nil {
				continue
			}
			if len(packet) > limit || !bytes.Equal(append(packet, rest...), stream[:n]) || len(rest) > 0 {
				t.Fatalf("%q, %q of %q", packet, rest, stream[:n])
			}
			return
		}
	})
}
