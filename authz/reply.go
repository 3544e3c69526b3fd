package authz

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

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
//	        |                   | XFCC removed                  |
//	deny    | PERMISSION_DENIED | denied_response: 403, body    | -
//	fault   | UNAVAILABLE       | error_response: 503, body,    | error_response, empty
//	        |                   | Retry-After                   |
//
// Every reply carries dynamic metadata: decision_id and reason, and on allow
// hub_id, device_id and device_name. Envoy keeps it on refusals too, so its
// access log can name the decision where the device is told nothing (TCP).
//
// A fault is an error_response on TCP as well: Envoy counts it under its
// `error`, not its `denied`, and closes the connection unless
// failure_mode_allow is set. A gRPC error would do the same, but would also
// make outlier detection take a replica that answers for one that is broken.
type replies struct{ detail DenyDetail }

func (r replies) of(protocol provision.Protocol, d provision.Decision) *authv3.CheckResponse {
	resp := &authv3.CheckResponse{Status: &statuspb.Status{}, DynamicMetadata: dynamicMetadata(d)}
	switch d.Reason.Outcome() {
	case provision.Allow:
		if protocol == provision.HTTP {
			resp.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
				Headers: []*corev3.HeaderValueOption{
					header("x-hub-id", d.Hub.String()),
					header("x-device-id", d.Device.String()),
					header("x-device-name", headerValue(d.DeviceName)),
				},
				HeadersToRemove: []string{headerXFCC},
			}}
		}
	case provision.Deny:
		resp.Status.Code = int32(codes.PermissionDenied)
		if protocol == provision.HTTP {
			resp.HttpResponse = &authv3.CheckResponse_DeniedResponse{
				DeniedResponse: r.refused(typev3.StatusCode_Forbidden, d, d.RetryAfter)}
		}
	default:
		resp.Status.Code = int32(codes.Unavailable)
		fault := &authv3.DeniedHttpResponse{}
		if protocol == provision.HTTP {
			after := d.RetryAfter
			if after <= 0 {
				after = defaultRetryAfter
			}
			fault = r.refused(typev3.StatusCode_ServiceUnavailable, d, after)
		}
		resp.HttpResponse = &authv3.CheckResponse_ErrorResponse{ErrorResponse: fault}
	}
	return resp
}

// defaultRetryAfter is when to try again after a fault that tells no time.
const defaultRetryAfter = time.Second

// refusalBody is what a refused HTTP client reads.
type refusalBody struct {
	Reason   string `json:"reason"`
	Message  string `json:"message"`
	Decision string `json:"decision_id"`
}

func (r replies) refused(code typev3.StatusCode, d provision.Decision, retryAfter time.Duration) *authv3.DeniedHttpResponse {
	body := refusalBody{Reason: string(d.Reason), Message: d.Reason.Message(), Decision: d.ID}
	if r.detail == DetailOpaque {
		body.Reason, body.Message = "denied", "access denied"
		if d.Reason.Outcome() == provision.Fault {
			body.Reason, body.Message = "unavailable", "the service is temporarily unavailable"
		}
	}
	text, _ := json.Marshal(body) // three strings always marshal
	headers := []*corev3.HeaderValueOption{header("content-type", "application/json")}
	if retryAfter > 0 {
		seconds := int64((retryAfter + time.Second - 1) / time.Second)
		headers = append(headers, header("retry-after", strconv.FormatInt(seconds, 10)))
	}
	return &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: code}, Headers: headers, Body: string(text)}
}

func dynamicMetadata(d provision.Decision) *structpb.Struct {
	fields := map[string]*structpb.Value{
		"decision_id": structpb.NewStringValue(d.ID),
		"reason":      structpb.NewStringValue(string(d.Reason)),
	}
	if d.Allowed() {
		fields["hub_id"] = structpb.NewStringValue(d.Hub.String())
		fields["device_id"] = structpb.NewStringValue(d.Device.String())
		fields["device_name"] = structpb.NewStringValue(d.DeviceName)
		if d.Session != "" {
			fields["session_id"] = structpb.NewStringValue(d.Session)
		}
	}
	return &structpb.Struct{Fields: fields}
}

// header replaces whatever the device sent under that name.
func header(key, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: key, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// headerValue makes a name safe in a header: what is not printable ASCII is
// percent-encoded, byte by byte of its UTF-8, and so is the percent sign, so
// that decoding it as a path gives the name back.
func headerValue(name string) string {
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
