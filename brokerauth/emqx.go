package brokerauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// emqxDialect is that of EMQX 5's HTTP authenticator and HTTP authorizer, with
// the bodies that docs/broker-auth.md has. To EMQX, any status but 200 and 204
// means that we have no opinion, and what nobody has an opinion on it allows by
// default. So it is always answered, faults and malformed questions with deny.
func emqxDialect(ask func(emqxParams) (question, error)) dialect {
	return dialect{
		broker: "emqx",
		read: func(_ *http.Request, body []byte) (question, error) {
			var p emqxParams
			if err := json.Unmarshal(body, &p); err != nil {
				return question{}, err
			}
			return ask(p)
		},
		reply: func(_ *http.Request, _ question, verdicts []verdict) response {
			if verdicts[0].allows() {
				return response{http.StatusOK, emqxAnswer{Result: "allow"}}
			}
			return response{http.StatusOK, emqxAnswer{Result: "deny"}}
		},
	}
}

type emqxAnswer struct {
	Result string `json:"result"`
	// Superuser is for the authenticator; the authorizer has no use for it.
	Superuser bool `json:"is_superuser"`
}

type emqxParams struct {
	Username string `json:"username"`
	Password string `json:"password"`
	ClientID string `json:"clientid"`
	Action   string `json:"action"`
	Topic    string `json:"topic"`
}

func emqxAuthn(p emqxParams) (question, error) {
	if p.Action != "" || p.Topic != "" {
		return question{}, errors.New("this is a question for /emqx/authz")
	}
	return question{action: connect, username: p.Username, password: p.Password, clientID: p.ClientID}, nil
}

func emqxAuthz(p emqxParams) (question, error) {
	q := question{username: p.Username, clientID: p.ClientID, topics: []string{p.Topic}}
	switch p.Action {
	case "publish":
		q.action = publish
	case "subscribe":
		q.action = subscribe
	default:
		return q, fmt.Errorf("action %.20q is neither publish nor subscribe", p.Action)
	}
	return q, nil
}
