package envoy

import (
	"maps"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Fields of an access log line by their keys. Nothing in them is a
// credential: no headers, and paths without their query.
var (
	commonLogFields = map[string]string{
		"time":        "%START_TIME%",
		"connection":  "%CONNECTION_ID%",
		"source":      "%DOWNSTREAM_REMOTE_ADDRESS%",
		"sni":         "%REQUESTED_SERVER_NAME%",
		"leaf_sha256": "%DOWNSTREAM_PEER_FINGERPRINT_256%",
		"bytes_in":    "%BYTES_RECEIVED%",
		"bytes_out":   "%BYTES_SENT%",
		"duration_ms": "%DURATION%",
		"flags":       "%RESPONSE_FLAGS%",
	}
	httpLogFields = with(commonLogFields, map[string]string{
		"listener":   httpsName,
		"method":     "%REQ(:METHOD)%",
		"path":       "%PATH(NQ)%",
		"protocol":   "%PROTOCOL%",
		"status":     "%RESPONSE_CODE%",
		"details":    "%RESPONSE_CODE_DETAILS%",
		"request_id": "%REQ(X-REQUEST-ID)%",
		"device_id":  "%REQ(X-DEVICE-ID)%",
		"hub_id":     "%REQ(X-HUB-ID)%",
	})
	connectionLogFields = with(commonLogFields, map[string]string{
		"listener":  mqttName,
		"details":   "%CONNECTION_TERMINATION_DETAILS%",
		"device_id": "%DYNAMIC_METADATA(envoy.filters.network.ext_authz:device_id)%",
		"hub_id":    "%DYNAMIC_METADATA(envoy.filters.network.ext_authz:hub_id)%",
	})
)

func with(base, more map[string]string) map[string]string {
	all := maps.Clone(base)
	maps.Copy(all, more)
	return all
}

// accessLog is empty unless the options ask for one.
func (b *builder) accessLog(fields map[string]string) []*accesslogv3.AccessLog {
	if !b.options.AccessLog {
		return nil
	}
	format := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(fields))}
	for key, value := range fields {
		format.Fields[key] = structpb.NewStringValue(value)
	}
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.stdout",
		// What the session log needs besides is not for people.
		Filter: ended(),
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: format},
			}},
		})},
	}}
}

// sessionLogInterval is how often an open connection is logged for hubgate,
// which forgets one of which it has not heard for three of them, and how exact
// the time of a device's last activity is then.
const sessionLogInterval = time.Minute

// sessionLog tells hubgate which connections are open, in place of the library:
// at their beginning, now and then, and at their end.
func (b *builder) sessionLog() *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.tcp_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.pack(&alsv3.TcpGrpcAccessLogConfig{
			CommonConfig: &alsv3.CommonGrpcAccessLogConfig{
				LogName:             "hubgate",
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: hubgateName},
				}},
			},
		})},
	}
}

// ended lets a connection's or request's last entry through.
func ended() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_LogTypeFilter{
		LogTypeFilter: &accesslogv3.LogTypeFilter{Types: []dataaccesslogv3.AccessLogType{
			dataaccesslogv3.AccessLogType_NotSet, dataaccesslogv3.AccessLogType_TcpConnectionEnd, dataaccesslogv3.AccessLogType_DownstreamEnd,
		}},
	}}
}
