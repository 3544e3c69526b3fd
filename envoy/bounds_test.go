package envoy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestFailsClosed: nobody listens where hubgate should be.
func TestFailsClosed(t *testing.T) {
	t.Parallel()
	e := startEdge(t, Options{
		HTTPS: &HTTPS{}, MQTT: &MQTT{}, Hubgate: Hubgate{Addresses: []string{nobody}},
	}, nil)
	status, body := send(t, e.connect(t, "device-1"), get("device-1", ""))
	if status != http.StatusServiceUnavailable {
		t.Errorf("answer %d %s, want 503", status, body)
	}
	assertUnasked(t, e, "device-1")

	conn := e.mqtt(t, e.device(t, "device-1"))
	if _, err := io.WriteString(conn, "CONNECT"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes, want the end of the connection", n)
	}
	if n := e.broker.connections(); n != 0 {
		t.Errorf("the broker got %d connections, want none", n)
	}
}

// TestReplicas ends and restarts the servers that Envoy asks.
func TestReplicas(t *testing.T) {
	t.Parallel()
	one, two := startAuthorizer(t), startAuthorizer(t)
	e := startEdge(t, Options{
		HTTPS: &HTTPS{}, MQTT: &MQTT{}, Hubgate: Hubgate{Addresses: []string{one.address, two.address}},
	}, one)
	conn := e.connect(t, "device-1")
	ask := func() int {
		status, _ := send(t, conn, get("", ""))
		return status
	}
	eventually(t, "a check at each replica", func() bool {
		return ask() == http.StatusOK && len(one.of("device-1")) > 0 && len(two.of("device-1")) > 0
	})
	one.stop()
	for range 20 { // before any health check could tell
		if status := ask(); status != http.StatusOK {
			t.Errorf("answer %d while a replica is left, want 200", status)
		}
	}
	two.stop()
	if status := ask(); status != http.StatusServiceUnavailable {
		t.Errorf("answer %d while no replica is left, want 503", status)
	}
	startAuthorizerAt(t, two.address)
	if status := ask(); status != http.StatusOK {
		t.Errorf("answer %d as soon as one is back, want 200", status)
	}
}

// TestBounds fills each limit up, one after the other, as connections count
// together.
func TestBounds(t *testing.T) {
	t.Parallel()
	e := startEdge(t, Options{
		HTTPS: &HTTPS{IdleTimeout: 5 * time.Second}, MQTT: &MQTT{MaxConnections: 2},
		MaxConnections: 4, HandshakeTimeout: time.Second,
	}, startAuthorizer(t))
	device := e.device(t, "device-1")
	dial := func(address string) (*tls.Conn, error) {
		return e.dial(t, address, "", &tls.Config{Certificates: []tls.Certificate{device}})
	}

	t.Run("a listener's connections", func(t *testing.T) {
		var open []*tls.Conn
		for range 2 {
			conn := e.mqtt(t, device)
			assertEcho(t, conn, "CONNECT")
			open = append(open, conn)
		}
		if _, err := dial(e.options.MQTT.Listen); err == nil {
			t.Error("a third connection was taken")
		}
		closeAll(t, open)
		eventually(t, "room for another connection", func() bool {
			conn, err := dial(e.options.MQTT.Listen)
			if err == nil {
				closeAll(t, []*tls.Conn{conn})
			}
			return err == nil
		})
	})
	t.Run("all connections", func(t *testing.T) {
		var open []*tls.Conn
		eventually(t, "four connections at once", func() bool {
			conn, err := dial(e.options.HTTPS.Listen)
			if err == nil {
				open = append(open, conn)
			}
			return len(open) == 4
		})
		if _, err := dial(e.options.HTTPS.Listen); err == nil {
			t.Error("a fifth connection was taken")
		}
		// They end by themselves, as no requests come.
		eventually(t, "the end of idle connections", func() bool {
			conn, err := dial(e.options.HTTPS.Listen)
			if err == nil {
				closeAll(t, []*tls.Conn{conn})
			}
			return err == nil
		})
		closeAll(t, open)
	})
	t.Run("a handshake", func(t *testing.T) {
		eventually(t, "the end of a connection that starts no handshake", func() bool {
			conn, err := net.Dial("tcp", e.options.MQTT.Listen)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			start := time.Now()
			_ = conn.SetDeadline(start.Add(10 * time.Second))
			_, err = conn.Read(make([]byte, 1))
			took := time.Since(start)
			return errors.Is(err, io.EOF) && took > 500*time.Millisecond && took < 5*time.Second
		})
	})
}

// closeAll resets connections. After a mere end of stream, Envoy would keep
// those that never sent anything: see MQTT.IdleTimeout.
func closeAll(t *testing.T, open []*tls.Conn) {
	t.Helper()
	for _, conn := range open {
		raw := conn.NetConn().(*net.TCPConn)
		_ = raw.SetLinger(0) // Envoy may have been first
		_ = raw.Close()
	}
}
