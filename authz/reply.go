package authz

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/hubgate/hubgate/provision"
)

// DenyDetail is how much a refused device learns.
type DenyDetail string

const (
	// DetailFull tells the reason code and its fixed sentence. The default.
	DetailFull DenyDetail = "full"
	// DetailOpaque tells the decision ID only.
	DetailOpaque DenyDetail = "opaque"
)

// replies turns decisions into what Envoy is told. The table:
//
//	outcome | status            | HTTP                          | TCP
//	allow   | OK                | ok_response: x-hub-id,        | -
//	        |                   | x-device-id, x-device-name;   |
//	        |                   | XFCC removed, and without TLS |
//	        |                   | authorization                 |
//	deny    | PERMISSION_DENIED | denied_response: 403, body    | -
//	fault   | UNAVAILABLE       | error_response: 503, body,    | error_response, empty
//	        |                   | Retry-After                   |
//
// Every reply carries dynamic metadata: decision_id and reason, and on allow
// hub_id, device_id and device_name, session_id where there is one, and hold =
// "true" where the connection is to wait for its Release. Envoy keeps it on
// refusals too, so its access log can name the decision where the device is told
// nothing (TCP).
//
// A fault is an error_response on TCP as well: Envoy counts it under its
// `error`, not its `denied`, and closes the connection unless
// failure_mode_allow is set. A gRPC error would do the same, but would also
// make outlier detection take a replica that answers for one that is broken.
type replies struct{ detail DenyDetail }

// of encodes the reply. It writes the message field by field, as it is sent for
// every check: the generated types would cost more than the decision.
func (r replies) of(protocol provision.Protocol, tls bool, d provision.Decision) reply {
	m := message(make([]byte, 0, 640))
	outcome := d.Reason.Outcome()
	var hub, device string
	if outcome == provision.Allow {
		hub, device = texts(d.Hub.UUID, d.Device.UUID)
	}
	m = m.nested(responseStatus, func(m message) message {
		switch outcome {
		case provision.Allow:
			return m
		case provision.Deny:
			return m.number(statusCode, uint64(codes.PermissionDenied))
		default:
			return m.number(statusCode, uint64(codes.Unavailable))
		}
	})
	switch {
	case outcome == provision.Allow && protocol == provision.HTTP:
		m = m.nested(responseOK, func(m message) message {
			m = m.header("x-hub-id", hub)
			m = m.header("x-device-id", device)
			m = m.header("x-device-name", headerValue(d.DeviceName))
			m = m.text(okHeadersToRemove, headerXFCC)
			if tls {
				return m
			}
			return m.text(okHeadersToRemove, headerAuthorization) // the secret
		})
	case outcome == provision.Allow:
	case outcome == provision.Deny && protocol == provision.HTTP:
		m = m.nested(responseDenied, func(m message) message { return r.refused(m, deniedCode(d.Reason), d, d.RetryAfter) })
	case outcome == provision.Deny:
	default:
		m = m.nested(responseError, func(m message) message {
			if protocol != provision.HTTP {
				return m
			}
			after := d.RetryAfter
			if after <= 0 {
				after = defaultRetryAfter
			}
			return r.refused(m, typev3.StatusCode_ServiceUnavailable, d, after)
		})
	}
	return reply(m.nested(responseMetadata, func(m message) message {
		m = m.entry("decision_id", d.ID)
		m = m.entry("reason", string(d.Reason))
		if outcome == provision.Allow {
			m = m.entry("hub_id", hub)
			m = m.entry("device_id", device)
			m = m.entry("device_name", d.DeviceName)
			if d.Session != "" {
				m = m.entry("session_id", d.Session)
			}
			if d.Hold {
				m = m.entry("hold", "true")
			}
		}
		return m
	}))
}

// texts returns the canonical form of two IDs, which have one piece of memory.
func texts(a, b uuid.UUID) (string, string) {
	const length = 36
	var both [2 * length]byte
	for i, id := range [...]uuid.UUID{a, b} {
		text := both[i*length:]
		hex.Encode(text, id[:4])
		at := 8
		for j := 4; j < 10; j += 2 {
			text[at] = '-'
			hex.Encode(text[at+1:], id[j:j+2])
			at += 5
		}
		text[at] = '-'
		hex.Encode(text[at+1:], id[10:])
	}
	s := string(both[:])
	return s[:length], s[length:]
}

// deniedCode is the HTTP status of a denial.
func deniedCode(reason provision.Reason) typev3.StatusCode {
	switch reason {
	case provision.QuotaExceeded, provision.RateLimited:
		return typev3.StatusCode_TooManyRequests
	default:
		return typev3.StatusCode_Forbidden
	}
}

// defaultRetryAfter is when to try again after a fault that tells no time.
const defaultRetryAfter = time.Second

// refusalBody is what a refused HTTP client reads.
type refusalBody struct {
	Reason   string `json:"reason"`
	Message  string `json:"message"`
	Decision string `json:"decision_id"`
}

// refused writes a DeniedHttpResponse.
func (r replies) refused(m message, code typev3.StatusCode, d provision.Decision, retryAfter time.Duration) message {
	body := refusalBody{Reason: string(d.Reason), Message: d.Reason.Message(), Decision: d.ID}
	if r.detail == DetailOpaque {
		body.Reason, body.Message = "denied", "access denied"
		if d.Reason.Outcome() == provision.Fault {
			body.Reason, body.Message = "unavailable", "the service is temporarily unavailable"
		}
	}
	text, _ := json.Marshal(body) // three strings always marshal
	m = m.nested(deniedStatus, func(m message) message { return m.number(httpStatusCode, uint64(code)) })
	m = m.header("content-type", "application/json")
	if retryAfter > 0 {
		seconds := int64((retryAfter + time.Second - 1) / time.Second)
		m = m.header("retry-after", strconv.FormatInt(seconds, 10))
	}
	return m.text(deniedBody, string(text))
}

// headerValue makes a name safe in a header: what is not printable ASCII is
// percent-encoded, byte by byte of its UTF-8, and so is the percent sign, so
// that decoding it as a path gives the name back.
func headerValue(name string) string {
	if !strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r >= 0x7f || r == '%' }) {
		return name
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c >= 0x20 && c < 0x7f && c != '%' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}
