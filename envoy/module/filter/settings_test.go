package filter

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	s, err := ParseSettings([]byte(`{
		"role": "mqtt", "node": "edge-1", "link": {"addresses": ["hubgate:9194", "unix:///run/hubgate.sock"]},
		"username": "{device_id}", "client_id": "keep", "connect_timeout": "1m", "max_connect_bytes": 2048}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.HTTP || s.node != "edge-1" || len(s.link.Addresses) != 2 || s.ConnectTimeout != time.Minute || s.MaxConnect != 2048 ||
		s.userName.expand(identity{device: "d"}, "") != "d" || !slices.Equal(s.Keeps(), []string{"client_id"}) {
		t.Errorf("%+v", s)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = ParseSettings([]byte(mqttConfig)); err != nil || s.node != host || s.ConnectTimeout != DefaultConnectTimeout ||
		s.MaxConnect != DefaultMaxConnect || s.Keeps() != nil {
		t.Errorf("defaults: %+v, %v", s, err)
	}
	who := identity{hub: "h", device: "d", name: "n"}
	if user, id := s.userName.expand(who, ""), s.clientID.expand(who, "{device_id}"); user != "h/n" || id != "d-{device_id}" {
		t.Errorf("default formats make %q, %q", user, id)
	}
}

func TestSettingsNameEveryMistake(t *testing.T) {
	good := `"role": "mqtt", "link": {"addresses": ["127.0.0.1:9194"]}`
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string]string{
		``:                            "it is empty",
		`{`:                           "unexpected EOF",
		`[]`:                          "cannot unmarshal array",
		`{} {}`:                       "more than one JSON object",
		`{` + good + `, "user": "x"}`: `unknown field "user"`,
		`{}`:                          "role: \"\" is neither mqtt nor http\nlink.addresses: none is given",
		`{"role": "http", "username": "keep", "link": {"addresses": ["a:1"]}}`: "role: username, client_id, connect_timeout and max_connect_bytes are for role mqtt",
		`{"role": 1}`:                                                                                  "role of type string",
		`{` + good + `, "username": "{hub_id}"}`:                                                       `username: "{hub_id}": needs {device_id}, or both {hub_id} and {device_name}, as devices could pass for each other`,
		`{` + good + `, "username": "{hub_id}/{client_id}"}`:                                           `username: "{hub_id}/{client_id}": {client_id} is none of {hub_id}, {device_id}, {device_name}`,
		`{` + good + `, "client_id": "{device_id"}`:                                                    `client_id: "{device_id": a brace that is not closed`,
		`{` + good + `, "client_id": "device_id}{device_id}"}`:                                         `client_id: "device_id}{device_id}": a brace that was not opened`,
		`{` + good + `, "client_id": "{device_id}#"}`:                                                  `client_id: "{device_id}#": only printable ASCII without ' ', '+' and '#' is safe with every broker`,
		`{` + good + `, "client_id": "{hub_id}/{device_name}-{client_id}"}`:                            `client_id: "{hub_id}/{device_name}-{client_id}": a device could pass for another`,
		`{` + good + `, "client_id": ""}`:                                                              `client_id: "": needs`,
		`{` + good + `, "connect_timeout": "0s"}`:                                                      "connect_timeout: 0s is not within 0 and 10m0s",
		`{` + good + `, "connect_timeout": "11m"}`:                                                     "connect_timeout: 11m0s is not within 0 and 10m0s",
		`{` + good + `, "connect_timeout": "soon"}`:                                                    `connect_timeout: time: invalid duration "soon"`,
		`{` + good + `, "max_connect_bytes": 1023}`:                                                    "max_connect_bytes: 1023 is not within 1024 and 1048576",
		`{` + good + `, "max_connect_bytes": 1048577}`:                                                 "max_connect_bytes: 1048577 is not within 1024 and 1048576",
		`{"role": "mqtt", "link": {"addresses": ["unix://a"]}}`:                                        `link.addresses[0]: "unix://a" is not unix:///path`,
		`{"role": "mqtt", "link": {"addresses": ["a:0", "a"]}}`:                                        "link.addresses[0]: \"a:0\" is neither host:port nor unix:///path\nlink.addresses[1]: \"a\" is neither",
		`{"role": "mqtt", "link": {"addresses": ["a:1"], "tls": {"certificate": "c"}}}`:                "link.tls: certificate and key belong together",
		`{"role": "mqtt", "link": {"addresses": ["a:1"], "tls": {"ca": "/nowhere"}}}`:                  "link.tls: ca: open /nowhere",
		fmt.Sprintf(`{"role": "mqtt", "link": {"addresses": ["a:1"], "tls": {"ca": %q}}}`, garbage):    "link.tls: ca: no certificate in " + garbage,
		`{"role": "mqtt", "link": {"addresses": ["a:1"], "tls": {"ca": "/nowhere", "verify": false}}}`: `unknown field "verify"`,
	} {
		if _, err := ParseSettings([]byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

func TestLibrary(t *testing.T) {
	var lines bytes.Buffer
	l := NewLibrary(NewLog(func(_ slog.Level, line string) { fmt.Fprintln(&lines, line) }))
	if other := NewLibrary(slog.New(slog.DiscardHandler)); len(l.Epoch()) != 32 || l.Epoch() == other.Epoch() {
		t.Errorf("epochs %s, %s", l.Epoch(), other.Epoch())
	}
	for config, want := range map[string]string{
		`{"role": "amqp"}`: "filter_config: role: \"amqp\" is neither mqtt nor http; link.addresses: none is given",
	} {
		if _, err := l.Configure(Session, []byte(config), false, 1); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if s, err := l.Configure(Credentials, []byte(aheadConfig), true, 1); err != nil || !s.Ahead || s.MaxConnect != 1024 || l.client != nil {
		t.Errorf("%+v, %v; want the filter ahead of the check, without a link", s, err)
	}
	if _, err := l.Configure(Credentials, []byte(`{"connect_timeout": "soon", "max_connect_bytes": 1}`), true, 1); err == nil ||
		err.Error() != `filter_config: connect_timeout: time: invalid duration "soon"; max_connect_bytes: 1 is not within 1024 and 1048576` {
		t.Errorf("%v, want both mistakes", err)
	}
	if _, err := l.Configure(Credentials, []byte(mqttConfig), true, 1); err == nil || !strings.Contains(err.Error(), "unknown field") {
		t.Errorf("%v, want one about a field that it has not", err)
	}
	if _, err := l.Configure("other", []byte(mqttConfig), false, 1); err == nil || !strings.HasPrefix(err.Error(), "filter_name: ") {
		t.Errorf("%v, want filter_name", err)
	}
	kept := strings.Replace(mqttConfig, `{"role"`, `{"username": "keep", "role"`, 1)
	if _, err := l.Configure(Session, []byte(kept), false, 1); err != nil || l.client != nil {
		t.Errorf("%v; want a check alone to start nothing", err)
	}
	if want := "hubgate: msg=\"devices choose their own identity at the broker\" filter_config=username format=keep\n"; lines.String() != want {
		t.Errorf("logged %q, want %q", lines.String(), want)
	}
	if err := CheckChainConfig(nil); err != nil {
		t.Error(err)
	}
	if err := CheckChainConfig([]byte(`{"limit": 3}`)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("%v, want one about limit", err)
	}
}

func TestLog(t *testing.T) {
	var got []string
	log := NewLog(func(level slog.Level, line string) { got = append(got, level.String()+" "+line) })
	log.Debug("nobody reads this")
	log.With("address", "a:1").Warn("no link", "error", context.Canceled)
	if want := []string{`WARN hubgate: msg="no link" address=a:1 error="context canceled"`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
