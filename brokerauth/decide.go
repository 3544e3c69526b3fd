package brokerauth

import (
	"time"

	"github.com/hubgate/hubgate/provision"
)

// action is what a client wants: a label of the metrics.
type action string

const (
	connect     action = "connect"
	superuser   action = "superuser" // to do everything
	publish     action = "publish"
	subscribe   action = "subscribe"
	unsubscribe action = "unsubscribe"
	receive     action = "receive" // to be sent what was published
	readwrite   action = "readwrite"
	unclear     action = "unclear" // the question could not be read
)

var actions = []action{connect, superuser, publish, subscribe, unsubscribe, receive, readwrite, unclear}

// reason is why a client may do something, or not: a field of the log.
type reason string

const (
	allowed         reason = "allowed"
	nobodyKnown     reason = "identity_unknown"
	hubUnknown      reason = "hub_unknown"
	hubDisabled     reason = "hub_disabled"
	deviceUnknown   reason = "device_unknown"
	deviceDisabled  reason = "device_disabled"
	noSession       reason = "no_session" // not through Envoy, or not any more
	topicNotAllowed reason = "topic_not_allowed"
	passwordWrong   reason = "password_wrong"
	nobodyIs        reason = "nobody_is_superuser"

	requestMalformed reason = "request_malformed"
	overloaded       reason = "overloaded"
	storeUnavailable reason = "store_unavailable"
	internal         reason = "internal"
)

// outcome tells a refusal from a fault of ours, or of the broker's set-up.
func (r reason) outcome() provision.Outcome {
	switch r {
	case allowed:
		return provision.Allow
	case requestMalformed, overloaded, storeUnavailable, internal:
		return provision.Fault
	}
	return provision.Deny
}

// judgeDevice judges whether a device may do anything at all; hub and device are
// nil if there is none.
func judgeDevice(h *provision.Hub, d *provision.Device) reason {
	switch {
	case h == nil || h.Deleting:
		return hubUnknown
	case h.Disabled:
		return hubDisabled
	case d == nil:
		return deviceUnknown
	case d.Disabled:
		return deviceDisabled
	}
	return allowed
}

// judgeConnect judges whether a device may connect: it has to be connected to
// Envoy, and to an Envoy that said so of its own accord. One without the library
// passes on whatever user name a device gives itself.
func judgeConnect(h *provision.Hub, d *provision.Device, sessions []provision.Session, now time.Time) reason {
	if r := judgeDevice(h, d); r != allowed {
		return r
	}
	for _, s := range sessions {
		if s.Protocol == provision.TCP && s.Envoy.HasLibrary() && provision.MustEnd(s, h, d, now) == "" {
			return allowed
		}
	}
	return noSession
}

// judgeTopic judges what a device's message filters, or a service's, say of a
// topic, or of a topic filter that it subscribes to.
func judgeTopic(f *provision.Filters, a action, topic string) reason {
	may := false
	switch a {
	case publish:
		may = f.MayPublish(topic)
	case subscribe:
		may = f.MaySubscribe(topic)
	case receive:
		may = f.MayReceive(topic)
	case readwrite:
		may = f.MayPublish(topic) && f.MayReceive(topic)
	case unsubscribe:
		may = true
	}
	if !may {
		return topicNotAllowed
	}
	return allowed
}
