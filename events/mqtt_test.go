package events_test

import (
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/uuid"

	"github.com/hubgate/hubgate/events"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/storetest"
)

func serverTLS(ca *pki.Authority, id *pki.Identity) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	return &tls.Config{Certificates: []tls.Certificate{id.TLS()}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
}

func listenAgain(t *testing.T, address string) net.Listener {
	t.Helper()
	var l net.Listener
	eventually(t, "the port", func() bool {
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil
	})
	return l
}

// subscribe receives what is published under the filters, as that user, until
// the test ends.
func (b *broker) subscribe(user string, filters ...string) *inbox {
	b.t.Helper()
	box := &inbox{}
	options := mqtt.NewClientOptions().AddBroker("tcp://" + b.address()).SetClientID("test-" + uuid.NewString()[:8]).
		SetUsername(user).SetPassword(user).SetConnectRetry(true).SetConnectRetryInterval(20 * time.Millisecond).
		SetMaxReconnectInterval(50 * time.Millisecond).SetCleanSession(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			var e provision.Event
			if err := json.Unmarshal(m.Payload(), &e); err != nil {
				e.Message = string(m.Payload())
			}
			box.put(e, m.Topic())
		})
	subscribed := make(chan error, 16)
	options.SetOnConnectHandler(func(c mqtt.Client) {
		all := make(map[string]byte)
		for _, f := range filters {
			all[f] = 1
		}
		token := c.SubscribeMultiple(all, nil)
		go func() { token.Wait(); subscribed <- token.Error() }()
	})
	client := mqtt.NewClient(options)
	client.Connect()
	select {
	case err := <-subscribed:
		if err != nil {
			b.t.Fatal(err)
		}
	case <-time.After(patience):
		b.t.Fatalf("%s could not subscribe", user)
	}
	b.t.Cleanup(func() { client.Disconnect(0) })
	return box
}

// acl is the broker's access list of docs/events.md.
func acl(t *testing.T) string {
	t.Helper()
	text := string(must(os.ReadFile("../docs/events.md"))(t))
	_, text, ok := strings.Cut(text, "```conf acl\n")
	text, _, end := strings.Cut(text, "```")
	if !ok || !end {
		t.Fatal("docs/events.md has no access list")
	}
	return write(t, "acl", text)
}

// passwords makes a password file in which each user's password is its name.
func passwords(t *testing.T, users ...string) string {
	t.Helper()
	var lines strings.Builder
	for _, user := range users {
		salt := []byte("salt of test") // 12 bytes, which mosquitto 2.0 insists on

		hash := must(pbkdf2.Key(sha512.New, user, salt, 101, 64))(t)
		encode := base64.StdEncoding.EncodeToString
		lines.WriteString(user + ":$7$101$" + encode(salt) + "$" + encode(hash) + "\n")
	}
	return write(t, "passwords", lines.String())
}

// TestMQTT: a real broker with the documented access list. Hubgate publishes;
// who subscribes to errors sees errors alone; a device can neither publish nor
// read where events are.
func TestMQTT(t *testing.T) {
	t.Parallel()
	hub := storetest.NewHub()
	device := hub.ID.String() + "/chip-1" // as the library names it to the broker
	b := startBroker(t, "allow_anonymous false", "acl_file "+acl(t), "password_file "+passwords(t, "hubgate", "billing", device))
	for _, v311 := range []bool{false, true} {
		t.Run(fmt.Sprintf("3.1.1 is %t", v311), func(t *testing.T) {
			t.Parallel()
			store := openBolt(t, boltstore.Config{})
			s := newSource(t, store)
			prefix := "hubgate/" + s.hub.ID.String() + "/events/"
			all := b.subscribe("billing", prefix+"#")
			errorsOnly := b.subscribe("billing", "hubgate/+/events/error/#")
			spy := b.subscribe(device, "hubgate/#", "#")
			sink := must(events.NewMQTT(events.MQTTConfig{
				Label: "broker", URL: "mqtt://" + b.address(), V311: v311, Username: "hubgate", PasswordFile: write(t, "password", "hubgate\n"),
			}))(t)
			relay(t, store, nil, sink)
			s.make(3)
			s.make(1, func(e *provision.Event) {
				e.Severity, e.ObjectType = provision.SeverityError, provision.ObjectDevice
				e.ObjectID = provision.DeviceIDOf(s.hub.ID, "chip-1").String()
			})
			s.make(2)
			all.has(s)
			eventually(t, "the error", func() bool { return len(errorsOnly.of(s.hub.ID)) > 0 })
			equal(t, "errors", messagesOf(errorsOnly.of(s.hub.ID)), []string{"4"})
			all.mu.Lock()
			if want := prefix + "error/device/" + provision.DeviceIDOf(s.hub.ID, "chip-1").String(); all.topics[3] != want {
				t.Errorf("topic %s, want %s", all.topics[3], want)
			}
			if want := prefix + "info/hub/" + s.hub.ID.String(); all.topics[0] != want {
				t.Errorf("topic %s, want %s", all.topics[0], want)
			}
			all.mu.Unlock()

			// The device forges events, then something that it may publish.
			own := b.subscribe(device, device+"/#")
			forger := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.address()).SetClientID("forger-" + uuid.NewString()[:8]).
				SetUsername(device).SetPassword(device))
			if token := forger.Connect(); token.Wait() && token.Error() != nil {
				t.Fatal(token.Error())
			}
			defer forger.Disconnect(0)
			for _, topic := range []string{prefix + "info/hub/" + s.hub.ID.String(), prefix + "error/device/x", "$SCW/events/info/hub/x", device + "/up"} {
				forger.Publish(topic, 1, false, "forged").Wait()
			}
			eventually(t, "what the device may publish", func() bool { return len(own.of(provision.HubID{})) > 0 || len(own.topicsNow()) > 0 })
			s.make(1)
			all.has(s) // and nothing forged
			for _, box := range []*inbox{all, errorsOnly} {
				box.mu.Lock()
				for i, e := range box.events {
					if e.Message == "forged" {
						t.Errorf("a device published on %s", box.topics[i])
					}
				}
				box.mu.Unlock()
			}
			for _, topic := range spy.topicsNow() {
				if !strings.HasPrefix(topic, device+"/") {
					t.Errorf("a device reads %s", topic)
				}
			}
		})
	}
}

func (b *inbox) topicsNow() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.topics...)
}

// TestMQTTRefused: a broker that refuses is told of and not given up; over MQTT
// 5.0 it also says what it does not let us publish.
func TestMQTTRefused(t *testing.T) {
	t.Parallel()
	b := startBroker(t, "allow_anonymous false", "acl_file "+acl(t), "password_file "+passwords(t, "hubgate", "billing"))
	for _, c := range []struct {
		user, password string
		v311           bool
		want           string
	}{
		{"hubgate", "wrong", false, "not authorized"},
		{"hubgate", "wrong", true, "not Authorized"},
		{"", "", false, "not authorized"},
		{"billing", "billing", false, "not authorized to publish"},
		{"hubgate", "hubgate", false, ""},
		{"hubgate", "hubgate", true, ""},
	} {
		config := events.MQTTConfig{Label: "broker", URL: "mqtt://" + b.address(), V311: c.v311, Username: c.user}
		if c.password != "" {
			config.PasswordFile = write(t, "password", c.password+"\n")
		}
		sink := must(events.NewMQTT(config))(t)
		err := events.Check(t.Context(), sink, time.Now())
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("user %q, 3.1.1 %t: %v, want %q", c.user, c.v311, err, c.want)
		}
		var refusal *events.Refusal
		if errors.As(err, &refusal) {
			t.Errorf("user %q: the event would be given up: %v", c.user, err)
		}
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMQTTS: mutual TLS towards the broker, with certificates that are read anew.
func TestMQTTS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := must(pki.NewRoot("Operator"))(t)
	caFile := write(t, "ca.pem", string(pki.EncodeCertificates(ca.Certificate)))
	files := func(id *pki.Identity, name string) (string, string) {
		cert, key, err := id.WriteFiles(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	serverCert, serverKey := files(must(ca.Server("127.0.0.1"))(t), "server")
	b := startBroker(t, "allow_anonymous true", "require_certificate true", "cafile "+caFile, "certfile "+serverCert, "keyfile "+serverKey)
	stranger := must(pki.NewRoot("Stranger"))(t)
	for _, v311 := range []bool{false, true} {
		cert, key := files(must(stranger.Leaf("hubgate"))(t), "client")
		sink := must(events.NewMQTT(events.MQTTConfig{
			Label: "broker", URL: "mqtts://" + b.address(), V311: v311, TLS: events.TLS{CAFile: caFile, CertFile: cert, KeyFile: key},
		}))(t)
		if err := events.Check(t.Context(), sink, time.Now()); err == nil {
			t.Error("a stranger's certificate was accepted")
		}
		files(must(ca.Leaf("hubgate"))(t), "client")
		eventually(t, "the new certificate to be used", func() bool { return events.Check(t.Context(), sink, time.Now()) == nil })
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "client.pem")); err != nil {
		t.Error(err)
	}
}

// TestBrokenLinks: connections that break in the middle of publishing cost
// nothing: everything arrives, in order.
func TestBrokenLinks(t *testing.T) {
	t.Parallel()
	for _, v311 := range []bool{false, true} {
		t.Run(fmt.Sprintf("3.1.1 is %t", v311), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, "allow_anonymous true", "max_queued_messages 0")
			w := newWire(t, b.address())
			store := openBolt(t, boltstore.Config{})
			sink := must(events.NewMQTT(events.MQTTConfig{Label: "broker", URL: "mqtt://" + w.address, V311: v311, Timeout: 2 * time.Second}))(t)
			running := relay(t, store, nil, sink)
			s := newSource(t, store)
			box := b.subscribe("", "hubgate/#")
			for range 10 {
				s.make(50)
				w.cut(rand.IntN(2) == 0)
				s.make(20)
				w.cut(false)
			}
			w.heal()
			box.has(s)
			box.mu.Lock()
			t.Logf("%d events, %d deliveries, %v failures", s.made, len(box.events), running.metric("hubgate_events_delivery_failures_total", "mqtt:broker"))
			box.mu.Unlock()
		})
	}
}

// wire passes connections on until it is cut.
type wire struct {
	address string
	target  string
	mu      sync.Mutex
	down    bool
	conns   map[net.Conn]bool
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	w := &wire{address: l.Addr().String(), target: target, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = l.Close(); w.cut(true) })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go w.pass(near)
		}
	}()
	return w
}

func (w *wire) pass(near net.Conn) {
	far, err := net.Dial("tcp", w.target)
	w.mu.Lock()
	if err != nil || w.down {
		w.mu.Unlock()
		_ = near.Close()
		if far != nil {
			_ = far.Close()
		}
		return
	}
	w.conns[near], w.conns[far] = true, true
	w.mu.Unlock()
	go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
	_, _ = io.Copy(near, far)
	_ = near.Close()
}

// cut breaks what there is; while down, nothing gets through.
func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for c := range w.conns {
		_ = c.Close()
		delete(w.conns, c)
	}
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

// TestHubSettings: what a hub's owner says of the events holds.
func TestHubSettings(t *testing.T) {
	t.Parallel()
	b := startBroker(t, "allow_anonymous true")
	store := openBolt(t, boltstore.Config{})
	quiet, own, foul, plain := newSource(t, store), newSource(t, store), newSource(t, store), newSource(t, store)
	sink := must(events.NewMQTT(events.MQTTConfig{
		Label: "broker", URL: "mqtt://" + b.address(), HubPrefixes: true,
		Hub: func(id provision.HubID) events.HubSettings {
			switch id {
			case quiet.hub.ID:
				return events.HubSettings{Disabled: true}
			case own.hub.ID:
				return events.HubSettings{TopicPrefix: "$SCW/events"}
			case foul.hub.ID:
				return events.HubSettings{TopicPrefix: "a/#/b"}
			}
			return events.HubSettings{}
		},
	}))(t)
	box, scw := b.subscribe("", "#"), b.subscribe("", "$SCW/events/#")
	running := relay(t, store, nil, sink)
	for _, s := range []*source{quiet, own, foul, plain} {
		s.make(2)
	}
	scw.has(own)
	box.has(plain)
	box.has(foul)
	eventually(t, "no backlog", func() bool { return running.metric("hubgate_events_backlog", "mqtt:broker") == 0 })
	if got := box.of(quiet.hub.ID); len(got) != 0 {
		t.Errorf("events of a hub that wants none: %+v", got)
	}
	if topics := scw.topicsNow(); topics[0] != "$SCW/events/info/hub/"+own.hub.ID.String() {
		t.Errorf("topics %q", topics)
	}
}

// TestHubTopicDenied: a topic that a hub's owner chose, and the broker forbids,
// keeps no other hub's events.
func TestHubTopicDenied(t *testing.T) {
	t.Parallel()
	b := startBroker(t, "allow_anonymous true", "acl_file "+write(t, "acl", "topic readwrite hubgate/#\n"))
	store := openBolt(t, boltstore.Config{Partitions: 1})
	greedy, plain := newSource(t, store), newSource(t, store)
	sink := must(events.NewMQTT(events.MQTTConfig{
		Label: "broker", URL: "mqtt://" + b.address(), HubPrefixes: true,
		Hub: func(id provision.HubID) events.HubSettings {
			if id == greedy.hub.ID {
				return events.HubSettings{TopicPrefix: "elsewhere"}
			}
			return events.HubSettings{}
		},
	}))(t)
	box := b.subscribe("", "hubgate/#")
	running := relay(t, store, func(c *events.Config) { c.Refusals = 1 }, sink)
	greedy.make(1)
	plain.make(2)
	box.has(plain)
	if n := running.metric("hubgate_events_dead_letters_total", "mqtt:broker"); n != 1 {
		t.Errorf("%v events were given up, want the one", n)
	}
}
