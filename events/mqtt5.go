package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// v5Conn is a connection that speaks MQTT 5.0.
type v5Conn struct {
	client  *paho.Client
	timeout time.Duration
}

// connectV5 begins a clean session: what was not acknowledged is published
// again by us, who know the order.
func connectV5(ctx context.Context, conn net.Conn, id, username, password string, timeout time.Duration) (mqttConn, error) {
	client := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), PacketTimeout: timeout})
	connect := &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: uint16(keepAlive / time.Second)}
	if username != "" {
		connect.Username, connect.UsernameFlag = username, true
	}
	if password != "" {
		connect.Password, connect.PasswordFlag = []byte(password), true
	}
	answer, err := client.Connect(ctx, connect)
	if err != nil {
		_ = conn.Close()
		if answer != nil && answer.ReasonCode >= 0x80 {
			return nil, fmt.Errorf("the broker refuses us: %s (0x%02x)", reasonText(answer.ReasonCode), answer.ReasonCode)
		}
		return nil, err
	}
	return &v5Conn{client, timeout}, nil
}

// MQTT 5.0, 2.4: reason codes.
const (
	codeBadCredentials = 0x86
	codeNotAuthorized  = 0x87
	codeTopicInvalid   = 0x90
	codePacketTooLarge = 0x95
	codePayloadInvalid = 0x99
)

func reasonText(code byte) string {
	switch code {
	case codeBadCredentials:
		return "bad user name or password"
	case codeNotAuthorized:
		return "not authorized"
	case codeTopicInvalid:
		return "topic name invalid"
	case codePacketTooLarge:
		return "packet too large"
	case codePayloadInvalid:
		return "payload format invalid"
	}
	return "reason code"
}

func (c *v5Conn) publish(ctx context.Context, messages []message) (int, error) {
	json := byte(1) // UTF-8
	for i, m := range messages {
		answer, err := c.client.Publish(ctx, &paho.Publish{
			QoS: 1, Topic: m.topic, Payload: m.payload,
			Properties: &paho.PublishProperties{PayloadFormat: &json, ContentType: "application/json"},
		})
		switch {
		case answer != nil && answer.ReasonCode >= 0x80:
			cause := fmt.Errorf("%s: %s (0x%02x)", m.topic, reasonText(answer.ReasonCode), answer.ReasonCode)
			switch answer.ReasonCode {
			case codeTopicInvalid, codePacketTooLarge, codePayloadInvalid:
				return i, &Refusal{cause}
			case codeNotAuthorized:
				return i, fmt.Errorf("%w: %w", errDenied, cause)
			}
			return i, cause
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return i, errors.New("the broker did not acknowledge in time")
		case err != nil:
			return i, err
		}
	}
	return len(messages), nil
}

func (c *v5Conn) lost() <-chan struct{} { return c.client.Done() }

func (c *v5Conn) close() {
	_ = c.client.Disconnect(&paho.Disconnect{ReasonCode: 0}) // it may be gone already
}
