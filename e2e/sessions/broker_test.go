package sessions

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// A backend that connects to the broker past Envoy.
const (
	serviceName     = "backend"
	servicePassword = "correct horse battery staple"
)

// startAskingBroker starts a mosquitto that asks hubgate, configured as
// docs/broker-auth.md says, with a plugin that asks as mosquitto-go-auth does.
func startAskingBroker(t testing.TB, h *hubgate) string {
	t.Helper()
	plugin := filepath.Join(t.TempDir(), "ask.so")
	if out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-o", plugin, "testdata/ask.c").CombinedOutput(); err != nil {
		t.Fatalf("the plugin: %v\n%s", err, out)
	}
	page := string(must(os.ReadFile("../../docs/broker-auth.md"))(t))
	_, page, _ = strings.Cut(page, "## mosquitto\n\n```\n")
	settings, _, ok := strings.Cut(page, "```\n")
	if !ok {
		t.Fatal("docs/broker-auth.md does not say how to configure mosquitto")
	}
	host, port, _ := net.SplitHostPort(h.broker)
	address, _ := startMosquitto(t, "error", strings.NewReplacer("/etc/mosquitto/go-auth.so", plugin, "127.0.0.1", host, "9195", port).Replace(settings))
	return address
}

// TestBrokerAuth: a real broker asks hubgate what the clients behind a real
// Envoy, and those that come past it, may do.
func TestBrokerAuth(t *testing.T) {
	t.Parallel()
	for name, on := range storages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHubgate(t, on(t))
			c := edgeConfig{authz: h.authz, link: h.link, broker: startAskingBroker(t, h), backend: startBackend(t)}
			s := &site{h, startEdge(t, c), c}
			for _, story := range []struct {
				name string
				tell func(*testing.T, *site)
			}{
				{"past Envoy", pastEnvoy},
				{"message filters", messageFilters},
				{"the brokers' own words", brokersWords},
				{"a change of filters", filtersChange},
				{"many connect at once", manyAsk},
			} {
				t.Run(story.name, func(t *testing.T) {
					t.Parallel()
					story.tell(t, s)
				})
			}
		})
	}
}

func (d *device) username() string { return d.fleet.hub.ID.String() + "/" + d.name }

// direct connects to the broker past Envoy. Whoever is refused gets errRefused.
func direct(t testing.TB, address string, how dialing) (net.Conn, error) {
	t.Helper()
	conn := must(net.DialTimeout("tcp", address, patience))(t)
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, connectPacket(how)); err != nil {
		t.Fatal(err)
	}
	first, body, err := readPacket(bufio.NewReader(conn))
	if err != nil || first != 0x20 || len(body) < 2 {
		t.Fatalf("no CONNACK: %#x %q %v", first, body, err)
	}
	if body[1] != 0 {
		return nil, errRefused
	}
	return conn, nil
}

// pastEnvoy: a user name lets nobody in, unless its device is connected to
// Envoy, may be, and goes on being so; a service proves who it is.
func pastEnvoy(t *testing.T, s *site) {
	for _, version := range versions {
		d := s.fleet(t).device(t, "SN-1")
		enters := func(want error, userName, password string) {
			t.Helper()
			conn, err := direct(t, s.config.broker, dialing{version: version, clientID: "direct", userName: userName, password: password})
			if !errors.Is(err, want) {
				t.Errorf("%q got in: %v, want %v", userName, err, want)
			}
			if conn != nil {
				_ = conn.Close()
			}
		}
		enters(errRefused, "", "")
		enters(errRefused, "admin", "admin")
		enters(errRefused, d.username(), "") // of no device yet
		c := d.connect(t, s.edge, dialing{version: version})
		c.ping(t)
		c.close()
		d.fleet.lists(t)
		enters(errRefused, d.username(), "")
		enters(errRefused, serviceName, "guessed")
		enters(errRefused, serviceName, "")
		enters(nil, serviceName, servicePassword)
	}
}

// granted subscribes and tells whether the broker granted it.
func (c *client) granted(t testing.TB, filter string) bool {
	t.Helper()
	c.send(t, packet(0x82, "\x00\x01"+c.properties()+str(filter)+"\x00"))
	select {
	case code := <-c.acks:
		return code < 0x80
	case <-time.After(patience):
		t.Fatalf("%s: no SUBACK", c.device.name)
	}
	return false
}

// messageFilters: what a device may publish and subscribe to is enforced by the
// broker.
func messageFilters(t *testing.T, s *site) {
	for _, version := range versions {
		f := s.fleet(t)
		free, bound := f.device(t, "free"), f.device(t, "bound")
		all := free.connect(t, s.edge, dialing{version: version})
		if !all.granted(t, free.topic("#")) || !all.granted(t, bound.topic("#")) {
			t.Fatal("a device without filters may not subscribe")
		}
		bound.connect(t, s.edge, dialing{version: version}).close() // it creates itself
		bound.edit(t, func(d *provision.Device) {
			d.Filters = &provision.Filters{
				Publish:   provision.Filter{Topics: []string{bound.topic("up/+")}},
				Subscribe: provision.Filter{Reject: true, Topics: []string{free.topic("secret")}},
			}
		})
		s.answers(t, "the filters are in force", false, bound, 2, "x")
		c := bound.connect(t, s.edge, dialing{version: version})
		c.publish(t, bound.topic("other"), "refused")
		c.publish(t, free.topic("up/a"), "refused")
		c.publish(t, bound.topic("up/a/b"), "refused")
		c.publish(t, bound.topic("up/a"), "21.5")
		all.receives(t, bound.topic("up/a"), "21.5")
		for filter, want := range map[string]bool{
			free.topic("news"): true, free.topic("other/#"): true,
			free.topic("secret"): false, free.topic("#"): false, free.topic("+"): false, "#": false,
			"$share/group/" + free.topic("secret"): false, "$SYS/#": false,
		} {
			if got := c.granted(t, filter); got != want {
				t.Errorf("subscription to %q granted: %t", filter, got)
			}
		}
		all.publish(t, free.topic("secret"), "secret")
		all.receives(t, free.topic("secret"), "secret")
		all.publish(t, free.topic("news"), "news")
		all.receives(t, free.topic("news"), "news")
		c.receives(t, free.topic("news"), "news")
		c.receivedNothing(t)
		all.receivedNothing(t)
	}
}

// asks posts a question and gives the answer.
func (s *site) asks(t testing.TB, path, kind, hook, body string) (int, string) {
	t.Helper()
	request := must(http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.broker+path, strings.NewReader(body)))(t)
	request.Header.Set("Content-Type", kind)
	if hook != "" {
		request.Header.Set("vernemq-hook", hook)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	return answer.StatusCode, strings.TrimSpace(string(must(io.ReadAll(answer.Body))(t)))
}

// may asks as mosquitto-go-auth does whether a device has access to a topic.
func (s *site) may(t testing.TB, d *device, acc int, topic string) bool {
	t.Helper()
	form := url.Values{"username": {d.username()}, "clientid": {"client"}, "topic": {topic}, "acc": {fmt.Sprint(acc)}}
	status, answer := s.asks(t, "/mosquitto/acl", "application/x-www-form-urlencoded", "", form.Encode())
	if status != http.StatusOK && status != http.StatusForbidden {
		t.Errorf("acc %d of %q: %d %s", acc, topic, status, answer)
	}
	return status == http.StatusOK
}

func (s *site) answers(t testing.TB, what string, want bool, d *device, acc int, topic string) {
	t.Helper()
	eventually(t, what, func() error {
		if got := s.may(t, d, acc, topic); got != want {
			return fmt.Errorf("acc %d of %q is %t", acc, topic, got)
		}
		return nil
	})
}

// brokersWords: each broker is answered in its own words, about a device that is
// connected to Envoy, and about it once it is not.
func brokersWords(t *testing.T, s *site) {
	d := s.fleet(t).device(t, "SN-1")
	c := d.connect(t, s.edge, dialing{})
	d.edit(t, func(d *provision.Device) {
		d.Filters = &provision.Filters{Publish: provision.Filter{Topics: []string{"up"}}}
	})
	s.answers(t, "the filters are in force", false, d, 2, "down")
	const asJSON = "application/json"
	quoted := must(json.Marshal(d.username()))(t)
	say := func(path, hook, body string, status int, want string) {
		t.Helper()
		gotStatus, got := s.asks(t, path, asJSON, hook, strings.ReplaceAll(body, "USER", string(quoted)))
		if gotStatus != status || got != want {
			t.Errorf("%s %s %s\n%d %s\nwant\n%d %s", path, hook, body, gotStatus, got, status, want)
		}
	}
	connects := func(connected bool) {
		t.Helper()
		status, mosquitto, emqx, vernemq := 200, `{"ok":true,"error":""}`, `{"result":"allow","is_superuser":false}`, `{"result":"ok"}`
		if !connected {
			status, mosquitto, emqx, vernemq = 403, `{"ok":false,"error":"no_session"}`, `{"result":"deny","is_superuser":false}`, `{"result":{"error":"not_allowed"}}`
		}
		say("/mosquitto/user", "", `{"clientid":"c","password":"","username":USER}`, status, mosquitto)
		say("/emqx/authn", "", `{"username":USER,"password":"","clientid":"c"}`, 200, emqx)
		for _, hook := range []string{"auth_on_register", "auth_on_register_m5"} {
			say("/vernemq", hook, `{"peer_addr":"127.0.0.1","peer_port":8888,"mountpoint":"","client_id":"c","username":USER,"password":null}`, 200, vernemq)
		}
	}
	connects(true)
	say("/mosquitto/user", "", `{"clientid":"c","password":"","username":"0b7d5c1e-7f0e-4d53-9d4e-0d9a4b0f7c11/SN-1"}`, 403, `{"ok":false,"error":"hub_unknown"}`)
	say("/mosquitto/user", "", `{"clientid":"c","password":"","username":"`+d.fleet.hub.ID.String()+`/SN-2"}`, 403, `{"ok":false,"error":"device_unknown"}`)
	say("/emqx/authz", "", `{"username":USER,"clientid":"c","action":"publish","topic":"up"}`, 200, `{"result":"allow","is_superuser":false}`)
	say("/emqx/authz", "", `{"username":USER,"clientid":"c","action":"publish","topic":"$delayed/1/up"}`, 200, `{"result":"deny","is_superuser":false}`)
	say("/emqx/authz", "", `{"username":USER,"clientid":"c","action":"subscribe","topic":"up"}`, 200, `{"result":"deny","is_superuser":false}`)
	say("/vernemq", "auth_on_publish", `{"username":USER,"mountpoint":"","client_id":"c","qos":1,"topic":"up","retain":false}`, 200, `{"result":"ok"}`)
	say("/vernemq", "auth_on_subscribe", `{"username":USER,"mountpoint":"","client_id":"c","topics":[{"topic":"up","qos":1}]}`, 200,
		`{"result":"ok","topics":[{"topic":"up","qos":128}]}`)
	c.close()
	d.fleet.lists(t)
	connects(false)
	d.disable(t)
	s.answers(t, "a disabled device may nothing", false, d, 2, "up")
}

// inForce is how long after it was acknowledged a change of a device may go
// unseen: as long as the change feed's last proof is good.
const inForce = 2 * time.Second

// filtersChange: whoever asks later than that after a change of filters was
// acknowledged is answered by the new ones, however many ask meanwhile.
func filtersChange(t *testing.T, s *site) {
	d := s.fleet(t).device(t, "SN-1")
	d.connect(t, s.edge, dialing{}).ping(t)
	for round := range 3 {
		want := round%2 == 1
		var bound atomic.Int64 // since when only the new answer is right, 0: not yet known
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(func() {
				for late := false; !late; {
					asked, since := time.Now(), bound.Load()
					may := s.may(t, d, 2, "up")
					if late = since != 0 && asked.UnixNano() > since; late && may != want {
						t.Errorf("asked %s after the bound, the answer was the old one", time.Duration(asked.UnixNano()-since))
					}
				}
			})
		}
		d.edit(t, func(d *provision.Device) {
			d.Filters = &provision.Filters{Publish: provision.Filter{Reject: want, Topics: []string{"other"}}}
		})
		acknowledged := time.Now()
		bound.Store(acknowledged.Add(inForce).UnixNano())
		s.answers(t, "the change is seen", want, d, 2, "up")
		t.Logf("round %d: seen after %s", round, time.Since(acknowledged))
		asking.Wait()
	}
}

// TestBrokerAuthOutage: while the store does not answer, devices that it had
// confirmed are answered, and nobody else gets in.
func TestBrokerAuthOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	h := startHubgate(t, func(t testing.TB) (store, func()) {
		s := must(redisstore.Open(t.Context(), redisstore.Config{URL: server.URL(), Timeout: 10 * time.Second}))(t)
		return s, func() { _ = s.Close() }
	})
	c := edgeConfig{authz: h.authz, link: h.link, broker: startBroker(t, allTopics), backend: startBackend(t)}
	s := &site{h, startEdge(t, c), c}
	d := s.fleet(t).device(t, "SN-1")
	d.connect(t, s.edge, dialing{}).ping(t)
	d.edit(t, func(d *provision.Device) {
		d.Filters = &provision.Filters{Publish: provision.Filter{Topics: []string{"up"}}}
	})
	s.answers(t, "the filters are in force", false, d, 2, "down")
	server.Stop()
	for _, wait := range []time.Duration{0, inForce + 500*time.Millisecond} { // just now, and once that is noticed
		time.Sleep(wait)
		if !s.may(t, d, 2, "up") || s.may(t, d, 2, "down") {
			t.Errorf("after %s, a known device is not answered by its filters", wait)
		}
		form := url.Values{"username": {d.username()}, "clientid": {"c"}}
		const kind = "application/x-www-form-urlencoded"
		if status, answer := s.asks(t, "/mosquitto/user", kind, "", form.Encode()); status != http.StatusOK {
			t.Errorf("after %s, a connected device: %d %s", wait, status, answer)
		}
		form.Set("username", d.fleet.hub.ID.String()+"/SN-2")
		if status, answer := s.asks(t, "/mosquitto/user", kind, "", form.Encode()); status != http.StatusServiceUnavailable || !strings.Contains(answer, "store_unavailable") {
			t.Errorf("after %s, a device that nobody knows: %d %s", wait, status, answer)
		}
		if _, answer := s.asks(t, "/emqx/authz", "application/json", "", `{"username":"`+form.Get("username")+`","action":"publish","topic":"up"}`); !strings.Contains(answer, "deny") {
			t.Errorf("after %s, EMQX is told %s", wait, answer)
		}
	}
	server.Start()
	eventually(t, "the store takes changes", func() error {
		_, err := h.store.UpdateDevice(t.Context(), provision.Update{
			Hub: d.fleet.hub.ID, Device: d.id,
			Change: func(d *provision.Device) error {
				d.Filters = nil
				return nil
			},
			Event: func(d provision.Device) provision.Event { return provision.Updated.OnDevice(d, time.Now()) },
		})
		return err
	})
	s.answers(t, "filters change again", true, d, 2, "down")
}

// manyAsk: of many that connect at once nobody is refused because the broker
// asked before the news of its connection was here.
func manyAsk(t *testing.T, s *site) {
	f := s.fleet(t)
	var connecting sync.WaitGroup
	for i := range 50 {
		d := f.device(t, fmt.Sprintf("SN-%d", i))
		connecting.Go(func() {
			c, err := d.dial(s.edge, dialing{})
			if err != nil {
				t.Errorf("%s: %v", d.name, err)
				return
			}
			t.Cleanup(c.close)
		})
	}
	connecting.Wait()
}
