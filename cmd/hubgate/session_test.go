package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
)

const epoch = "00112233445566778899aabbccddeeff"

// edge is an Envoy with the library, linked to a serving hubgate.
type edge struct {
	v      *serving
	client *link.Client
	number uint64
}

func (v *serving) link(secured func() (*tls.Config, error)) *edge {
	v.t.Helper()
	client, err := link.NewClient(link.ClientConfig{
		Addresses: []string{v.address("library")}, TLS: secured, Hello: link.Hello{Node: "test", Epoch: epoch}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { client.Run(ctx) })
	v.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return &edge{v: v, client: client}
}

// order is the connection's end, as it was told to the library.
type order struct {
	code  byte
	text  string
	entry chan *link.Session
	told  chan struct{}
}

// End implements link.Control.
func (o *order) End(code byte, text string) {
	o.code, o.text = code, text
	(<-o.entry).Close()
	close(o.told)
}

// Release implements link.Control.
func (o *order) Release() {}

// Active implements link.Control.
func (o *order) Active() bool { return false }

// open has a device connect, all the way.
func (e *edge) open(chain []*x509.Certificate) *order {
	e.v.t.Helper()
	e.number++
	answer := e.v.check(chain, fmt.Sprintf("%s/%d", epoch, e.number))
	said := answer.GetDynamicMetadata().GetFields()
	o := &order{entry: make(chan *link.Session, 1), told: make(chan struct{})}
	o.entry <- e.client.Open(link.Open{
		Connection: e.number, Protocol: link.TCP, Session: said["session_id"].GetStringValue(),
		Hub: said["hub_id"].GetStringValue(), Device: said["device_id"].GetStringValue(),
	}, o)
	return o
}

// ended demands that the connection was ended, and why.
func (o *order) ended(t *testing.T, code byte, text string) {
	t.Helper()
	select {
	case <-o.told:
		if o.code != code || o.text != text {
			t.Errorf("told %#x %q, want %#x %q", o.code, o.text, code, text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the connection was not ended")
	}
}

func (s *site) sessions(args ...string) []admin.Session {
	s.t.Helper()
	var list admin.Sessions
	if err := json.Unmarshal([]byte(s.hubgate(append([]string{"session", "list", "-o", "json"}, args...)...).ok(s.t)), &list); err != nil {
		s.t.Fatal(err)
	}
	return list.Sessions
}

// connected waits until so many connections are confirmed.
func (s *site) connected(n int) {
	s.t.Helper()
	eventually(s.t, func() bool {
		confirmed := 0
		for _, session := range s.sessions() {
			if session.Confirmed {
				confirmed++
			}
		}
		return confirmed == n
	}, func() string { return fmt.Sprintf("there are not %d connections: %+v", n, s.sessions()) })
}

func TestSessions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	s.golden("session-list-empty.txt", s.hubgate("session", "list").ok(t))
	e := v.link(nil)
	one, two := s.factory.device(t, "SN-0001"), s.factory.device(t, "SN-0002")
	first, second := e.open(one), e.open(two)
	s.connected(2)
	s.golden("session-list.txt", s.hubgate("session", "list", "--hub", "factory").ok(t))
	s.golden("session-list.json", s.hubgate("session", "list", "--limit", "0", "-o", "json").ok(t))
	s.golden("session-list-more.txt", strings.ReplaceAll(s.hubgate("session", "list", "--limit", "1").ok(t), cursorOf(t, s), "CURSOR"))
	s.golden("device-list-connected.txt", s.hubgate("device", "list", "factory").ok(t))
	s.golden("device-get-connected.txt", s.hubgate("device", "get", "factory", "SN-0001").ok(t))

	s.golden("session-end.txt", s.hubgate("session", "end", "factory", "SN-0001").ok(t))
	first.ended(t, link.AdministrativeAction, "an operator ended the connection")
	s.connected(1)
	s.hubgate("device", "disable", "factory", "SN-0002").ok(t)
	second.ended(t, link.AdministrativeAction, "the device is disabled")
	s.connected(0)
	s.golden("session-end-none.txt", s.hubgate("session", "end", "factory", "SN-0001").ok(t))

	third := e.open(one)
	s.connected(1)
	writeFile(t, s.dir, "hubgate.yaml", []byte(strings.Replace(factoryHub, "auto_provisioning: true", "enabled: false", 1)))
	third.ended(t, link.AdministrativeAction, "the hub is disabled")
	s.connected(0)
	if _, page := v.get("/metrics"); !strings.Contains(page, `hubgate_sessions_ended_total{reason="ended_by_operator"} 1`) ||
		!strings.Contains(page, "hubgate_links 1") || !strings.Contains(page, `hubgate_sessions{hub="factory"} 0`) {
		t.Errorf("metrics:\n%s", page)
	}
}

// cursorOf is that of the first page of one.
func cursorOf(t *testing.T, s *site) string {
	t.Helper()
	var list admin.Sessions
	if err := json.Unmarshal([]byte(s.hubgate("session", "list", "--limit", "1", "-o", "json").ok(t)), &list); err != nil || list.Next == "" {
		t.Fatalf("no second page (%v)", err)
	}
	return list.Next
}

// TestSessionsWithoutTheLibrary are pending for a while, and cannot be ended.
func TestSessionsWithoutTheLibrary(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	v.connect(s.factory.device(t, "SN-0001"))
	eventually(t, func() bool { return len(s.sessions()) == 1 }, func() string { return "the session is not listed" })
	s.golden("session-list-pending.txt", s.hubgate("session", "list").ok(t))
	s.golden("session-end-unable.txt", s.hubgate("session", "end", "factory", "SN-0001").ok(t))
	s.hubgate("session", "end", "factory", "SN-9").fails(t, exitNotFound, "hubgate: device \"SN-9\" on hub factory not found\n")
	s.hubgate("session", "list", "--hub", "plant").fails(t, exitNotFound, "hubgate: hub \"plant\" not found: there is factory\n")
	s.hubgate("session", "list", "--limit", "-1").fails(t, exitUsage,
		"hubgate: --limit: -1 is negative; 0 lists all\nSee `hubgate session list --help`.\n")
}

// TestLinksOverMTLS lets in the Envoy that has a certificate, and nobody else.
func TestLinksOverMTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca, err := pki.NewRoot("Site CA")
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	envoy, err := ca.Leaf("envoy")
	if err != nil {
		t.Fatal(err)
	}
	key, err := pki.EncodeKey(server.Key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.dir, "link.crt", pki.EncodeCertificates(server.Certificate))
	writeFile(t, s.dir, "link.key", key)
	writeFile(t, s.dir, "envoys.pem", pki.EncodeCertificates(ca.Certificate))
	writeFile(t, s.dir, "hubgate.yaml", []byte(strings.Replace(factoryHub, `link: {listen: "127.0.0.1:0"}`,
		`link: {listen: "127.0.0.1:0", tls: {cert: link.crt, key: link.key, client_ca: envoys.pem}}`, 1)))
	v := s.serve()
	v.logged("for=\"links of Envoy's library\"")
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	v.link(func() (*tls.Config, error) { return &tls.Config{RootCAs: roots}, nil })
	v.logged("link refused")
	if strings.Contains(v.log.String(), "Envoy linked") {
		t.Error("an Envoy without a certificate is linked")
	}
	e := v.link(func() (*tls.Config, error) {
		return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{envoy.Certificate.Raw}, PrivateKey: envoy.Key}}}, nil
	})
	v.logged("Envoy linked")
	o := e.open(s.factory.device(t, "SN-0001"))
	s.connected(1)
	s.hubgate("session", "end", "factory", "SN-0001").ok(t)
	o.ended(t, link.AdministrativeAction, "an operator ended the connection")
}
