package admin

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/guard"
)

// TestSlow has clients that never finish. Each is cut off, and others are
// answered meanwhile.
func TestSlow(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{})
	secret := n.token("boss", access.Admin, uuid.Nil)
	before := n.state()
	done := make(chan string, 2)
	for name, begin := range map[string]string{
		"headers": "POST /v1/hubs HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
		"body": "POST /v1/hubs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Auth-Token: " + secret +
			"\r\nContent-Length: 100000\r\n\r\n{\"name\":\"",
	} {
		go func() { done <- name + drip(t.Context(), n.address, begin) }()
	}
	if response, text := n.ask("GET", "/v1/whoami", "", "X-Auth-Token: "+secret); response.status != 200 {
		t.Errorf("meanwhile: %d %s", response.status, text)
	}
	for range 2 {
		select {
		case got := <-done:
			if !strings.HasSuffix(got, "ended") {
				t.Error(got)
			}
		case <-time.After(time.Minute):
			t.Fatal("a slow client was not cut off within a minute")
		}
	}
	if after := n.state(); after != before {
		t.Errorf("changed from\n%sto\n%s", before, after)
	}
}

// drip sends a request byte by byte until the server ends the connection.
func drip(ctx context.Context, address, begin string) string {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return ": " + err.Error()
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, begin); err != nil {
		return ": " + err.Error()
	}
	ended := make(chan []byte, 1)
	go func() {
		answer, _ := io.ReadAll(conn) // until it ends, however
		ended <- answer
	}()
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case answer := <-ended:
			if bytes.Contains(answer, []byte(" 2")) && bytes.HasPrefix(answer, []byte("HTTP/1.1 2")) {
				return ": " + string(answer)
			}
			return " ended"
		case <-tick.C:
			_, _ = io.WriteString(conn, "x") // fails once it has ended
		case <-ctx.Done():
			return ": " + ctx.Err().Error()
		}
	}
}

// TestLarge sends more than is read.
func TestLarge(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{})
	secret := "X-Auth-Token: " + n.token("boss", access.Admin, uuid.Nil)
	before := n.state()
	for _, path := range []string{"/v1/hubs", "/v1/tokens", "/v1/explain", "/v1/hubs/a/anchors", "/v1/hubs/a/devices"} {
		body := `{"name":"` + strings.Repeat("x", maxBody) + `"}`
		if path == "/v1/explain" || strings.HasSuffix(path, "anchors") {
			body = strings.NewReplacer("name", map[bool]string{true: "chain", false: "certificate"}[path == "/v1/explain"]).Replace(body)
		}
		if response, text := n.ask("POST", path, body, secret); response.status != 413 || codeOf(text) != "too_large" {
			t.Errorf("%s: %d %.200s", path, response.status, text)
		}
	}
	// A header of more than 64 KiB is net/http's to refuse: it answers, or ends
	// the connection while the rest still comes.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+n.address+"/v1/hubs/own", nil)
	if err != nil {
		t.Fatal(err)
	}
	name, value, _ := strings.Cut(secret, ": ")
	request.Header.Set(name, value)
	request.Header.Set("X-Large", strings.Repeat("x", 2*maxHeader))
	if response, err := http.DefaultClient.Do(request); err == nil {
		_ = response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a large header: %d", response.StatusCode)
		}
	}
	if after := n.state(); after != before {
		t.Errorf("changed from\n%sto\n%s", before, after)
	}
}
