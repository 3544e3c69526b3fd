package envoy

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
)

// TestModuleRefuses: what is no proper MQTT ends, in MQTT's words where it has
// some, and the broker hears nothing of it.
func TestModuleRefuses(t *testing.T) {
	t.Parallel()
	e, h := startModule(t, Options{Module: &Module{ConnectTimeout: 700 * time.Millisecond, MaxConnect: 1024}})
	large := strings.Repeat("x", 1024)
	for name, tc := range map[string]struct {
		sends string
		want  string
	}{
		"device-http":           {"GET / HTTP/1.1\r\n\r\n", ""},
		"device-publish":        {packet(0x30, str("t")), ""},
		"device-old":            {packet(0x10, str("MQIsdp")+"\x03\x02\x00\x3c"+str("c")), "\x20\x02\x00\x01"},
		"device-malformed-311":  {packet(0x10, str("MQTT")+"\x04\x03\x00\x3c"+str("c")), ""},
		"device-malformed-5":    {packet(0x10, str("MQTT")+"\x05\x03\x00\x3c\x00"+str("c")), "\x20\x03\x00\x81\x00"},
		"device-method":         {packet(0x10, str("MQTT")+"\x05\x02\x00\x3c\x06\x15"+str("abc")+str("c")), "\x20\x03\x00\x8c\x00"},
		"device-large-311":      {connectPacket(mqtt311, large)[:20], ""},
		"device-large-5":        {connectPacket(mqtt5, large)[:20], "\x20\x03\x00\x95\x00"},
		"device-second-at-once": {connectPacket(mqtt5, "c") + connectPacket(mqtt5, "c"), "\x20\x03\x00\x82\x00"},
		"device-slow":           {connectPacket(mqtt5, "c")[:12], ""},
		"device-silent":         {"", ""},
	} {
		before := e.broker.connections()
		conn := e.dialMQTT(t, name)
		start := time.Now()
		write(t, conn, tc.sends)
		if got, err := io.ReadAll(conn); string(got) != tc.want || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s read %q, %v; want %q", name, got, err, tc.want)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
		if n := e.broker.connections() - before; n != 0 {
			t.Errorf("%s: the broker got %d connections", name, n)
		}
	}
	t.Run("a stream without a byte", func(t *testing.T) {
		conn := e.dialMQTT(t, "device-empty")
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		assertClosed(t, conn)
	})
	t.Run("a second CONNECT", func(t *testing.T) { secondConnect(t, e, h) })
	eventually(t, "the end of all of them", func() bool { return h.find(func(*link.Open) bool { return true }) == nil })
	for _, detail := range []string{"hubgate_bad_connect", "hubgate_connect_timeout", "hubgate_protocol_error", "hubgate_no_connect"} {
		eventually(t, detail+" in the access log", func() bool { return strings.Contains(e.envoy.Output(), `"details":"`+detail) })
	}
}

func secondConnect(t *testing.T, e *edge, h *hub) {
	for name, tc := range map[string]struct {
		version byte
		answer  string
		want    string
	}{
		"device-second-311":   {mqtt311, "\x20\x02\x00\x00", ""},
		"device-second-5":     {mqtt5, "\x20\x03\x00\x00\x00", "\xe0\x15\x82\x13\x1f" + str("a second CONNECT")},
		"device-second-early": {mqtt5, "", "\x20\x03\x00\x82\x00"},
	} {
		conn, _ := h.established(t, e, name, tc.version)
		assertEcho(t, conn, tc.answer+packet(0x30, str("t")+connectPacket(mqtt5, "c")))
		second := connectPacket(tc.version, "another")
		write(t, conn, second[:1])
		write(t, conn, second[1:])
		if got, err := io.ReadAll(conn); string(got) != tc.want || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s read %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

// TestModulePanic: a mistake of ours costs one connection, not Envoy.
func TestModulePanic(t *testing.T) {
	t.Parallel()
	library, err := buildTripped()
	if err != nil {
		t.Fatal(err)
	}
	e, h := startModule(t, Options{Module: &Module{Library: library}})
	other, _ := h.established(t, e, "device-other", mqtt5)
	conn := e.dialMQTT(t, "device-trip")
	write(t, conn, connectPacket(mqtt5, "trip"))
	assertClosed(t, conn)
	assertEcho(t, other, "\xc0\x00")
	if output := e.envoy.Output(); !strings.Contains(output, "tripped on purpose") || !strings.Contains(output, "filter.trip") {
		t.Errorf("Envoy's log does not say where it happened:\n%s", output)
	}
	eventually(t, "the end of the connection", func() bool {
		return h.find(func(o *link.Open) bool { return o.Session == "session of device-trip" }) == nil
	})
}

// TestModuleConfiguration: what is wrong keeps Envoy from starting, by name.
func TestModuleConfiguration(t *testing.T) {
	t.Parallel()
	library, err := buildLibrary()
	if err != nil {
		t.Fatal(err)
	}
	v := newVendor(t)
	o := Options{Certificates: []KeyPair{v.server(t)}, Module: &Module{Library: library}}
	good, err := Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Module = &Module{Library: library, TLS: &ClientTLS{CA: "/nowhere.pem"}}
	noCA, err := Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := validateConfig(t, string(noCA)); err == nil || !strings.Contains(out, "filter_config: link.tls: ca: ") {
		t.Errorf("%v, want an end that names link.tls:\n%s", err, out)
	}
	for want, edit := range map[string][2]string{
		"filter_config: role: ":            {"role: mqtt", "role: amqp"},
		"filter_config: username: ":        {"username: \"{hub_id}/{device_name}\"", "username: device"},
		"filter_config: client_id: ":       {"client_id: \"{device_id}-{client_id}\"", "client_id: \"{client}\""},
		"filter_config: connect_timeout: ": {" connect_timeout: 10s", " connect_timeout: soon"},
		"filter_config: max_connect_bytes": {"max_connect_bytes: 65536", "max_connect_bytes: 1"},
		"link.addresses[0]: ":              {"\"127.0.0.1:9194\"", "nowhere"},
		"unknown field \\\"links\\\"":      {"link:", "links:"},
		"filter_name: ":                    {"filter_name: session", "filter_name: sessions"},
		"validator_name: ":                 {"validator_name: chain", "validator_name: chains"},
	} {
		config := strings.Replace(string(good), edit[0], edit[1], 1)
		if config == string(good) {
			t.Fatalf("%q is not in the configuration:\n%s", edit[0], good)
		}
		if out, err := validateConfig(t, config); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, want an end that names %s:\n%s", edit[1], err, want, out)
		}
	}
	out, err := validateConfig(t, string(good))
	if err != nil || strings.Contains(out, "no link to hubgate") || strings.Contains(out, "[warning]") {
		t.Errorf("%v, want silence, and no link of a mere check:\n%s", err, out)
	}
	kept := strings.Replace(string(good), "username: \"{hub_id}/{device_name}\"", "username: keep", 1)
	if out, err := validateConfig(t, kept); err != nil || !strings.Contains(out, "filter_config=username format=keep") {
		t.Errorf("%v, want a warning about username:\n%s", err, out)
	}
}

func validateConfig(t *testing.T, config string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, envoyPath(t), "--mode", "validate", "--log-level", "warn", "-c", file).CombinedOutput()
	return string(out), err
}
