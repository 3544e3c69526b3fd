package brokerauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
)

// mosquittoDialect is that of mosquitto-go-auth's backend "http":
// http_params_mode json or form; http_response_mode status or json, or text at
// URIs that end in ?response_mode=text, as text is at odds with json.
func mosquittoDialect(ask func(mosquittoParams) (question, error)) dialect {
	return dialect{
		broker: "mosquitto",
		read: func(r *http.Request, body []byte) (question, error) {
			if mode, ok := r.URL.Query()["response_mode"]; ok && (len(mode) != 1 || mode[0] != "text") {
				return question{}, errors.New("response_mode can be text alone")
			}
			p, err := readMosquittoParams(r, body)
			if err != nil {
				return question{}, err
			}
			return ask(p)
		},
		reply: func(r *http.Request, _ question, verdicts []verdict) response {
			v := verdicts[0]
			switch {
			case v.allows() && r.URL.Query().Has("response_mode"):
				return response{http.StatusOK, "ok"}
			case v.allows():
				return response{http.StatusOK, mosquittoAnswer{OK: true}}
			}
			return response{v.status(), mosquittoAnswer{Error: string(v.reason)}}
		},
	}
}

func mosquittoUser(p mosquittoParams) (question, error) {
	if p.Topic != "" || p.Acc != 0 {
		return question{}, errors.New("this is a question for /mosquitto/acl")
	}
	return question{action: connect, username: p.Username, password: p.Password, clientID: p.ClientID}, nil
}

func mosquittoSuperuser(p mosquittoParams) (question, error) {
	return question{action: superuser, username: p.Username}, nil
}

func mosquittoACL(p mosquittoParams) (question, error) {
	asked, ok := map[int]action{1: receive, 2: publish, 3: readwrite, 4: subscribe, 8: unsubscribe}[p.Acc]
	if !ok {
		return question{}, fmt.Errorf("acc %d is none of mosquitto's", p.Acc)
	}
	return question{action: asked, username: p.Username, clientID: p.ClientID, topics: []string{p.Topic}}, nil
}

type mosquittoAnswer struct {
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

// mosquittoParams are what mosquitto-go-auth sends, all of it or in part.
type mosquittoParams struct {
	Username string `json:"username"`
	Password string `json:"password"`
	ClientID string `json:"clientid"`
	Topic    string `json:"topic"`
	Acc      int    `json:"acc"`
}

func readMosquittoParams(r *http.Request, body []byte) (p mosquittoParams, err error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return p, fmt.Errorf("content type: %w", err)
	case kind == "application/json":
		return p, json.Unmarshal(body, &p)
	case kind != "application/x-www-form-urlencoded":
		return p, fmt.Errorf("content type %q is neither JSON nor a form", kind)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return p, errors.New("no form") // the error may quote a password
	}
	for key, values := range form {
		if len(values) != 1 {
			return p, fmt.Errorf("%.20q is given %d times", key, len(values))
		}
	}
	p = mosquittoParams{
		Username: form.Get("username"), Password: form.Get("password"), ClientID: form.Get("clientid"), Topic: form.Get("topic"),
	}
	if form.Has("acc") {
		p.Acc, err = strconv.Atoi(form.Get("acc"))
	}
	return p, err
}
