package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/envoy/module/mqtt"
)

const aheadConfig = `{"max_connect_bytes": 1024}`

// startAhead is a connection without TLS.
func startAhead(t *testing.T) *envoy {
	t.Helper()
	s, err := ParseAhead([]byte(aheadConfig))
	if err != nil {
		t.Fatal(err)
	}
	e := &envoy{state: make(map[string]string), links: &links{}}
	e.Filter = New(s, e.links, 7, &e.shared, e)
	t.Cleanup(e.Closed)
	return e
}

// connectAs is a CONNECT with credentials; nil is none.
func connectAs(t testing.TB, plain string, user, password []byte) string {
	t.Helper()
	c, err := mqtt.Parse([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	c.UserName, c.Password = user, password
	packet, err := c.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(packet)
}

func credentials(user, password string) string {
	hash := sha256.Sum256([]byte(password))
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(user)) + "." + encode(hash[:])
}

func TestAheadKeepsThePasswordBack(t *testing.T) {
	const user, secret = "factory/SN-1", "the secret"
	for _, plain := range []string{connect311, connect5} {
		sent := connectAs(t, plain, []byte(user), []byte(secret)) + pingreq + longBegin
		want := connectAs(t, plain, []byte(user), nil) + pingreq + longBegin
		for size := 1; size <= len(sent); size++ {
			e := startAhead(t)
			var got string
			for part := range slices.Chunk([]byte(sent), size) {
				passed, a := e.read(string(part), false)
				if got += passed; a.Close != Keep {
					t.Fatalf("closed: %s", a.Detail)
				}
				if passed != "" && e.state[CredentialsState] == "" {
					t.Fatal("the check comes before the credentials")
				}
				if e.shared.Device == Pass { // from here on, the shim lets everything pass
					got += sent[min(len(sent), len(got)+len(secret)+2):]
					break
				}
			}
			if got != want || e.state[CredentialsState] != credentials(user, secret) || e.shared.Broker != Pass {
				t.Fatalf("in pieces of %d the check gets\n%q, %q, want\n%q", size, got, e.state[CredentialsState], want)
			}
			if len(e.links.opened) != 0 {
				t.Fatal("it has a session")
			}
		}
	}
}

func TestAheadWithoutCredentials(t *testing.T) {
	for name, sent := range map[string]string{
		"none":               connect5,
		"a user name alone":  connectAs(t, connect311, []byte("user"), nil),
		"a password alone":   connectAs(t, connect5, nil, []byte("secret")),
		"an empty user name": connectAs(t, connect5, []byte{}, []byte("secret")),
		"a long user name":   connectAs(t, connect5, bytes.Repeat([]byte("u"), maxUserName+1), []byte("secret")),
	} {
		e := startAhead(t)
		passed, a := e.read(sent, false)
		if len(e.state) != 0 || a.Close != Keep || strings.Contains(passed, "secret") || passed == "" {
			t.Errorf("%s: state %q, passed %q, %+v", name, e.state, passed, a)
		}
	}
	e := startAhead(t)
	if e.read(connectAs(t, connect5, bytes.Repeat([]byte("u"), maxUserName), []byte("")), false); len(e.state) != 1 {
		t.Error("the longest user name, an empty password: no credentials")
	}
}

func TestAheadRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		sent   string
		end    bool
		detail string
		told   string
	}{
		"no MQTT":         {"GET / HTTP/1.1\r\n", false, "hubgate_bad_connect", ""},
		"a long CONNECT":  {"\x10\xff\x7f\x00\x04MQTT\x05", false, "hubgate_bad_connect", "\x20\x03\x00\x95\x00"},
		"malformed":       {"\x10\x0e\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x01c", false, "hubgate_bad_connect", "\x20\x03\x00\x81\x00"},
		"nothing":         {"", true, "hubgate_no_connect", ""},
		"half of it":      {connect5[:5], true, "hubgate_no_connect", ""},
		"it comes late":   {connect5[:5], false, "hubgate_connect_timeout", ""},
		"late, and empty": {"", false, "hubgate_connect_timeout", ""},
	} {
		e := startAhead(t)
		passed, a := e.read(tt.sent, tt.end)
		if a.Close == Keep {
			a = e.Scheduled(true)
		}
		if passed != "" || a.Close == Keep || a.Detail != tt.detail || string(a.Device) != tt.told || len(e.state) != 0 {
			t.Errorf("%s: passed %q, %+v, state %q", name, passed, a, e.state)
		}
	}
	// Once it is done, being late means nothing.
	e := startAhead(t)
	if e.read(connect5, false); e.Scheduled(true).Close != Keep {
		t.Error("closed after its CONNECT")
	}
}

// FuzzAhead: whatever a stranger sends, in whatever pieces, nothing passes before
// a whole CONNECT, no password passes, and the credentials are those of the
// CONNECT.
func FuzzAhead(f *testing.F) {
	f.Add([]byte(connectAs(f, connect5, []byte("factory/SN-1"), []byte("the secret"))+pingreq), 3)
	f.Add([]byte(connectAs(f, connect311, []byte("u"), nil)), 100)
	f.Add([]byte(connect5+connect5), 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		e := startAhead(t)
		for part := range slices.Chunk(stream, max(1, size&0xFF)) {
			passed, a := e.read(string(part), false)
			if a.Close != Keep {
				if passed != "" {
					t.Fatalf("refused, and passed %q", passed)
				}
				return
			}
			if passed == "" {
				continue
			}
			packet, _, err := mqtt.Split([]byte(passed), 1<<20)
			if err != nil || packet == nil {
				t.Fatalf("passed %q: %v", passed, err)
			}
			c, err := mqtt.Parse(packet)
			if err != nil || c.Password != nil {
				t.Fatalf("passed %q: %v", passed, err)
			}
			original, _, _ := mqtt.Split(stream, 1<<20)
			sent, err := mqtt.Parse(original)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if sent.Password != nil && len(sent.UserName) > 0 && len(sent.UserName) <= maxUserName {
				want = credentials(string(sent.UserName), string(sent.Password))
			}
			if e.state[CredentialsState] != want {
				t.Fatalf("credentials %q, want %q", e.state[CredentialsState], want)
			}
			return
		}
	})
}

// TestAheadNeedsNoLink: its configuration starts nothing.
func TestAheadNeedsNoLink(t *testing.T) {
	l := NewLibrary(slog.New(slog.DiscardHandler))
	if s, err := l.Configure(Credentials, []byte(`{}`), true, 1); err != nil || l.client != nil || s.Keeps() != nil ||
		s.ConnectTimeout != DefaultConnectTimeout || s.MaxConnect != DefaultMaxConnect {
		t.Errorf("%+v, %v", s, err)
	}
}
