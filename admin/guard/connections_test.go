package guard_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/guard"
)

// TestKnownConnectionsStay: if all connections are of those who are known, the
// next one is closed, and strangers among them make room.
func TestKnownConnectionsStay(t *testing.T) {
	t.Parallel()
	const most = 2
	secret := uuid.NewString()
	hash, err := access.HashSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	keys := access.NewKeyring(nil, nil)
	keys.Configure([]access.Configured{{Principal: access.Principal{Name: "eye", Role: access.Viewer}, Secret: hash}})
	g, err := guard.New(guard.Config{Keyring: keys, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := guard.Listen(inner, most)
	server := &http.Server{
		Handler:           g.API(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(w http.ResponseWriter, _ *http.Request, status int, _, _ string) { w.WriteHeader(status) }),
		ConnContext:       l.Context,
		ReadHeaderTimeout: time.Minute,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ask := func(c net.Conn) error {
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: %s\r\n\r\n", secret); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 4<<10))
		return err
	}
	stranger := dial()
	known := []net.Conn{dial(), dial()}
	for _, c := range known { // the second one took the stranger's place
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
	}
	if ask(stranger) == nil {
		t.Error("the stranger is still there")
	}
	if ask(dial()) == nil {
		t.Error("one too many got in")
	}
	for _, c := range known {
		if err := ask(c); err != nil {
			t.Errorf("who was there was thrown out: %v", err)
		}
	}
	_ = known[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ask(dial()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection still counts")
		}
	}
}
