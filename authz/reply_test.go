package authz

import (
	"encoding/json"
	"net/url"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/hubgate/hubgate/provision"
)

func allowed(name string) provision.Decision {
	hub := provision.HubID{UUID: uuid.MustParse("0b7d5c1e-1111-4222-8333-444455556666")}
	return provision.Decision{
		ID: "decision-1", Reason: provision.DeviceKnown,
		Hub: hub, HubName: "factory", Device: provision.DeviceIDOf(hub, name), DeviceName: name,
	}
}

// headersOf checks that every header overwrites and returns them.
func headersOf(t *testing.T, options []*corev3.HeaderValueOption) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, h := range options {
		if h.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s does not overwrite what the device sent", h.GetHeader().GetKey())
		}
		all[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	return all
}

func TestAllow(t *testing.T) {
	d := allowed("sensor-0001")
	for _, protocol := range []provision.Protocol{provision.HTTP, provision.TCP} {
		t.Run(string(protocol), func(t *testing.T) {
			resp := decodeReply(t, replies{}.of(protocol, true, d))
			if code := resp.GetStatus().GetCode(); code != int32(codes.OK) {
				t.Errorf("status %d, want OK", code)
			}
			for key, want := range map[string]string{
				"decision_id": d.ID, "reason": "device_known",
				"hub_id": d.Hub.String(), "device_id": d.Device.String(), "device_name": "sensor-0001",
			} {
				if got := resp.GetDynamicMetadata().GetFields()[key].GetStringValue(); got != want {
					t.Errorf("metadata %s = %q, want %q", key, got, want)
				}
			}
			if protocol == provision.TCP {
				if resp.GetHttpResponse() != nil {
					t.Errorf("a TCP reply speaks HTTP: %v", resp.GetHttpResponse())
				}
				return
			}
			headers := headersOf(t, resp.GetOkResponse().GetHeaders())
			if len(headers) != 3 || headers["x-hub-id"] != d.Hub.String() || headers["x-device-id"] != d.Device.String() || headers["x-device-name"] != "sensor-0001" {
				t.Errorf("headers %v", headers)
			}
			if removed := resp.GetOkResponse().GetHeadersToRemove(); len(removed) != 1 || removed[0] != "x-forwarded-client-cert" {
				t.Errorf("removes %v, want x-forwarded-client-cert", removed)
			}
			insecure := decodeReply(t, replies{}.of(protocol, false, d))
			if removed := insecure.GetOkResponse().GetHeadersToRemove(); !slices.Equal(removed, []string{"x-forwarded-client-cert", "authorization"}) {
				t.Errorf("without TLS it removes %v, want the secret removed too", removed)
			}
		})
	}
}

func TestAllowWithASession(t *testing.T) {
	d := allowed("sensor-0001")
	for _, hold := range []bool{true, false} {
		d.Session, d.Hold = "session-1", hold
		fields := decodeReply(t, replies{}.of(provision.TCP, true, d)).GetDynamicMetadata().GetFields()
		held, ok := fields["hold"]
		if fields["session_id"].GetStringValue() != "session-1" || ok != hold || hold && held.GetStringValue() != "true" {
			t.Errorf("hold %v: metadata %v", hold, fields)
		}
	}
}

func TestRefuse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		detail DenyDetail
		d      provision.Decision
		code   codes.Code
		http   int
		retry  string
		reason string
		msg    string
	}{
		{"denial", DetailFull, provision.Decision{ID: "1", Reason: provision.DeviceDisabled},
			codes.PermissionDenied, 403, "", "device_disabled", "device is not enabled"},
		{"denial with a time", DetailFull, provision.Decision{ID: "1", Reason: provision.DeviceUnknown, RetryAfter: 90 * time.Second},
			codes.PermissionDenied, 403, "90", "device_unknown", "could not identify device"},
		{"quota", DetailFull, provision.Decision{ID: "1", Reason: provision.QuotaExceeded, RetryAfter: time.Minute},
			codes.PermissionDenied, 429, "60", "quota_exceeded", "the hub takes no more devices"},
		{"rate", DetailFull, provision.Decision{ID: "1", Reason: provision.RateLimited, RetryAfter: time.Millisecond},
			codes.PermissionDenied, 429, "1", "rate_limited", "too many unknown devices connect"},
		{"denial, opaque", DetailOpaque, provision.Decision{ID: "1", Reason: provision.DeviceDisabled},
			codes.PermissionDenied, 403, "", "denied", "access denied"},
		{"fault", DetailFull, provision.Decision{ID: "1", Reason: provision.StoreUnavailable, RetryAfter: 1500 * time.Millisecond},
			codes.Unavailable, 503, "2", "store_unavailable", "the service is temporarily unavailable"},
		{"fault without a time", DetailFull, provision.Decision{ID: "1", Reason: provision.Overloaded},
			codes.Unavailable, 503, "1", "overloaded", "the service is overloaded"},
		{"fault, opaque", DetailOpaque, provision.Decision{ID: "1", Reason: provision.ListenerMisconfigured},
			codes.Unavailable, 503, "1", "unavailable", "the service is temporarily unavailable"},
		{"a reason nobody knows", DetailFull, provision.Decision{ID: "1", Reason: "new"},
			codes.Unavailable, 503, "1", "new", ""},
		{"no reason", DetailFull, provision.Decision{ID: "1"},
			codes.Unavailable, 503, "1", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.d.Detail, tt.d.DeviceName = "for operators", "sensor-0001"
			r := replies{detail: tt.detail}
			resp, tcp := decodeReply(t, r.of(provision.HTTP, true, tt.d)), decodeReply(t, r.of(provision.TCP, true, tt.d))
			for _, x := range []*authv3.CheckResponse{resp, tcp} {
				if got := codes.Code(x.GetStatus().GetCode()); got != tt.code {
					t.Errorf("status %v, want %v", got, tt.code)
				}
				fields := x.GetDynamicMetadata().GetFields()
				if len(fields) != 2 || fields["decision_id"].GetStringValue() != "1" || fields["reason"].GetStringValue() != string(tt.d.Reason) {
					t.Errorf("metadata %v, want decision_id and reason", fields)
				}
				if x.GetOkResponse() != nil {
					t.Error("an OK response in a refusal")
				}
			}
			body, fault := resp.GetDeniedResponse(), resp.GetErrorResponse()
			if tt.code == codes.Unavailable {
				if body != nil {
					t.Error("a fault that denies")
				}
				// Without an error_response Envoy would count a denial.
				if got := tcp.GetErrorResponse(); got == nil || proto.Size(got) != 0 {
					t.Errorf("fault over TCP is %v, want an empty error_response", tcp)
				}
				body = fault
			} else if tcp.GetHttpResponse() != nil {
				t.Errorf("a TCP denial speaks HTTP: %v", tcp)
			}
			if got := int(body.GetStatus().GetCode()); got != tt.http {
				t.Errorf("HTTP status %d, want %d", got, tt.http)
			}
			headers := headersOf(t, body.GetHeaders())
			if headers["content-type"] != "application/json" || headers["retry-after"] != tt.retry {
				t.Errorf("headers %v, want JSON and retry-after %q", headers, tt.retry)
			}
			var told map[string]string
			if err := json.Unmarshal([]byte(body.GetBody()), &told); err != nil {
				t.Fatal(err)
			}
			if len(told) != 3 || told["reason"] != tt.reason || told["message"] != tt.msg || told["decision_id"] != "1" {
				t.Errorf("body %s", body.GetBody())
			}
		})
	}
}

// Every reason there is has its reply: only an Allow passes.
func TestEveryReason(t *testing.T) {
	for _, reason := range provision.Reasons() {
		for _, protocol := range []provision.Protocol{provision.HTTP, provision.TCP} {
			resp := decodeReply(t, replies{}.of(protocol, true, provision.Decision{ID: "1", Reason: reason}))
			ok := resp.GetStatus().GetCode() == int32(codes.OK)
			if ok != (reason.Outcome() == provision.Allow) {
				t.Errorf("%s over %s: status %v", reason, protocol, resp.GetStatus())
			}
			if _, err := proto.Marshal(resp); err != nil {
				t.Errorf("%s over %s: %v", reason, protocol, err)
			}
		}
	}
}

func TestHeaderValue(t *testing.T) {
	for name, want := range map[string]string{
		"sensor-0001":      "sensor-0001",
		`a b,c;d="e"`:      `a b,c;d="e"`,
		"100%":             "100%25",
		"Jürg":             "J%C3%BCrg",
		"a\r\nx-hub-id: b": "a%0D%0Ax-hub-id: b",
		"\x00\x7f":         "%00%7F",
	} {
		got := headerValue(name)
		if got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
		if back, err := url.PathUnescape(got); err != nil || back != name {
			t.Errorf("%q does not come back: %q, %v", name, back, err)
		}
	}
}
