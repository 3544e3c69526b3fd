package demo

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hubgate/hubgate/provision"
)

// connectTimeout bounds each step of a connection.
const connectTimeout = 10 * time.Second

// forged are headers by which a device could pass for another, if they came
// through.
var forged = map[string]string{
	"X-Device-Id": "forged", "X-Device-Name": "forged", "X-Hub-Id": "forged", "X-Forwarded-Client-Cert": "Hash=00",
}

// get makes one HTTPS request as the device, on a connection of its own. It
// returns how the request was answered; an admitted device must be known to
// the backend by its own identity.
func (s *site) get(ctx context.Context, d *device, headers map[string]string) (status int, err error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: d.source.AsSlice()}, Timeout: connectTimeout}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, s.https)
		},
		TLSClientConfig: d.tls(),
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: connectTimeout}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+d.host()+"/hello", nil)
	if err != nil {
		return 0, err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return response.StatusCode, err
	}
	if want := d.greeting(); string(body) != want {
		return response.StatusCode, fmt.Errorf("the backend said %q, want %q", body, want)
	}
	return response.StatusCode, nil
}

// dial connects to the broker as the device, which lies about who it is: the
// broker must be told by its true name. lost is called if the connection ends.
func (s *site) dial(ctx context.Context, d *device, lost func()) (paho.Client, error) {
	options := paho.NewClientOptions().
		AddBroker("ssl://" + s.mqtt).
		SetTLSConfig(d.tls()).
		SetDialer(&net.Dialer{LocalAddr: &net.TCPAddr{IP: d.source.AsSlice()}, Timeout: connectTimeout}).
		SetClientID(claimedID).
		SetUsername("somebody else").
		SetProtocolVersion(4). // 3.1.1; else a refusal is followed by a second try
		SetConnectTimeout(connectTimeout).
		SetAutoReconnect(false).
		SetConnectionLostHandler(func(paho.Client, error) { lost() })
	client := paho.NewClient(options)
	if err := await(ctx, client.Connect()); err != nil {
		return nil, err
	}
	if want := d.client(); !s.broker.knows(want) {
		client.Disconnect(0)
		return nil, fmt.Errorf("the broker was not told of user %q, client ID %q", want.user, want.id)
	}
	return client, nil
}

// claimedID is the client ID that all devices claim. They do not disturb each
// other.
const claimedID = "sensor"

// client is what the broker has to be told of the device.
func (d *device) client() client {
	hub := provision.DeclaredHubID(d.hub)
	return client{user: hub.String() + "/" + d.name, id: provision.DeviceIDOf(hub, d.name).String() + "-" + claimedID}
}

// converse connects to the broker as the device, subscribes to a topic,
// publishes on it, and waits for its own message.
func (s *site) converse(ctx context.Context, d *device) error {
	client, err := s.dial(ctx, d, func() {})
	if err != nil {
		return err
	}
	defer client.Disconnect(0)
	topic, got := "devices/"+d.name, make(chan string, 1)
	err = await(ctx, client.Subscribe(topic, 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) }))
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	const text = "21.5"
	if err := await(ctx, client.Publish(topic, 1, false, text)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	select {
	case m := <-got:
		if m != text {
			return fmt.Errorf("published %q, received %q", text, m)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(connectTimeout):
		return fmt.Errorf("the published message did not come back within %s", connectTimeout)
	}
}

func await(ctx context.Context, token paho.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(connectTimeout):
		return fmt.Errorf("no answer within %s", connectTimeout)
	}
}

// tls presents the whole chain, root included, as many devices do.
func (d *device) tls() *tls.Config {
	above := append(slices.Clone(d.identity.Chain[1:]), d.identity.Root)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: d.host(), RootCAs: d.servers,
		Certificates: []tls.Certificate{d.identity.TLSWith(above...)},
	}
}

func (d *device) host() string { return d.hub + "." + domain }

// greeting is what the backend says to the device, if it is known by its own
// identity.
func (d *device) greeting() string {
	hub := provision.DeclaredHubID(d.hub)
	return greeting(d.name, provision.DeviceIDOf(hub, d.name).String(), hub.String())
}

// isAlert reports whether TLS told the device that it is denied.
func isAlert(err error) bool { return strings.Contains(err.Error(), "access denied") }
