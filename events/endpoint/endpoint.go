// Package endpoint holds the rules of what a sink of events may be told: broker
// and webhook addresses, topics, secrets, and how a request is signed. The
// configuration is checked by them when it is read, and the sinks rely on them.
package endpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// DefaultTopic is where events are published, unless the configuration says
// otherwise.
const DefaultTopic = "hubgate/{hub_id}/events/{severity}/{object_type}/{object_id}"

// maxTopic is what MQTT bounds a topic to, in bytes, with room for what is
// filled in.
const maxTopic = 1024

// Broker reads a broker's URL, mqtt://host:port or mqtts://host:port, and adds
// the port that it leaves out.
func Broker(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	ports := map[string]string{"mqtt": "1883", "mqtts": "8883"}
	switch {
	case err != nil || u.Hostname() == "" || ports[u.Scheme] == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("is no broker: write mqtt://host:1883, or mqtts://host:8883 with TLS")
	case u.User != nil:
		return nil, errors.New("names a user: write username and password_file instead")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), ports[u.Scheme])
	}
	return u, nil
}

// Webhook reads a webhook's URL.
func Webhook(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "":
		return nil, errors.New("is no webhook: write https://host/path")
	case u.User != nil:
		return nil, errors.New("holds credentials: write them into a file and name that in token_file")
	}
	return u, nil
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// Topic says what is wrong with a topic template. It may hold {hub_id},
// {severity}, {object_type}, {object_id} and {reason}.
func Topic(template string) error {
	for _, p := range placeholder.FindAllString(template, -1) {
		switch p {
		case "{hub_id}", "{severity}", "{object_type}", "{object_id}", "{reason}":
		default:
			return fmt.Errorf("%s is none of {hub_id}, {severity}, {object_type}, {object_id}, {reason}", p)
		}
	}
	rest := placeholder.ReplaceAllString(template, "x")
	switch {
	case rest == "" || len(template) > maxTopic:
		return fmt.Errorf("is no topic: it is empty, or longer than %d bytes", maxTopic)
	case strings.ContainsAny(rest, "+#{}\x00"):
		return errors.New("is no topic to publish to: it holds one of + # { }")
	case strings.HasPrefix(rest, "$SYS"):
		return errors.New("is no topic to publish to: $SYS is the broker's own")
	}
	return nil
}

const (
	// secretPrefix marks a secret in base64.
	secretPrefix = "whsec_"
	// leastSecret is the least length of a secret, in bytes.
	leastSecret = 16
)

// Secrets reads what a secret file holds: one secret a line, so that a new one
// can sign beside the old one while receivers change over. A secret is whsec_
// and base64, or else any text.
func Secrets(text string) ([][]byte, error) {
	var keys [][]byte
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key := []byte(line)
		if encoded, ok := strings.CutPrefix(line, secretPrefix); ok {
			var err error
			if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return nil, errors.New("what follows whsec_ is no base64")
			}
		}
		if len(key) < leastSecret {
			return nil, fmt.Errorf("a secret in it has %d bytes, fewer than %d", len(key), leastSecret)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no secret in it")
	}
	return keys, nil
}
