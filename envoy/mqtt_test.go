package envoy

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestMQTT is what one Envoy does with connections that are not HTTP. The
// broker of the test only echoes: Envoy does not read MQTT.
func TestMQTT(t *testing.T) {
	t.Parallel()
	e := startEdge(t, Options{
		HTTPS: &HTTPS{}, MQTT: &MQTT{IdleTimeout: time.Second}, AccessLog: true,
		Hubgate: Hubgate{CheckTimeout: 500 * time.Millisecond},
	}, startAuthorizer(t))

	// One after the other: each looks at the broker's count of connections.
	for _, name := range []string{"denied-mqtt", "faulty-mqtt", "hanging-mqtt", ""} {
		t.Run("no entry for "+name, func(t *testing.T) { refusedConnection(t, e, name) })
	}
	t.Run("entry", func(t *testing.T) { admittedConnection(t, e) })
	t.Run("resumption keeps the fingerprints", func(t *testing.T) { resumedConnection(t, e) })
	t.Run("early data waits", func(t *testing.T) { earlyData(t, e) })
	t.Run("silence ends", func(t *testing.T) { silentConnection(t, e) })
	t.Run("an empty stream is checked", func(t *testing.T) { emptyConnection(t, e) })
}

func (e *edge) mqtt(t testing.TB, device ...tls.Certificate) *tls.Conn {
	t.Helper()
	return e.mustDial(t, e.options.MQTT.Listen, "", &tls.Config{Certificates: device, NextProtos: []string{"mqtt"}})
}

// refusedConnection: the broker hears nothing, the device gets an alert where
// hubgate decided so. No name stands for no certificate.
func refusedConnection(t *testing.T, e *edge, name string) {
	var device []tls.Certificate
	if name != "" {
		device = append(device, e.device(t, name))
	}
	before := e.broker.connections()
	conn := e.mqtt(t, device...)
	if _, err := io.WriteString(conn, "CONNECT"); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1))
	if err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("device got %v, want the alert access_denied", err)
	}
	if after := e.broker.connections(); after != before {
		t.Errorf("the broker got %d connections", after-before)
	}
}

func admittedConnection(t *testing.T, e *edge) {
	const name = "device-mqtt"
	device := e.device(t, name)
	before := e.broker.connections()
	conn := e.mqtt(t, device)
	if got := conn.ConnectionState().NegotiatedProtocol; got != "mqtt" {
		t.Errorf("ALPN %q, want mqtt", got)
	}
	assertEcho(t, conn, "CONNECT")
	assertEcho(t, conn, "PUBLISH")
	if after := e.broker.connections(); after != before+1 {
		t.Errorf("the broker got %d connections, want 1", after-before)
	}

	check := e.authorizer.one(t, name)
	leaf, err := check.leaf()
	if err != nil || !leaf.Equal(device.Leaf) {
		t.Errorf("source.certificate: %v, %v; want the leaf", leaf, err)
	}
	if got := check.attributes.GetTlsSession().GetSni(); got != "factory.iot.example.com" {
		t.Errorf("SNI %q", got)
	}
	if check.attributes.GetRequest().GetHttp() != nil {
		t.Error("a connection was taken for a request")
	}
	assertMetadata(t, check, device)

	// The identity is there for later filters, and here for the access log.
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection's identity in the access log", func() bool {
		for line := range strings.Lines(e.envoy.Output()) {
			if strings.Contains(line, fmt.Sprintf(`"connection":%s,`, check.metadata["hubgate-connection"][0])) {
				return strings.Contains(line, `"device_id":"`+deviceID) && strings.Contains(line, `"hub_id":"`+hubID)
			}
		}
		return false
	})
}

func resumedConnection(t *testing.T, e *edge) {
	const name = "device-mqtt-resumed"
	device := e.device(t, name)
	config := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1), Certificates: []tls.Certificate{device}}
	for i := range 2 {
		conn := e.mustDial(t, e.options.MQTT.Listen, "", config)
		assertEcho(t, conn, "CONNECT")
		if conn.ConnectionState().DidResume != (i == 1) {
			t.Errorf("connection %d: resumed %t", i, conn.ConnectionState().DidResume)
		}
	}
	resumed := e.authorizer.of(name)[1]
	if _, err := resumed.leaf(); err != nil {
		t.Error(err)
	}
	assertMetadata(t, resumed, device)
}

// earlyData sends more at once than Envoy buffers; nothing may be lost.
func earlyData(t *testing.T, e *edge) {
	conn := e.mqtt(t, e.device(t, "device-mqtt-early"))
	text := strings.Repeat("0123456789abcdef", 4*bufferLimit/16)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, text)
		sent <- err
	}()
	back := make([]byte, len(text))
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != text {
		t.Errorf("%v; or the echo is another", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// silentConnection: without a byte there is no check, only the idle timeout.
func silentConnection(t *testing.T, e *edge) {
	const name = "device-mqtt-silent"
	before := e.broker.connections()
	conn := e.mqtt(t, e.device(t, name))
	start := time.Now()
	if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("read %v after %s, want the end of the connection", err, time.Since(start))
	}
	if len(e.authorizer.of(name)) != 0 || e.broker.connections() != before {
		t.Error("a silent connection was checked or forwarded")
	}
}

// emptyConnection: the end of a stream asks hubgate as a byte would, and then
// Envoy waits for data that cannot come.
func emptyConnection(t *testing.T, e *edge) {
	const name = "device-mqtt-empty"
	before := e.broker.connections()
	conn := e.mqtt(t, e.device(t, name))
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("read %v after %s, want the end of the connection", err, time.Since(start))
	}
	e.authorizer.one(t, name)
	if e.broker.connections() != before {
		t.Error("an empty connection was forwarded")
	}
}
