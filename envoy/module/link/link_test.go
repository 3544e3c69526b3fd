package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

const epoch = "00112233445566778899aabbccddeeff"

// every is one message of each type.
func every() []Message {
	return []Message{
		&Hello{Version: 1, Node: "edge-1", Epoch: epoch, Library: "v1.2.3"},
		&Welcome{Version: 1, Heartbeat: 2 * time.Second},
		&SnapshotBegin{},
		&SnapshotEnd{},
		&Open{Connection: 7, Protocol: TCP, Session: "s", Hub: "h", Device: "d"},
		&Open{Connection: 8, Protocol: HTTP},
		&Closed{Connection: 7},
		&Activity{Connections: []uint64{1, 1 << 63}},
		&Activity{},
		&End{Seq: 3, Connection: 7, Session: "s", Code: SessionTakenOver, Text: "device connected elsewhere"},
		&Ended{Seq: 3},
		&Release{Connection: 7, Session: "s"},
		&Ping{},
		&Pong{},
		&Unknown{Type: 200, Body: []byte("later")},
	}
}

func encode(t testing.TB, m Message) []byte {
	t.Helper()
	b, err := Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryMessageArrivesAsItWas(t *testing.T) {
	for _, m := range every() {
		got, err := Decode(encode(t, m)[4:])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%T: got %+v, %v; want %+v", m, got, err, m)
		}
	}
}

// TestWireFormat holds version 1 to its bytes: the other end may be older.
func TestWireFormat(t *testing.T) {
	for want, m := range map[string]Message{
		"\x00\x00\x00\x33\x01\x00\x01\x00\x06edge-1\x00\x20" + epoch + "\x00\x04v1.2": &Hello{1, "edge-1", epoch, "v1.2"},
		"\x00\x00\x00\x07\x02\x00\x01\x00\x00\x07\xd0":                                &Welcome{1, 2 * time.Second},
		"\x00\x00\x00\x13\x05\x00\x00\x00\x00\x00\x00\x00\x07\x01\x00\x01s\x00\x01h\x00\x01d": &Open{
			7, TCP, "s", "h", "d",
		},
		"\x00\x00\x00\x11\x07\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x08": &Activity{[]uint64{7, 8}},
		"\x00\x00\x00\x18\x08\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x07\x00\x01s\x98\x00\x01t": &End{
			3, 7, "s", AdministrativeAction, "t",
		},
		"\x00\x00\x00\x0c\x0a\x00\x00\x00\x00\x00\x00\x00\x07\x00\x01s": &Release{7, "s"},
		"\x00\x00\x00\x01\x0b": &Ping{},
	} {
		if got := encode(t, m); string(got) != want {
			t.Errorf("%T is %q, want %q", m, got, want)
		}
	}
}

func TestOverLimit(t *testing.T) {
	fits := &End{Text: strings.Repeat("t", MaxText)}
	if got, err := Decode(encode(t, fits)[4:]); err != nil || !reflect.DeepEqual(got, fits) {
		t.Errorf("a text at the limit: %v", err)
	}
	full := &Activity{Connections: make([]uint64, MaxActive)}
	if got, err := Decode(encode(t, full)[4:]); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("a list at the limit: %v", err)
	}
	for _, m := range []Message{
		&End{Text: strings.Repeat("t", MaxText+1)},
		&Open{Protocol: TCP, Device: strings.Repeat("d", 1<<20)},
		&Activity{Connections: make([]uint64, MaxActive+1)},
		&Unknown{Type: 99, Body: make([]byte, MaxFrame)},
	} {
		before := []byte("before")
		if got, err := Append(before, m); !errors.Is(err, ErrTooLong) || string(got) != "before" {
			t.Errorf("%T: %d bytes, %v; want ErrTooLong", m, len(got), err)
		}
	}
	if _, err := Decode(make([]byte, MaxFrame+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long frame: %v, want ErrTooLong", err)
	}
}

func TestMalformed(t *testing.T) {
	for _, m := range []Message{
		&Hello{Version: 0, Epoch: epoch},
		&Hello{Version: 1, Epoch: strings.ToUpper(epoch)},
		&Hello{Version: 1, Epoch: epoch + "00"},
		&Welcome{Version: 0, Heartbeat: time.Second},
		&Welcome{Version: 1, Heartbeat: MinHeartbeat - time.Millisecond},
		&Welcome{Version: 1, Heartbeat: MaxHeartbeat + time.Millisecond},
		&Welcome{Version: 1, Heartbeat: time.Second + time.Microsecond},
		&Open{},
		&Open{Protocol: 3},
	} {
		if _, err := Append(nil, m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v: %v, want ErrMalformed", m, err)
		}
	}
	for _, m := range every() {
		frame := encode(t, m)[4:]
		if _, ok := m.(*Unknown); ok {
			continue
		}
		if _, err := Decode(append(frame, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T and a byte: %v, want ErrMalformed", m, err)
		}
		for n := range frame {
			// A list cut between two of its elements is a shorter list.
			if _, err := Decode(frame[:n]); !errors.Is(err, ErrMalformed) && (frame[0] != byte(kindActivity) || n%8 != 1) {
				t.Errorf("%T cut to %d bytes: %v, want ErrMalformed", m, n, err)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range every() {
		f.Add(encode(f, m)[4:])
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := Decode(frame)
		if err != nil {
			return
		}
		if again := encode(t, m)[4:]; !bytes.Equal(again, frame) {
			t.Errorf("%q became %q", frame, again)
		}
	})
}

// FuzzConn reads what may be several frames, or none.
func FuzzConn(f *testing.F) {
	var all []byte
	for _, m := range every() {
		all = append(all, encode(f, m)...)
	}
	f.Add(all)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		c := NewConn(&replay{Reader: bytes.NewReader(stream)}, time.Second)
		for {
			m, err := c.Read()
			if err != nil {
				return
			}
			encode(t, m)
		}
	})
}

// replay is a connection that has received all there is.
type replay struct {
	net.Conn
	io.Reader
}

func (r *replay) Read(b []byte) (int, error)      { return r.Reader.Read(b) }
func (r *replay) SetReadDeadline(time.Time) error { return nil }
