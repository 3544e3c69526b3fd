package sessions

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// cause is one reason why connections end.
type cause struct {
	code byte
	act  func(testing.TB, *device)
}

// causes are why connections end, with what a client of MQTT 5 is told.
var causes = map[string]cause{
	"device disabled":     {link.AdministrativeAction, func(t testing.TB, d *device) { d.disable(t) }},
	"device deleted":      {link.NotAuthorized, func(t testing.TB, d *device) { d.delete(t) }},
	"hubgate session end": {link.AdministrativeAction, func(t testing.TB, d *device) { d.order(t) }},
	"hub disabled": {link.AdministrativeAction, func(t testing.TB, d *device) {
		d.fleet.edit(t, func(h *provision.Hub) { h.Disabled = true })
	}},
	"anchor removed": {link.NotAuthorized, func(t testing.TB, d *device) {
		other := must(pki.NewRoot("Another root"))(t)
		d.fleet.edit(t, func(h *provision.Hub) { h.Anchors = [][]byte{other.Certificate.Raw} })
	}},
	"certificate revoked": {link.NotAuthorized, func(t testing.TB, d *device) {
		d.fleet.revoke(t, d.fleet.line.Certificate, d.identity.Certificate)
	}},
	"intermediate revoked": {link.NotAuthorized, func(t testing.TB, d *device) {
		d.fleet.revoke(t, d.fleet.root.Certificate, d.fleet.line.Certificate)
	}},
	"key revoked": {link.NotAuthorized, func(t testing.TB, d *device) {
		d.fleet.changeRevoked(t, func(r *provision.Revocations) error {
			return r.Revoke(provision.Revocation{Key: trust.KeyHashOf(d.identity.Certificate), At: time.Now()})
		})
	}},
	"listed in a CRL": {link.NotAuthorized, func(t testing.TB, d *device) {
		d.fleet.putCRL(t, d.fleet.line, d.identity.Certificate)
	}},
	"hub deleted": {link.NotAuthorized, func(t testing.TB, d *device) {
		hub := d.fleet.hub
		if err := d.fleet.store.DeleteHub(t.Context(), hub.ID, provision.Deleted.OnHub(hub, time.Now())); err != nil {
			t.Fatal(err)
		}
	}},
}

// endingMQTT: the socket closes, and a client of MQTT 5 learns why.
func endingMQTT(t *testing.T, s *site) {
	for name, cause := range causes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, version := range versions {
				bystander := s.fleet(t).device(t, "SN-1").connect(t, s.edge, dialing{version: version})
				d := s.fleet(t).device(t, "SN-1")
				c := d.connect(t, s.edge, dialing{version: version})
				d.fleet.lists(t, "SN-1")
				cause.act(t, d)
				c.ends(t, int(cause.code))
				d.fleet.lists(t)
				bystander.ping(t)
			}
		})
	}
}

// endingHTTP: a response that streams and a WebSocket end too.
func endingHTTP(t *testing.T, s *site) {
	for name, cause := range causes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := s.fleet(t).device(t, "SN-1")
			streaming := d.ask(t, s.edge, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusOK)
			upgraded := d.ask(t, s.edge, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", http.StatusSwitchingProtocols)
			d.fleet.lists(t, "SN-1", "SN-1")
			cause.act(t, d)
			for what, ended := range map[string]<-chan error{"stream": streaming, "WebSocket": upgraded} {
				select {
				case <-ended:
				case <-time.After(patience):
					t.Errorf("the %s goes on", what)
				}
			}
			d.fleet.lists(t)
		})
	}
}

// ask makes a request by hand, and reads until the connection ends.
func (d *device) ask(t testing.TB, e *edge, request string, status int) <-chan error {
	t.Helper()
	conn := must(d.handshake(e, e.https, dialing{}))(t)
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	response := must(http.ReadResponse(r, nil))(t) //nolint:bodyclose // it is read on below, as it is no body for an upgrade
	if response.StatusCode != status {
		t.Fatalf("status %d, want %d", response.StatusCode, status)
	}
	_ = conn.SetDeadline(time.Time{})
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, r)
		ended <- err
	}()
	return ended
}

// disabledBeforeItRegisters: the device is disabled after its check and before
// Envoy has heard of the outcome, let alone told of the connection.
func disabledBeforeItRegisters(t *testing.T, s *site) {
	f := s.fleet(t)
	d := f.device(t, "SN-1")
	d.connect(t, s.edge, dialing{}).close()
	f.lists(t)
	s.mu.Lock()
	s.between[string(d.cert.Certificate[0])] = func() { d.disable(t) }
	s.mu.Unlock()
	// It is ended whenever that is: before the broker has answered, or after.
	c, err := d.dial(s.edge, dialing{})
	switch {
	case err == nil:
		c.ends(t, int(link.AdministrativeAction))
	case !errors.Is(err, errRefused) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		t.Errorf("it ended with %v", err)
	}
	f.lists(t)
}

// connectedElsewhere: of a device that may hold one connection, the newest
// stays, whichever Envoy it came through; one that may hold many, keeps all.
func connectedElsewhere(t *testing.T, s *site) {
	for _, version := range versions {
		f := s.fleet(t)
		d := f.device(t, "SN-1")
		var last *client
		for i := range 4 {
			next := d.connect(t, s.edge, dialing{version: version, clientID: fmt.Sprintf("client %d", i)})
			if last != nil {
				last.ends(t, int(link.SessionTakenOver))
			}
			last = next
		}
		last.ping(t)
		f.lists(t, "SN-1")

		d.edit(t, func(d *provision.Device) { d.AllowMultipleConnections = true })
		second := d.connect(t, s.edge, dialing{version: version, clientID: "another"})
		f.lists(t, "SN-1", "SN-1")
		second.ping(t)
		last.ping(t)
	}
}

// withoutTheLibrary: an Envoy that has it not tells of its connections by its
// access log. They are listed, as some that cannot be ended, and leave the list
// when they end.
func withoutTheLibrary(t *testing.T, s *site) {
	c := s.config
	c.link = ""
	e := startEdge(t, c)
	f := s.fleet(t)
	d := f.device(t, "SN-1")
	f.device(t, "teacher").connect(t, s.edge, dialing{}) // which has the hub learn the line
	client := d.connect(t, e, dialing{})
	f.lists(t, "SN-1", "teacher")
	sessions := must(s.store.DeviceSessions(t.Context(), f.hub.ID, d.id))(t)
	if one := sessions[0]; one.Envoy.HasLibrary() || one.Envoy.Node != "edge" || one.Source.String() != "127.0.0.1" {
		t.Errorf("%+v, want one by access log", one)
	}
	d.disable(t)
	client.ping(t)
	f.lists(t, "SN-1", "teacher")
	client.close()
	f.lists(t, "teacher")
}
