package sessions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hubgate/hubgate/admin/access"
	fleets "github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

// tap passes everything on to a broker, and keeps what it was sent.
type tap struct {
	address string
	mu      sync.Mutex
	sent    bytes.Buffer
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.Write(b)
}

func (p *tap) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.String()
}

func startTap(t *testing.T, broker string) *tap {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	p := &tap{address: listener.Addr().String()}
	var group sync.WaitGroup
	t.Cleanup(group.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	group.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", broker)
			if err != nil {
				_ = near.Close()
				continue
			}
			group.Go(func() { _, _ = io.Copy(near, far); _, _ = near.Close(), far.Close() })
			group.Go(func() { _, _ = io.Copy(io.MultiWriter(far, p), near); _, _ = near.Close(), far.Close() })
		}
	})
	return p
}

// withoutTLS: where Envoy listens without TLS, a device gets in that an operator
// allowed to, by its secret, and no other; nothing is created there, and the
// secret gets no further than to hubgate.
func withoutTLS(t *testing.T, s *site) {
	config, broker := s.config, startTap(t, s.config.broker)
	var backend tap
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.Header.Write(&backend)
		_, _ = io.WriteString(w, r.Header.Get("X-Hub-Id")+"/"+r.Header.Get("X-Device-Name"))
	}))
	t.Cleanup(server.Close)
	config.broker, config.backend, config.insecure = broker.address, server.Listener.Addr().String(), true
	e := startEdge(t, config)
	f := s.fleet(t)
	d := f.device(t, "SN-1")
	admins := must(fleets.New(fleets.Config{Gate: s.gate, Store: s.store, Logger: slog.New(slog.NewTextHandler(s.log, nil))}))(t)
	operator := access.Principal{Name: "operator", Role: access.Operator}
	user := f.hub.Name + "/SN-1"
	var secrets []string
	rotate := func() string {
		t.Helper()
		_, _, secret, err := admins.CreateSecret(t.Context(), operator, f.hub.Name, "SN-1")
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
		return secret
	}
	allow := func(insecure bool) {
		t.Helper()
		must(admins.UpdateDevice(t.Context(), operator, f.hub.Name, "SN-1", fleets.DeviceChange{AllowInsecure: &insecure}))(t)
	}

	// What creates itself over TLS is nobody without.
	d.connect(t, s.edge, dialing{}).close()
	d.refusedPlain(t, e, user, d.id.String(), provision.InsecureNotAllowed)
	events := f.refusals(t)
	if i := slices.IndexFunc(events, func(e provision.Event) bool { return e.Reason == string(provision.InsecureNotAllowed) }); i < 0 ||
		events[i].Message != "mutual TLS authentication is required" || events[i].ObjectID != d.id.String() || events[i].SourceAddress != "127.0.0.1" {
		t.Errorf("the hub was told %+v", events)
	}
	// Nor is it with a secret, or with the flag, alone.
	d.refusedPlain(t, e, user, rotate(), provision.InsecureNotAllowed)
	if err := admins.RemoveSecret(t.Context(), operator, f.hub.Name, "SN-1"); err != nil {
		t.Fatal(err)
	}
	allow(true)
	d.refusedPlain(t, e, user, d.id.String(), provision.SecretInvalid)
	d.refusedPlain(t, e, user, secrets[0], provision.SecretInvalid)

	secret := rotate()
	d.admittedPlain(t, e, user, secret)
	for _, wrong := range []string{secret[1:], d.id.String(), "", strings.ToUpper(secret)} {
		d.refusedPlain(t, e, user, wrong, provision.SecretInvalid)
	}
	d.refusedPlain(t, e, f.hub.Name+"/SN-2", secret, provision.InsecureNotAllowed)
	d.refusedPlain(t, e, "nowhere/SN-1", secret, provision.InsecureNotAllowed)
	d.refusedPlain(t, e, "SN-1", secret, provision.InsecureNotAllowed)
	d.refusedPlain(t, e, "", "", provision.NoCertificate)
	if n := strings.Count(backend.String(), "X-Hub-Id"); n != 1 || broker.String() != "" {
		t.Fatalf("of those refused, the backend got %q, the broker %q", backend.String(), broker.String())
	}

	for _, version := range versions {
		how := dialing{version: version, userName: user, password: secret, plain: true, slowly: true}
		c := d.connect(t, e, how)
		c.subscribe(t, d.topic("#"))
		c.publish(t, d.topic("own"), "21.5")
		c.receives(t, d.topic("own"), "21.5")
		f.lists(t, "SN-1")
		// It may hold one connection, however it comes.
		how.clientID = "another" // else the broker would end it, too
		next := d.connect(t, e, how)
		c.ends(t, int(link.SessionTakenOver))
		secure := d.connect(t, e, dialing{version: version})
		next.ends(t, int(link.SessionTakenOver))
		secure.close()
		// Another secret ends what came with the last one, and so does the flag.
		c = d.connect(t, e, how)
		f.lists(t, "SN-1")
		secret = rotate()
		c.ends(t, int(link.NotAuthorized))
		d.refusedPlain(t, e, user, how.password, provision.SecretInvalid)
		how.password = secret
		d.admittedPlain(t, e, user, secret)
		c = d.connect(t, e, how)
		f.lists(t, "SN-1")
		allow(false)
		c.ends(t, int(link.NotAuthorized))
		d.refusedPlain(t, e, user, secret, provision.InsecureNotAllowed)
		d.connect(t, e, dialing{version: version}).close() // as always
		allow(true)
		d.admittedPlain(t, e, user, secret)
		f.lists(t)
	}
	d.pahoWithoutTLS(t, e, user, secret)

	if devices, _, err := s.store.Devices(t.Context(), f.hub.ID, provision.ByName, "", 10); err != nil || len(devices) != 1 {
		t.Errorf("%d devices, %v: want the one", len(devices), err)
	}
	log := string(must(os.ReadFile(s.log.Name()))(t))
	for _, secret := range secrets {
		for where, text := range map[string]string{
			"the broker": broker.String(), "the backend": backend.String(), "hubgate's log": log, "Envoy's log": e.process.Output(),
		} {
			if text == "" || strings.Contains(text, secret) {
				t.Errorf("%s has the secret, or nothing (%d bytes)", where, len(text))
			}
		}
	}
}

// refusals are the events of refusals on the hub so far.
func (f *fleet) refusals(t testing.TB) []provision.Event {
	t.Helper()
	if err := f.gate.FlushDenials(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []provision.Event
	for _, e := range must(f.store.Events(t.Context(), f.hub.ID.Partition(f.store.Partitions()), 0, 10_000))(t) {
		if e.Event.Hub == f.hub.ID && e.Event.Severity == provision.SeverityError {
			all = append(all, e.Event)
		}
	}
	return all
}

// refusedPlain connects without TLS in both ways, and is refused with the reason,
// once that is known where checks are made.
func (d *device) refusedPlain(t *testing.T, e *edge, user, secret string, want provision.Reason) {
	t.Helper()
	eventually(t, "refused over HTTP", func() error {
		status, body := d.getPlain(t, e, user, secret)
		var refused struct{ Reason, Message string }
		if err := json.Unmarshal([]byte(body), &refused); err != nil || status != http.StatusForbidden ||
			refused.Reason != string(want) || refused.Message != want.Message() {
			return fmt.Errorf("%s: %d %s, want %s (%w)", user, status, body, want, err)
		}
		return nil
	})
	for _, version := range versions {
		c, err := d.dial(e, dialing{version: version, userName: user, password: secret, plain: true})
		if err == nil {
			c.close()
			t.Fatalf("%s gets in, want %s", user, want)
		}
		if errors.Is(err, errRefused) || os.IsTimeout(err) {
			t.Fatalf("%s: %v, want the end of the connection", user, err)
		}
	}
}

// admittedPlain makes a request without TLS that gets through, once what lets it
// is known where checks are made.
func (d *device) admittedPlain(t *testing.T, e *edge, user, secret string) {
	t.Helper()
	eventually(t, "admitted over HTTP", func() error {
		if status, body := d.getPlain(t, e, user, secret); status != http.StatusOK || body != d.fleet.hub.ID.String()+"/"+d.name {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
}

// getPlain makes a request without TLS; no user is no credentials.
func (d *device) getPlain(t *testing.T, e *edge, user, secret string) (int, string) {
	t.Helper()
	request := must(http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+e.insecureHTTP+"/", nil))(t)
	request.Close = true
	if user != "" {
		request.SetBasicAuth(user, secret)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode, string(must(io.ReadAll(response.Body))(t))
}

// pahoWithoutTLS: a client library of others connects by its user name and
// password.
func (d *device) pahoWithoutTLS(t *testing.T, e *edge, user, secret string) {
	t.Helper()
	client := paho.NewClient(paho.NewClientOptions().
		AddBroker("tcp://" + e.insecureMQTT).SetClientID("client").SetUsername(user).SetPassword(secret).SetProtocolVersion(4).
		SetConnectTimeout(patience).SetAutoReconnect(false))
	for _, act := range []func() paho.Token{
		client.Connect, func() paho.Token { return client.Publish(d.topic("paho"), 1, false, "hello") },
	} {
		if token := act(); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("no answer, or: %v", token.Error())
		}
	}
	client.Disconnect(100)
}
