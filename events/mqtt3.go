package events

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// keepAlive is how often a silent connection shows that it lives.
const keepAlive = 30 * time.Second

// v3Conn is a connection that speaks MQTT 3.1.1.
type v3Conn struct {
	client  mqtt.Client
	timeout time.Duration
	gone    chan struct{}
	once    sync.Once
}

// connectV3 begins a clean session: what was not acknowledged is published
// again by us, who know the order.
func connectV3(ctx context.Context, conn net.Conn, id, username, password string, timeout time.Duration) (mqttConn, error) {
	c := &v3Conn{timeout: timeout, gone: make(chan struct{})}
	options := mqtt.NewClientOptions().
		AddBroker("tcp://" + conn.RemoteAddr().String()). // not dialled: the connection is there
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil }).
		SetProtocolVersion(4).SetClientID(id).SetUsername(username).SetPassword(password).
		SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetKeepAlive(keepAlive).SetConnectTimeout(timeout).SetWriteTimeout(timeout).
		SetConnectionLostHandler(func(mqtt.Client, error) { c.end() })
	c.client = mqtt.NewClient(options)
	token := c.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		c.close()
		_ = conn.Close()
		return nil, errors.New("the broker did not answer in time")
	}
	if err := token.Error(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *v3Conn) publish(ctx context.Context, messages []message) (int, error) {
	tokens := make([]mqtt.Token, len(messages))
	for i, m := range messages {
		tokens[i] = c.client.Publish(m.topic, 1, false, m.payload)
	}
	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	for i, token := range tokens {
		select {
		case <-token.Done():
			if err := token.Error(); err != nil {
				return i, err
			}
			timer.Reset(c.timeout)
		case <-timer.C:
			return i, errors.New("the broker did not acknowledge in time")
		case <-c.gone:
			return i, errors.New("the connection broke")
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
	return len(messages), nil
}

func (c *v3Conn) lost() <-chan struct{} { return c.gone }

func (c *v3Conn) end() { c.once.Do(func() { close(c.gone) }) }

func (c *v3Conn) close() {
	c.end()
	const quiesce = 250 // milliseconds for what is being sent
	c.client.Disconnect(quiesce)
}
