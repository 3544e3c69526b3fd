package brokerauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hubgate/hubgate/brokerauth/username"
	"github.com/hubgate/hubgate/provision"
)

// Gate knows hubs and devices as they are now; *provision.Gate is one. Both
// methods return nil for what is unknown, and ErrUnavailable if the store does
// not answer and what was known is too old.
type Gate interface {
	CurrentHub(ctx context.Context, id provision.HubID) (*provision.Hub, error)
	CurrentDevice(ctx context.Context, hub provision.HubID, name string) (*provision.Device, error)
}

// Sessions knows who is connected to an Envoy; *session.Tracker does.
type Sessions interface {
	DeviceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) ([]provision.Session, error)
}

// Service is a client that is no device: a backend that connects to the broker
// past Envoy, and proves who it is by a password.
type Service struct {
	Username string
	// Password is the SHA-256 of its password, which nobody can guess.
	Password [sha256.Size]byte
	// Topics are the topic filters that it may use, for all it does. None: all.
	Topics []string
}

func (s Service) filters() *provision.Filters {
	if len(s.Topics) == 0 {
		return nil
	}
	accepted := provision.Filter{Topics: s.Topics}
	return &provision.Filters{Publish: accepted, Subscribe: accepted}
}

// question is what a broker asks of one client.
type question struct {
	action   action
	username string
	password string // connect
	clientID string // for the log
	topics   []string
	raw      []json.RawMessage // the topics as they were asked for, of VerneMQ
}

// verdict is the answer about one topic, or about a connection.
type verdict struct {
	reason reason
	err    error // of a fault, for the log
}

func (v verdict) allows() bool { return v.reason == allowed }

// Envoy lets hubgate know of a connection just before the broker asks, and
// perhaps another replica. So a connect waits for its session, for as long as a
// broker that does nothing meanwhile, as mosquitto, can bear it.
const (
	sessionWait  = 500 * time.Millisecond
	sessionPause = 10 * time.Millisecond // the first; each is twice the last
)

// asker finds out what the decisions need.
type asker struct {
	gate     Gate
	sessions Sessions
	form     *username.Form
	services atomic.Pointer[map[string]Service]
}

func (a *asker) setServices(services []Service) {
	byName := make(map[string]Service, len(services))
	for _, s := range services {
		byName[s.Username] = s
	}
	a.services.Store(&byName)
}

// ask answers a question: with one verdict for each topic, else with one.
func (a *asker) ask(ctx context.Context, q question) []verdict {
	var r reason
	var err error
	var filters *provision.Filters
	if s, ok := (*a.services.Load())[q.username]; ok {
		r, filters = s.judge(q), s.filters()
	} else {
		r, filters, err = a.askDevice(ctx, q)
	}
	if err != nil {
		r = internal
		if errors.Is(err, provision.ErrUnavailable) || ctx.Err() != nil {
			r = storeUnavailable
		}
	}
	if len(q.topics) == 0 {
		return []verdict{{r, err}}
	}
	verdicts := make([]verdict, len(q.topics))
	for i, topic := range q.topics {
		verdicts[i] = verdict{r, err}
		if r == allowed {
			verdicts[i].reason = judgeTopic(filters, q.action, topic)
		}
	}
	return verdicts
}

// judge judges all of a service but its topics.
func (s Service) judge(q question) reason {
	given := sha256.Sum256([]byte(q.password))
	switch {
	case q.action == superuser:
		return nobodyIs
	case q.action == connect && subtle.ConstantTimeCompare(given[:], s.Password[:]) == 0:
		return passwordWrong
	}
	return allowed
}

// askDevice judges all of a device but its topics, and returns its filters.
func (a *asker) askDevice(ctx context.Context, q question) (reason, *provision.Filters, error) {
	hub, name, ok := a.form.Read(q.username)
	switch {
	case q.action == superuser:
		return nobodyIs, nil, nil
	case !ok:
		return nobodyKnown, nil, nil
	}
	r, filters, err := a.askOnce(ctx, q.action, hub, name)
	for waited, pause := time.Duration(0), sessionPause; r == noSession && waited < sessionWait && ctx.Err() == nil; pause *= 2 {
		wait(ctx, pause)
		waited += pause
		r, filters, err = a.askOnce(ctx, q.action, hub, name)
	}
	return r, filters, err
}

func (a *asker) askOnce(ctx context.Context, what action, hubID provision.HubID, name string) (reason, *provision.Filters, error) {
	hub, err := a.gate.CurrentHub(ctx, hubID)
	if err != nil {
		return "", nil, err
	}
	if hub == nil {
		return hubUnknown, nil, nil
	}
	device, err := a.gate.CurrentDevice(ctx, hubID, name)
	if err != nil {
		return "", nil, err
	}
	r := judgeDevice(hub, device)
	if r != allowed {
		return r, nil, nil
	}
	if what == connect {
		sessions, err := a.sessions.DeviceSessions(ctx, hubID, device.ID)
		if err != nil {
			return "", nil, err
		}
		r = judgeConnect(hub, device, sessions, time.Now())
	}
	return r, device.Filters, nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
