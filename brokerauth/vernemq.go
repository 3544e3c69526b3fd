package brokerauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hubgate/hubgate/provision"
)

// maxTopics is how many topics one SUBSCRIBE may have.
const maxTopics = 1000

// vernemqDialect is that of VerneMQ's webhooks, all at one URL: the header says
// which it is. Those of MQTT 5 end in _m5. What VerneMQ may remember it is not
// told to, so it asks each time.
func vernemqDialect() dialect {
	return dialect{broker: "vernemq", read: readVerneMQ, reply: replyVerneMQ}
}

const (
	vernemqHook  = "vernemq-hook"
	vernemqMQTT5 = "_m5"
	// What a SUBACK says of a topic filter that is refused, in MQTT 3.1.1 and 5.
	subackFailure       = 128
	subackNotAuthorized = 135
)

type vernemqParams struct {
	Username string            `json:"username"` // null if there is none
	Password string            `json:"password"`
	ClientID string            `json:"client_id"`
	Topic    string            `json:"topic"`
	Topics   []json.RawMessage `json:"topics"`
}

type vernemqTopic struct {
	Topic string `json:"topic"`
	QoS   int    `json:"qos"`
}

func readVerneMQ(r *http.Request, body []byte) (question, error) {
	var p vernemqParams
	if err := json.Unmarshal(body, &p); err != nil {
		return question{}, err
	}
	q := question{username: p.Username, clientID: p.ClientID}
	switch hook := r.Header.Get(vernemqHook); strings.TrimSuffix(hook, vernemqMQTT5) {
	case "auth_on_register":
		q.action, q.password = connect, p.Password
	case "auth_on_publish":
		q.action, q.topics = publish, []string{p.Topic}
	case "auth_on_subscribe":
		if n := len(p.Topics); n == 0 || n > maxTopics {
			return q, fmt.Errorf("%d topics, not 1 to %d", n, maxTopics)
		}
		q.action, q.raw = subscribe, p.Topics
		for _, raw := range p.Topics {
			var t vernemqTopic
			if err := json.Unmarshal(raw, &t); err != nil {
				return q, err
			}
			q.topics = append(q.topics, t.Topic)
		}
	case "":
		return q, errors.New("no header " + vernemqHook)
	default:
		return q, fmt.Errorf("hook %.40q is none that asks", hook)
	}
	return q, nil
}

func replyVerneMQ(r *http.Request, q question, verdicts []verdict) response {
	type object map[string]any
	refused := 0
	for _, v := range verdicts {
		switch v.reason.outcome() {
		case provision.Fault:
			return response{v.status(), object{"result": object{"error": string(v.reason)}}}
		case provision.Deny:
			refused++
		}
	}
	switch {
	case refused == 0:
		return response{http.StatusOK, object{"result": "ok"}}
	case q.action != subscribe:
		return response{http.StatusOK, object{"result": object{"error": "not_allowed"}}}
	}
	// Some may be allowed: each topic is answered, in the order asked.
	mqtt5 := strings.HasSuffix(r.Header.Get(vernemqHook), vernemqMQTT5)
	code := subackFailure
	if mqtt5 {
		code = subackNotAuthorized
	}
	topics := make([]any, len(verdicts))
	for i, v := range verdicts {
		topics[i] = q.raw[i]
		if !v.allows() {
			topics[i] = vernemqTopic{q.topics[i], code}
		}
	}
	if mqtt5 {
		return response{http.StatusOK, object{"result": "ok", "modifiers": object{"topics": topics}}}
	}
	return response{http.StatusOK, object{"result": "ok", "topics": topics}}
}
