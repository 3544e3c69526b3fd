package events

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/events/endpoint"
	"github.com/hubgate/hubgate/provision"
)

// prefixedTopic is what follows a hub's own topic prefix.
const prefixedTopic = "/{severity}/{object_type}/{object_id}"

// DefaultTimeout bounds a connection to a sink, and each of its answers.
const DefaultTimeout = 10 * time.Second

// MQTTConfig is what an MQTT sink is made of. Label and URL are required.
type MQTTConfig struct {
	// Label tells the sink from others; it is called mqtt:<Label>.
	Label string
	// URL is mqtt://host:port, or mqtts://host:port with TLS. Ports default to
	// 1883 and 8883.
	URL string
	// V311 speaks MQTT 3.1.1 instead of 5.0. Such a broker does not tell when it
	// throws away what its access list forbids.
	V311 bool
	// ClientID begins the client ID; what follows differs from process to
	// process. "": hubgate.
	ClientID string
	// Username and PasswordFile; "": none.
	Username, PasswordFile string
	TLS                    TLS
	// Topic is the topic's template; see endpoint.Topic. "":
	// endpoint.DefaultTopic.
	Topic string
	// Severity is the least that is published: "" or info for all, error.
	Severity provision.Severity
	// Hub returns what a hub's owner set, the zero value for an unknown hub.
	// Nil: nothing is set.
	Hub func(provision.HubID) HubSettings
	// HubPrefixes heeds HubSettings.TopicPrefix. Whoever may set it can publish
	// under any topic that the broker lets hubgate publish to.
	HubPrefixes bool
	// Timeout bounds a connection and each acknowledgement. 0: DefaultTimeout.
	Timeout time.Duration
}

// HubSettings are what a hub says of its events.
type HubSettings struct {
	// Disabled: no event of the hub is published.
	Disabled bool
	// TopicPrefix comes in the place of "hubgate/{hub_id}/events", "" for none.
	TopicPrefix string
}

// MQTT is a sink that publishes to a broker, with QoS 1, and counts as taken
// what the broker has acknowledged.
type MQTT struct {
	config MQTTConfig
	server *url.URL

	mu      sync.Mutex
	conn    mqttConn
	failure error     // of the last attempt to connect
	failed  time.Time // when that was
	closed  bool
}

// mqttConn is one connection to a broker.
type mqttConn interface {
	// publish publishes in order, waits for the acknowledgements, and returns
	// how many came, from the first message on. After an error that is no
	// *Refusal and no errDenied, the connection is not to be used any more.
	publish(ctx context.Context, messages []message) (int, error)
	// lost is closed when the connection is.
	lost() <-chan struct{}
	close()
}

type message struct {
	topic   string
	payload []byte
	// own is set if the hub's owner chose the topic.
	own bool
}

// errDenied: the broker does not let us publish there.
var errDenied = errors.New("not authorized to publish")

// NewMQTT makes an MQTT sink. It does not connect.
func NewMQTT(c MQTTConfig) (*MQTT, error) {
	c.ClientID = cmp.Or(c.ClientID, "hubgate")
	c.Topic = cmp.Or(c.Topic, endpoint.DefaultTopic)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	server, err := endpoint.Broker(c.URL)
	if err != nil {
		return nil, err
	}
	if err := endpoint.Topic(c.Topic); err != nil {
		return nil, err
	}
	if c.Hub == nil {
		c.Hub = func(provision.HubID) HubSettings { return HubSettings{} }
	}
	return &MQTT{config: c, server: server}, nil
}

// Name implements Sink.
func (m *MQTT) Name() string { return "mqtt:" + m.config.Label }

// Wants implements Sink.
func (m *MQTT) Wants(e provision.Event) bool {
	return meets(m.config.Severity, e) && !m.config.Hub(e.Hub).Disabled
}

// topic is where an event is published. All that is filled in is an ID or a
// word of ours, so that no name of a device can lead to another topic.
func (m *MQTT) topic(e provision.Event) (topic string, own bool) {
	template := m.config.Topic
	if prefix := m.config.Hub(e.Hub).TopicPrefix; prefix != "" && m.config.HubPrefixes {
		if t := strings.TrimSuffix(prefix, "/") + prefixedTopic; endpoint.Topic(t) == nil {
			template, own = t, true
		}
	}
	return strings.NewReplacer("{hub_id}", e.Hub.String(), "{severity}", string(e.Severity),
		"{object_type}", string(e.ObjectType), "{object_id}", e.ObjectID, "{reason}", e.Reason).Replace(template), own
}

// Deliver implements Sink.
func (m *MQTT) Deliver(ctx context.Context, events []provision.Event) (int, error) {
	messages := make([]message, len(events))
	for i, e := range events {
		payload, err := json.Marshal(e)
		if err != nil {
			return 0, &Refusal{err}
		}
		topic, own := m.topic(e)
		messages[i] = message{topic, payload, own}
	}
	conn, err := m.connection(ctx)
	if err != nil {
		return 0, err
	}
	n, err := conn.publish(ctx, messages)
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) && !errors.Is(err, errDenied) && ctx.Err() == nil {
		m.drop(conn)
	}
	if errors.Is(err, errDenied) && messages[n].own {
		// Who chose it mends it, or not: it must not keep other hubs' events.
		refusal = &Refusal{err}
	}
	if err != nil {
		err = fmt.Errorf("publish on %s: %w", m.server.Host, err)
		if refusal != nil {
			err = &Refusal{err}
		}
	}
	return n, err
}

// again is the least time between two attempts to connect.
const again = 500 * time.Millisecond

// connection returns the connection, which all workers share.
func (m *MQTT) connection(ctx context.Context) (mqttConn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		select {
		case <-m.conn.lost():
			m.conn = nil
		default:
			return m.conn, nil
		}
	}
	switch {
	case m.closed:
		return nil, net.ErrClosed
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case m.failure != nil && time.Since(m.failed) < again:
		return nil, m.failure
	}
	conn, err := m.connect(ctx)
	if err != nil {
		err = fmt.Errorf("connect to %s: %w", m.server.Host, err)
	}
	m.conn, m.failure, m.failed = conn, err, time.Now()
	return conn, err
}

func (m *MQTT) connect(ctx context.Context) (mqttConn, error) {
	// A worker that loses its lease must not cost the others the connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.config.Timeout)
	defer cancel()
	password, err := secret(m.config.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("password_file: %w", err)
	}
	conn, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	// Two processes with one client ID would throw each other out.
	random := uuid.New()
	id := m.config.ClientID + "-" + hex.EncodeToString(random[:4])
	if m.config.V311 {
		return connectV3(ctx, conn, id, m.config.Username, password, m.config.Timeout)
	}
	return connectV5(ctx, conn, id, m.config.Username, password, m.config.Timeout)
}

func (m *MQTT) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	if m.server.Scheme != "mqtts" {
		return d.DialContext(ctx, "tcp", m.server.Host)
	}
	config, err := m.config.TLS.config(m.server.Hostname())
	if err != nil {
		return nil, err
	}
	return tlsDial(ctx, "tcp", m.server.Host, config)
}

// drop gives a broken connection up.
func (m *MQTT) drop(conn mqttConn) {
	m.mu.Lock()
	if m.conn == conn {
		m.conn = nil
	}
	m.mu.Unlock()
	conn.close()
}

// Close implements Sink.
func (m *MQTT) Close() error {
	m.mu.Lock()
	conn := m.conn
	m.conn, m.closed = nil, true
	m.mu.Unlock()
	if conn != nil {
		conn.close()
	}
	return nil
}
