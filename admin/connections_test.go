package admin

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/guard"
)

// open reports whether the other side has not ended a connection on which it has
// nothing to say.
func open(t *testing.T, c net.Conn) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// TestManySlowStrangers: whoever has all connections open that there may be, and
// says next to nothing, keeps nobody out that has a token, nor strangers from
// elsewhere, and ends no stream.
func TestManySlowStrangers(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{})
	secret := n.token("eye", access.Viewer, uuid.Nil)
	from := func(address string) *net.Dialer {
		return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 10 * time.Second}
	}
	dial := func(address, says string) net.Conn {
		t.Helper()
		c, err := from(address).Dial("tcp", n.address)
		if err == nil {
			_, err = io.WriteString(c, says)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ask := func(address string) (*http.Response, error) {
		transport := &http.Transport{DialContext: from(address).DialContext}
		t.Cleanup(transport.CloseIdleConnections)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.address+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Auth-Token", secret)
		return (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Do(request)
	}
	stream, err := ask("127.0.0.1")
	if err != nil || stream.StatusCode != http.StatusOK {
		t.Fatalf("%v %+v", err, stream)
	}
	defer func() { _ = stream.Body.Close() }()
	elsewhere := dial("127.0.0.3", "GET /v1/whoami HTTP/1.1\r\n")
	var slow []net.Conn
	for range maxConnections + 50 {
		slow = append(slow, dial("127.0.0.2", "GET /v1/whoami HTTP/1.1\r\nX-Slow: "))
	}
	// The next ones are let in, from wherever they come.
	for _, address := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.4"} {
		response, err := ask(address)
		if err != nil {
			t.Fatalf("from %s: %v", address, err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("from %s: %s", address, response.Status)
		}
	}
	if !open(t, elsewhere) {
		t.Error("a stranger from elsewhere was thrown out")
	}
	if open(t, slow[0]) {
		t.Error("the oldest stranger of many is still there")
	}
	if !open(t, slow[len(slow)-1]) {
		t.Error("the newest stranger was thrown out")
	}
	n.connect("a", "SN-1")
	told := make([]byte, 4<<10)
	if _, err := stream.Body.Read(told); err != nil {
		t.Errorf("the stream ended: %v", err)
	}
}
