package sessions

import (
	"crypto/tls"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// topics of a device: all that the broker's ACL lets it use.
func (d *device) topic(rest string) string {
	return d.fleet.hub.ID.String() + "/" + d.name + "/" + rest
}

// identityAtTheBroker: the broker knows devices by what hubgate says. One of
// another hub, with the same CN and client ID, and the other's user name in its
// CONNECT, neither reads nor disturbs the first.
func identityAtTheBroker(t *testing.T, s *site) {
	for _, version := range versions {
		one, two := s.fleet(t).device(t, "SN-1"), s.fleet(t).device(t, "SN-1")
		first := one.connect(t, s.edge, dialing{version: version, clientID: "client"})
		first.subscribe(t, one.topic("#"))
		second := two.connect(t, s.edge, dialing{
			version: version, clientID: "client", userName: one.fleet.hub.ID.String() + "/SN-1", password: "secret",
		})
		second.subscribe(t, "#")
		second.subscribe(t, one.topic("#"))
		second.publish(t, one.topic("forged"), "forged")
		second.ping(t)
		first.publish(t, one.topic("own"), "21.5")
		first.receives(t, one.topic("own"), "21.5")
		first.receivedNothing(t)
		second.receivedNothing(t)
		second.publish(t, two.topic("own"), "22.5")
		second.receives(t, two.topic("own"), "22.5")
		if !first.open() || !second.open() {
			t.Error("one took the other's connection over")
		}
		one.fleet.lists(t, "SN-1")
		two.fleet.lists(t, "SN-1")
	}
}

// pahoClient: a client library of others speaks through the library.
func pahoClient(t *testing.T, s *site) {
	d := s.fleet(t).device(t, "SN-1")
	lost := make(chan error, 1)
	client := paho.NewClient(paho.NewClientOptions().
		AddBroker("ssl://" + s.edge.mqtt).SetClientID("client").SetUsername("admin").SetPassword("secret").SetProtocolVersion(4).
		SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.edge.servers, Certificates: []tls.Certificate{d.cert}}).
		SetConnectTimeout(patience).SetAutoReconnect(false).
		SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err }))
	await := func(token paho.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("no answer, or: %v", token.Error())
		}
	}
	await(client.Connect())
	defer client.Disconnect(0)
	got := make(chan string, 1)
	await(client.Subscribe(d.topic("a"), 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) }))
	await(client.Publish(d.topic("a"), 1, false, "21.5"))
	select {
	case text := <-got:
		if text != "21.5" {
			t.Errorf("received %q", text)
		}
	case <-time.After(patience):
		t.Fatal("the message did not come back")
	}
	d.order(t)
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("the connection did not end")
	}
}

// byteByByte: a CONNECT may come in as many TLS records as it has bytes.
func byteByByte(t *testing.T, s *site) {
	for _, version := range versions {
		d := s.fleet(t).device(t, "SN-1")
		c := d.connect(t, s.edge, dialing{version: version, slowly: true, userName: "admin", password: "secret"})
		c.subscribe(t, d.topic("#"))
		c.publish(t, d.topic("a"), "21.5")
		c.receives(t, d.topic("a"), "21.5")
	}
}

// neverSeenIntermediate: the hub knows a root alone. A device of a line that
// nobody has heard of gets in by MQTT, and what it brought serves later: on a
// resumed TLS session, and for those who bring their leaf alone.
func neverSeenIntermediate(t *testing.T, s *site) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f := s.fleet(t)
		d := f.device(t, "SN-1")
		if _, err := f.device(t, "SN-2").sends().dial(s.edge, dialing{}); err == nil {
			t.Fatal("a leaf alone got in before its line was known")
		}
		how := dialing{tls: version, cache: tls.NewLRUClientSessionCache(1)}
		for i := range 3 {
			c := d.connect(t, s.edge, how)
			c.ping(t) // by which a ticket of TLS 1.3 has come
			if c.resumed != (i > 0) {
				t.Errorf("%s, connection %d: resumed %t", tls.VersionName(version), i, c.resumed)
			}
			c.close()
		}
		f.device(t, "SN-2").sends().connect(t, s.edge, dialing{}).ping(t)
		f.lists(t, "SN-2")
	}
}
