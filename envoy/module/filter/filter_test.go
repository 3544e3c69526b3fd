package filter

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
)

const (
	connect311 = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c"
	connect5   = "\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c"
	// The same for the broker.
	known311  = "\x10\x14\x00\x04MQTT\x04\x82\x00\x3c\x00\x03d-c\x00\x03h/n"
	known5    = "\x10\x15\x00\x04MQTT\x05\x82\x00\x3c\x00\x00\x03d-c\x00\x03h/n"
	connack5  = "\x20\x03\x00\x00\x00"
	pingreq   = "\xc0\x00"
	longBegin = "\x30\x10\x00\x01t" // a PUBLISH with more to come
)

// envoy plays Envoy's part for one filter.
type envoy struct {
	*Filter
	metadata map[string]string
	state    map[string]string
	chunks   [][]byte
	woken    atomic.Int32
	links    *links
	shared   Shared
}

// links keeps what is open.
type links struct {
	client *link.Client
	opened []link.Open
	down   time.Duration
}

func (l *links) Down() time.Duration { return l.down }

func (l *links) Open(open link.Open, control link.Control) *link.Session {
	l.opened = append(l.opened, open)
	return l.client.Open(open, control)
}

func (e *envoy) Wake() { e.woken.Add(1) }

func (e *envoy) Chunks() [][]byte           { return e.chunks }
func (e *envoy) Metadata(key string) string { return e.metadata[key] }
func (e *envoy) Remember(key, value string) { e.state[key] = value }

// start is a connection after its handshake.
func start(t *testing.T, config string) *envoy {
	t.Helper()
	s, err := ParseSettings([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	client, err := s.client(strings.Repeat("0", 32), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	e := &envoy{
		state:    make(map[string]string),
		metadata: map[string]string{keyHub: "h", keyDevice: "d", keyName: "n", keySession: "s"},
		links:    &links{client: client},
	}
	e.Filter = New(s, e.links, 7, &e.shared, e)
	t.Cleanup(e.Closed) // its timer, too
	return e
}

const mqttConfig = `{"role": "mqtt", "link": {"addresses": ["127.0.0.1:1"]}}`

// read gives bytes to the filter, and what the next filter gets.
func (e *envoy) read(data string, end bool) (string, Action) {
	e.chunks = split(data)
	return e.pass(data, e.Read(e, end))
}

func (e *envoy) write(data string) (string, Action) {
	e.chunks = split(data)
	return e.pass(data, e.Write(e))
}

func (e *envoy) pass(data string, a Action) (string, Action) {
	if a.Take {
		data = ""
	}
	data += string(a.Put)
	if a.Stop {
		data = ""
	}
	return data, a
}

// split cuts in two, as Envoy may do anywhere.
func split(data string) [][]byte {
	return [][]byte{[]byte(data[:len(data)/2]), []byte(data[len(data)/2:])}
}

func TestConnectIsRewrittenOnceComplete(t *testing.T) {
	for sent, want := range map[string]string{
		connect311: known311, connect5: known5,
		connect5 + pingreq + longBegin: known5 + pingreq + longBegin,
	} {
		for size := 1; size <= len(sent); size++ {
			e := start(t, mqttConfig)
			var got string
			for part := range slices.Chunk([]byte(sent), size) {
				passed, a := e.read(string(part), false)
				got += passed
				if a.Close != Keep {
					t.Fatalf("in pieces of %d: closed, %s", size, a.Detail)
				}
				if got != "" && !strings.HasPrefix(got, want[:len(known311)-3]) {
					t.Fatalf("in pieces of %d: the broker got %q", size, got)
				}
			}
			if got != want {
				t.Errorf("in pieces of %d: the broker got %q, want %q", size, got, want)
			}
			open := link.Open{Connection: 7, Protocol: link.TCP, Session: "s", Hub: "h", Device: "d"}
			if len(e.links.opened) != 1 || e.links.opened[0] != open {
				t.Errorf("opened %+v, want it once", e.links.opened)
			}
		}
	}
}

func TestAnAnswerWithoutADeviceLetsNobodyIn(t *testing.T) {
	for _, key := range []string{keyHub, keyDevice, keyName} {
		e := start(t, mqttConfig)
		delete(e.metadata, key)
		if passed, a := e.read(connect311, false); passed != "" || a.Close != Now || a.Detail != "hubgate_no_identity" || len(e.links.opened) > 0 {
			t.Errorf("without %s: %q, %+v", key, passed, a)
		}
	}
}

func TestEnd(t *testing.T) {
	connack := "\x20\x03\x00\x87\x00"
	disconnect := "\xe0\x08\x87\x06\x1f\x00\x03why"
	for name, tc := range map[string]struct {
		before func(*envoy)
		device string
		close  Closing
	}{
		"before the CONNECT":     {func(e *envoy) { e.read(connect5[:5], false) }, "", Now},
		"3.1.1":                  {func(e *envoy) { e.read(connect311, false) }, "", Now},
		"before the CONNACK":     {func(e *envoy) { e.read(connect5, false) }, connack, Flush},
		"after it":               {func(e *envoy) { e.read(connect5, false); e.write(connack5) }, disconnect, Flush},
		"after another packet":   {func(e *envoy) { e.read(connect5, false); e.write(connack5 + pingreq) }, disconnect, Flush},
		"after no packet at all": {func(e *envoy) { e.read(connect5, false); e.write("\x30\xff\xff\xff\xff\xff") }, "", Now},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, mqttConfig)
			tc.before(e)
			e.End(0x87, "why")
			if e.woken.Load() != 1 {
				t.Fatalf("woken %d times, want once", e.woken.Load())
			}
			a := e.Scheduled(false)
			if string(a.Device) != tc.device || a.Close != tc.close || a.Detail != "hubgate_ended" {
				t.Errorf("%+v, want %q", a, tc.device)
			}
			if passed, a := e.read(pingreq, false); passed != "" || a.Close != Keep {
				t.Errorf("then the broker got %q", passed)
			}
			if passed, _ := e.write(pingreq); passed != "" {
				t.Errorf("then the device got %q", passed)
			}
			if a := e.Scheduled(false); a.Close != Keep || a.Device != nil {
				t.Errorf("then %+v", a)
			}
		})
	}
}

func TestEndInTheMidstOfAPacket(t *testing.T) {
	rest := strings.Repeat("x", 13) // of longBegin's packet
	synctest.Test(t, func(t *testing.T) {
		for _, comes := range []bool{true, false} {
			e := start(t, mqttConfig)
			e.read(connect5, false)
			e.write(connack5 + longBegin)
			e.End(0x98, "")
			if a := e.Scheduled(false); a.Close != Keep || a.Device != nil {
				t.Fatalf("%+v, want to wait for the packet's end", a)
			}
			if !comes {
				time.Sleep(2 * packetTimeout)
				synctest.Wait()
				if a := e.Scheduled(false); a.Close != Now || a.Device != nil {
					t.Errorf("%+v, want the end without a packet", a)
				}
				continue
			}
			if passed, _ := e.write(rest[:5]); passed != rest[:5] {
				t.Errorf("the device got %q, want %q", passed, rest[:5])
			}
			woken := e.woken.Load()
			if passed, _ := e.write(rest[5:] + pingreq); passed != rest[5:] {
				t.Errorf("the device got %q, want the packet's rest %q", passed, rest[5:])
			}
			if a := e.Scheduled(false); e.woken.Load() != woken+1 || string(a.Device) != "\xe0\x02\x98\x00" || a.Close != Flush {
				t.Errorf("%+v, want a last packet", a)
			}
			// A device that does not read it.
			time.Sleep(2 * flushTimeout)
			synctest.Wait()
			if a := e.Scheduled(false); a.Close != Now {
				t.Errorf("%+v, want the end", a)
			}
		}
	})
}

func TestTooLate(t *testing.T) {
	e := start(t, mqttConfig)
	e.read(connect5[:9], false)
	if a := e.Scheduled(true); a.Close != Now || a.Detail != "hubgate_connect_timeout" {
		t.Errorf("a part: %+v", a)
	}
	e = start(t, mqttConfig)
	e.read(connect5, false)
	if a := e.Scheduled(true); a.Close != Keep || e.shared.Device != Scan {
		t.Errorf("after the CONNECT: %+v", a)
	}
}

func TestHold(t *testing.T) {
	held := func(t *testing.T) *envoy {
		e := start(t, mqttConfig)
		e.metadata[keyHold] = "true"
		if passed, a := e.read(connect5+pingreq, false); passed != "" || a.Read != Pause || a.Close != Keep {
			t.Fatalf("%q, %+v; want it to be held", passed, a)
		}
		return e
	}
	t.Run("released", func(t *testing.T) {
		e := held(t)
		if passed, a := e.read("more", false); passed != "" || a.Take {
			t.Errorf("%q, %+v; want it to stay with Envoy", passed, a)
		}
		e.Release()
		if a := e.Scheduled(false); string(a.Broker) != known5+pingreq || a.Read != Resume || e.woken.Load() != 1 {
			t.Errorf("%+v, want what was held", a)
		}
		if passed, _ := e.read(pingreq, false); passed != pingreq {
			t.Errorf("then the broker got %q", passed)
		}
	})
	t.Run("released before it was complete", func(t *testing.T) {
		e := start(t, mqttConfig)
		e.metadata[keyHold] = "true"
		e.read(connect5[:3], false)
		e.Release()
		e.Scheduled(false)
		if passed, _ := e.read(connect5[3:], false); passed != known5 {
			t.Errorf("the broker got %q, want %q", passed, known5)
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := held(t)
			for range 9 {
				time.Sleep(time.Second)
				synctest.Wait()
				if a := e.Scheduled(false); a.Close != Keep || a.Broker != nil {
					t.Fatalf("%+v, want it to be held on", a)
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if a := e.Scheduled(false); string(a.Device) != "\x20\x03\x00\x88\x00" || a.Close != Flush || a.Detail != "hubgate_hold_timeout" {
				t.Errorf("%+v", a)
			}
		})
	})
	t.Run("link cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := held(t)
			e.links.down = unlinkedTimeout - 1
			time.Sleep(time.Second)
			synctest.Wait()
			if a := e.Scheduled(false); a.Close != Keep || a.Broker != nil {
				t.Fatalf("%+v, want it to be held on", a)
			}
			e.links.down = unlinkedTimeout
			time.Sleep(time.Second)
			synctest.Wait()
			if a := e.Scheduled(false); string(a.Broker) != known5+pingreq || a.Read != Resume {
				t.Errorf("%+v, want what was held", a)
			}
		})
	})
	t.Run("no link", func(t *testing.T) {
		e := start(t, mqttConfig)
		e.metadata[keyHold], e.links.down = "true", unlinkedTimeout
		if passed, a := e.read(connect5, false); passed != known5 || a.Read != AsBefore {
			t.Errorf("%q, %+v; want it to be let through", passed, a)
		}
	})
	t.Run("released, not held", func(t *testing.T) {
		e := start(t, mqttConfig)
		e.read(connect5, false)
		if e.Release(); e.woken.Load() != 0 {
			t.Error("it is woken in vain")
		}
	})
	t.Run("left", func(t *testing.T) {
		if passed, a := held(t).read("", true); passed != "" || a.Close != Now {
			t.Errorf("%q, %+v", passed, a)
		}
	})
	t.Run("ended", func(t *testing.T) {
		e := held(t)
		e.End(0x87, "")
		if a := e.Scheduled(false); string(a.Device) != "\x20\x03\x00\x87\x00" || a.Close != Flush {
			t.Errorf("%+v", a)
		}
	})
}

func TestHTTP(t *testing.T) {
	e := start(t, `{"role": "http", "link": {"addresses": ["127.0.0.1:1"]}}`)
	if want := (link.Open{Connection: 7, Protocol: link.HTTP}); len(e.links.opened) != 1 || e.links.opened[0] != want {
		t.Errorf("opened %+v, want it once", e.links.opened)
	}
	for _, data := range []string{"GET / HTTP/1.1\r\n", connect5 + connect5, ""} {
		if passed, _ := e.read(data, false); passed != data {
			t.Errorf("%q became %q", data, passed)
		}
		if passed, _ := e.write(data); passed != data {
			t.Errorf("%q became %q", data, passed)
		}
	}
	e.Release() // means nothing here
	if a := e.Scheduled(false); a.Close != Keep {
		t.Errorf("%+v", a)
	}
	e.End(0x98, "")
	if a := e.Scheduled(false); a.Close != Now || a.Device != nil {
		t.Errorf("%+v, want the end", a)
	}
}

func TestClosedIsClosed(t *testing.T) {
	e := start(t, mqttConfig)
	e.read(connect5, false)
	e.Closed()
	e.Closed()
	e.End(0x98, "") // came too late
	if a := e.Scheduled(false); a.Close != Keep || a.Device != nil {
		t.Errorf("%+v", a)
	}
	if passed, _ := e.read(pingreq, false); passed != "" {
		t.Errorf("the broker got %q", passed)
	}
	var never *Filter
	if a := never.Fail(); a.Close != Now {
		t.Errorf("%+v, want the end of a connection without a filter", a)
	}
}

// FuzzDevice: whatever a device sends, in whatever pieces, a broker gets one
// CONNECT, and it is ours.
func FuzzDevice(f *testing.F) {
	f.Add([]byte(connect5+pingreq+longBegin), 3)
	f.Add([]byte(connect311+connect311), 100)
	f.Add([]byte(connect5+"\x30\xff\xff\xff\xff"), 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		e := start(t, mqttConfig)
		var got []byte
		for part := range slices.Chunk(stream, max(1, size&0xFF)) {
			passed, a := e.read(string(part), false)
			got = append(got, passed...)
			if a.Close != Keep {
				break
			}
		}
		if len(got) == 0 {
			return
		}
		if !bytes.Contains(got, []byte("\x00\x03h/n")) || got[0] != 0x10 {
			t.Fatalf("the broker got %q", got)
		}
		for rest := got[1:]; ; { // the packets after it
			n, shift := 0, 0
			for len(rest) > 0 && shift < 28 {
				c := rest[0]
				rest, n, shift = rest[1:], n|int(c&0x7F)<<shift, shift+7
				if c < 0x80 {
					break
				}
			}
			if n >= len(rest) {
				return
			}
			if rest = rest[n:]; rest[0]&0xF0 == 0x10 {
				t.Fatalf("the broker got a second CONNECT: %q", got)
			}
			rest = rest[1:]
		}
	})
}
