package sessions

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/crl"
	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// revoke revokes a certificate by its serial number, as `hubgate cert revoke`
// does.
func (f *fleet) revoke(t testing.TB, issuer, c *x509.Certificate) {
	t.Helper()
	f.changeRevoked(t, func(r *provision.Revocations) error {
		return r.Revoke(provision.Revocation{Issuer: trust.KeyHashOf(issuer), Serial: c.SerialNumber, At: time.Now()})
	})
}

func (f *fleet) changeRevoked(t testing.TB, change func(*provision.Revocations) error) {
	t.Helper()
	err := f.store.UpdateRevocations(t.Context(), f.hub.ID, change, func(h provision.Hub) provision.Event { return provision.Revoked.OnHub(h, time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
}

// putCRL has the CA's list revoke a certificate, as `hubgate crl add` does.
func (f *fleet) putCRL(t testing.TB, ca *pki.Authority, revoked ...*x509.Certificate) {
	t.Helper()
	list := must(trust.ParseCRL(must(ca.CRL(1, revoked))(t), []*x509.Certificate{ca.Certificate}))(t)
	f.changeRevoked(t, func(r *provision.Revocations) error { return r.PutCRL(list, "", time.Now()) })
}

// status is that of one request over HTTPS.
func (d *device) status(t testing.TB, e *edge) (int, string) {
	t.Helper()
	conn := must(d.handshake(e, e.https, dialing{}))(t)
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	buffer := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	var status int
	_, _ = fmt.Sscanf(text.String(), "HTTP/1.1 %d", &status)
	return status, text.String()
}

// denied waits until the device is refused over HTTPS for the reason, and finds
// it refused over MQTT as well.
func (d *device) denied(t testing.TB, e *edge, reason provision.Reason) {
	t.Helper()
	eventually(t, "the device is refused", func() error {
		if status, text := d.status(t, e); status != http.StatusForbidden || !strings.Contains(text, string(reason)) {
			return fmt.Errorf("status %d: %.300s", status, text)
		}
		return nil
	})
	if _, err := d.dial(e, dialing{}); !errors.Is(err, errDenied) {
		t.Errorf("over MQTT: %v, want %v", err, errDenied)
	}
}

// admitted waits until the device is let in over HTTPS, and finds it let in over
// MQTT as well.
func (d *device) admitted(t testing.TB, e *edge) {
	t.Helper()
	eventually(t, "the device is let in", func() error {
		if status, text := d.status(t, e); status != http.StatusOK {
			return fmt.Errorf("status %d: %.300s", status, text)
		}
		return nil
	})
	d.connect(t, e, dialing{}).close()
}

// revocation: what an administrator and the vendor's lists revoke is refused
// over HTTPS and MQTT, new devices of a revoked line as well, and a list that is
// overdue counts as the hub's policy says.
func revocation(t *testing.T, s *site) {
	f := s.fleet(t)
	d, other := f.device(t, "SN-1"), f.device(t, "SN-2")
	d.admitted(t, s.edge)
	other.admitted(t, s.edge)
	f.revoke(t, f.line.Certificate, d.identity.Certificate)
	d.denied(t, s.edge, provision.CertificateRevoked)
	other.admitted(t, s.edge)
	f.changeRevoked(t, func(r *provision.Revocations) error {
		clear(r.ByHand)
		return nil
	})
	d.admitted(t, s.edge)
	f.putCRL(t, f.root, f.line.Certificate)
	d.denied(t, s.edge, provision.CertificateRevoked)
	f.device(t, "SN-3").denied(t, s.edge, provision.CertificateRevoked)
}

// revocationLists: lists come from an address, and are read again.
func revocationLists(t *testing.T, s *site) {
	f := s.fleet(t)
	d := f.device(t, "SN-1")
	var mu sync.Mutex
	var list []byte
	publish := func(number int64, due time.Duration, revoked ...*x509.Certificate) {
		mu.Lock()
		defer mu.Unlock()
		list = must(f.line.CRL(number, revoked, func(l *x509.RevocationList) {
			l.ThisUpdate = time.Now()
			l.NextUpdate = l.ThisUpdate.Add(due)
		}))(t)
	}
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = w.Write(list)
	}))
	defer vendor.Close()
	fetcher := must(crl.New(crl.Config{
		Gate: s.gate, Store: s.store, Refresh: time.Second, Logger: slog.New(slog.DiscardHandler),
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}))(t)
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = fetcher.Run(ctx) })
	defer running.Wait()
	defer end()

	f.edit(t, func(h *provision.Hub) { h.Policy.Revocation = provision.RefuseUnlisted })
	d.admitted(t, s.edge) // no list is expected
	f.edit(t, func(h *provision.Hub) { h.CRLSources = []string{vendor.URL + "/line.crl"} })
	d.denied(t, s.edge, provision.RevocationUnknown) // what the vendor answers is no list yet
	publish(2, time.Hour)
	d.admitted(t, s.edge)
	c := d.connect(t, s.edge, dialing{})
	publish(3, time.Hour, d.identity.Certificate)
	c.ends(t, int(link.NotAuthorized))
	d.denied(t, s.edge, provision.CertificateRevoked)
	publish(2, time.Hour) // which takes nothing back
	time.Sleep(2 * time.Second)
	d.denied(t, s.edge, provision.CertificateRevoked)
	publish(4, 5*time.Second)
	d.admitted(t, s.edge)
	d.denied(t, s.edge, provision.RevocationUnknown) // once it is overdue
	f.edit(t, func(h *provision.Hub) { h.Policy.Revocation = provision.AllowUnlisted })
	d.admitted(t, s.edge)
}

// chainExpires: an open connection ends with its certificate.
func chainExpires(t *testing.T, s *site) {
	f := s.fleet(t)
	expires := time.Now().Add(15 * time.Second)
	identity := must(f.line.Leaf("SN-1", pki.WithValidity(time.Now().Add(-time.Hour), expires)))(t)
	d := &device{fleet: f, name: "SN-1", id: provision.DeviceIDOf(f.hub.ID, "SN-1"), identity: identity, cert: identity.TLS()}
	streaming := d.ask(t, s.edge, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", http.StatusOK)
	c := d.connect(t, s.edge, dialing{})
	d.fleet.lists(t, "SN-1", "SN-1")
	c.ends(t, int(link.NotAuthorized))
	if now := time.Now(); now.Before(expires.Truncate(time.Second)) {
		t.Errorf("it ended at %s, before %s", now, expires)
	}
	select {
	case <-streaming:
	case <-time.After(patience):
		t.Error("the stream goes on")
	}
	d.denied(t, s.edge, provision.CertificateExpired)
}

// revokedBeforeItRegisters: the certificate is revoked after its device's check
// and before Envoy has heard of the outcome.
func revokedBeforeItRegisters(t *testing.T, s *site) {
	f := s.fleet(t)
	d := f.device(t, "SN-1")
	d.connect(t, s.edge, dialing{}).close()
	f.lists(t)
	s.mu.Lock()
	s.between[string(d.identity.Certificate.Raw)] = func() { f.revoke(t, f.line.Certificate, d.identity.Certificate) }
	s.mu.Unlock()
	if c, err := d.dial(s.edge, dialing{}); err == nil {
		c.ends(t, int(link.NotAuthorized))
	}
	f.lists(t)
	d.denied(t, s.edge, provision.CertificateRevoked)
}
