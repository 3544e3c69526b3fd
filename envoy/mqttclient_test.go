package envoy

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/process"
)

// Versions of MQTT in a CONNECT.
const (
	mqtt311 = 4
	mqtt5   = 5
)

// packet puts a body behind its first byte and its length.
func packet(first byte, body string) string {
	var length []byte
	for n := len(body); ; n >>= 7 {
		if n < 0x80 {
			length = append(length, byte(n))
			break
		}
		length = append(length, byte(n)|0x80)
	}
	return string([]byte{first}) + string(length) + body
}

// str is a string of MQTT.
func str(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }

// connectPacket is a CONNECT with nothing but a client ID.
func connectPacket(version byte, clientID string) string {
	properties := ""
	if version == mqtt5 {
		properties = "\x00"
	}
	return packet(0x10, str("MQTT")+string([]byte{version, 2, 0, 60})+properties+str(clientID))
}

// fullConnect has all that a CONNECT may have.
func fullConnect(version byte, clientID, userName, password string) string {
	properties, willProperties := "", ""
	flags := byte(0x02 | 0x04 | 0x08 | 0x20)
	if version == mqtt5 {
		properties = "\x11\x00\x00\x00\x0a\x21\x00\x14\x26" + str("key") + str("value")
		properties = string([]byte{byte(len(properties))}) + properties
		willProperties = "\x05\x18\x00\x00\x00\x05"
	}
	body := willProperties + str("last/words") + str("\x00\xff\x10")
	if userName != "" {
		flags |= 0x80
		body += str(userName)
	}
	if password != "" {
		flags |= 0x40
		body += str(password)
	}
	return packet(0x10, str("MQTT")+string([]byte{version, flags, 0, 60})+properties+str(clientID)+body)
}

// identified is a packet's client ID and user name as brokers see them.
func identified(name, clientID string) (id, userName string) {
	return deviceID + "-" + clientID, hubID + "/" + name
}

func write(t testing.TB, conn io.Writer, data string) {
	t.Helper()
	if _, err := io.WriteString(conn, data); err != nil {
		t.Fatal(err)
	}
}

// readPacket gives the next packet's first byte and body.
func readPacket(conn io.Reader) (byte, string, error) {
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return 0, "", err
	}
	first, length := b[0], 0
	for shift := 0; ; shift += 7 {
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return 0, "", err
		}
		length |= int(b[0]&0x7F) << shift
		if b[0] < 0x80 {
			break
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(conn, body)
	return first, string(body), err
}

// assertPacket reads one packet.
func assertPacket(t testing.TB, conn io.Reader, first byte, body string) {
	t.Helper()
	gotFirst, gotBody, err := readPacket(conn)
	if err != nil || gotFirst != first || gotBody != body {
		t.Fatalf("packet %#x %q, %v; want %#x %q", gotFirst, gotBody, err, first, body)
	}
}

// assertClosed reads the end of a connection, and nothing before it.
func assertClosed(t testing.TB, conn *tls.Conn) {
	t.Helper()
	n, err := conn.Read(make([]byte, 1))
	if timeout := (interface{ Timeout() bool })(nil); n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}

// dialMQTT is a device's connection of which nothing was sent yet.
func (e *edge) dialMQTT(t testing.TB, name string) *tls.Conn {
	t.Helper()
	return e.mqtt(t, e.device(t, name))
}

// startMosquitto runs a real broker with an ACL by user name.
func startMosquitto(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			t.Fatal("mosquitto is missing; install it with: apt-get install mosquitto")
		}
	}
	address := freeAddresses(t, 1)[0]
	dir := t.TempDir()
	acl := filepath.Join(dir, "acl")
	config := filepath.Join(dir, "mosquitto.conf")
	port := address[strings.LastIndex(address, ":")+1:]
	for file, content := range map[string]string{
		acl:    "pattern readwrite %u/#\n",
		config: fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nacl_file %s\nuser root\n", port, acl),
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := process.Start(ctx, process.Spec{
		Name: "mosquitto", Path: path, Args: []string{"-c", config}, Ready: process.Accepts(address),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Stop()
		if t.Failed() {
			t.Logf("mosquitto:\n%s", p.Output())
		}
	})
	return address
}
