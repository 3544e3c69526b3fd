package record_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

const sessionText = "019a5f0e-7c1a-7b6e-8f00-0123456789ab"

// The samples behind session.v1.bin and session-new.v1.bin, under the same rule
// as the others.
func sampleSession() provision.Session {
	since := time.Unix(1_790_000_000, 123).UTC()
	return provision.Session{
		ID: sessionText, Hub: hubID, Device: provision.DeviceIDOf(hubID, "SN-0001"), DeviceName: "SN-0001",
		Protocol: provision.TCP, Envoy: provision.EnvoyID{Node: "edge-1", Epoch: "9f86d081884c7d65"}, Connection: 4711,
		Source: netip.MustParseAddr("2001:db8::7"), Since: since, Confirmed: true, LastActivity: since.Add(time.Minute),
	}
}

// sampleSession2 has everything that schema 2 added.
func sampleSession2() provision.Session {
	s := sampleSession()
	s.Secret, s.Custom, s.Unended = provision.SecretMark{9}, true, provision.EndElsewhere
	return s
}

// newSession is a session as a check makes it, of an Envoy without the module.
func newSession() provision.Session {
	s := sampleSession()
	s.Envoy, s.Source, s.Confirmed, s.LastActivity = provision.EnvoyID{}, netip.MustParseAddr("192.0.2.7"), false, s.Since
	return s
}

// chainSession is one whose chain is known.
func chainSession() provision.Session {
	s := sampleSession()
	s.Certificates, s.Expires = []trust.RevocationID{{1, 2}, {3}}, time.Unix(1_800_000_000, 0).UTC()
	s.Anchor = trust.KeyHash{7}
	return s
}

func sessionID(t *testing.T) record.SessionID {
	t.Helper()
	id, err := record.ParseSessionID(sessionText)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestEverySchemaOfSessionsIsRead(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]provision.Session{
		"session.v1.bin": sampleSession(), "session-new.v1.bin": newSession(),
		"session.v2.bin": sampleSession2(), "session-new.v2.bin": newSession(), "session-chain.v2.bin": chainSession(),
	} {
		path := filepath.Join("testdata", name)
		if strings.Contains(name, ".v2.") {
			b, err := record.EncodeSession(want)
			if err == nil && os.Getenv("HUBGATE_RENEW") != "" {
				err = os.WriteFile(path, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if golden, err := os.ReadFile(path); err != nil || string(b) != string(golden) {
				t.Errorf("%s: %v, encoded as\n%x, golden is\n%x", name, err, b, golden)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := record.DecodeSession(hubID, sessionID(t), golden); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, want)
		}
	}
}

func TestASessionIsSmall(t *testing.T) {
	t.Parallel()
	b, err := record.EncodeSession(sampleSession())
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 90 {
		t.Errorf("a session takes %d bytes, more than 90", len(b))
	}
}

func TestSessionFieldsOfANewerSchemaSurvive(t *testing.T) {
	t.Parallel()
	b, err := record.EncodeSession(sampleSession())
	if err != nil {
		t.Fatal(err)
	}
	newer := protowire.AppendString(protowire.AppendTag(b, 1000, protowire.BytesType), "from the future")
	s, err := record.DecodeSession(hubID, sessionID(t), newer)
	if err != nil {
		t.Fatal(err)
	}
	s.Confirmed = false
	again, err := record.EncodeSession(s)
	if err != nil {
		t.Fatal(err)
	}
	s, err = record.DecodeSession(hubID, sessionID(t), again)
	if err != nil || len(s.Unknown) == 0 || s.Confirmed {
		t.Errorf("after a rewrite: %v, unknown %q", err, s.Unknown)
	}
}

func TestWhatIsNoSessionIsRefused(t *testing.T) {
	t.Parallel()
	schema := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	named := protowire.AppendString(protowire.AppendTag(schema, 2, protowire.BytesType), "SN")
	for name, b := range map[string][]byte{
		"empty":              {},
		"garbage":            []byte("garbage"),
		"no device":          schema,
		"mark of 3 bytes":    protowire.AppendBytes(protowire.AppendTag(named, 11, protowire.BytesType), []byte{1, 2, 3}),
		"address of 3 bytes": protowire.AppendBytes(protowire.AppendTag(named, 7, protowire.BytesType), []byte{1, 2, 3}),
	} {
		if _, err := record.DecodeSession(hubID, sessionID(t), b); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	for _, id := range []string{"", "s-1", strings.ToUpper(sessionText), "{" + sessionText + "}"} {
		s := sampleSession()
		s.ID = id
		if _, err := record.CheckSession(s); err == nil {
			t.Errorf("session ID %q is accepted", id)
		}
	}
	s := sampleSession()
	s.DeviceName = "SN-0002"
	if _, err := record.CheckSession(s); !errors.Is(err, provision.ErrNotFound) {
		t.Errorf("session of a device of another name: %v, want ErrNotFound", err)
	}
}

// FuzzDecodeSession: what decodes, encodes to something that decodes to the same.
func FuzzDecodeSession(f *testing.F) {
	for _, name := range []string{"session.v1.bin", "session-new.v1.bin", "session.v2.bin"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := record.DecodeSession(hubID, sessionID(t), b)
		if err != nil {
			return
		}
		enc, err := record.EncodeSession(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := record.DecodeSession(hubID, sessionID(t), enc); err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, again, s)
		}
	})
}
