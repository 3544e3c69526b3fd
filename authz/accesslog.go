package authz

import (
	"errors"
	"io"
	"net/netip"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hubgate/hubgate/provision"
)

// Sessions is told of connections by the access logs of Envoys that have no
// other way to. Logged must not block and may be called concurrently;
// *session.Tracker is one.
type Sessions interface {
	// Logged says that the session's connection is open, with that many bytes
	// received so far, or has closed. Of the session, the log knows its ID, hub,
	// device, node and source.
	Logged(s provision.Session, received uint64, closed bool)
}

// metadataNamespace is where Envoy keeps what a check of TCP answered.
const metadataNamespace = "envoy.filters.network.ext_authz"

// accessLogs is the AccessLogService. It takes log entries of TCP connections
// (TcpGrpcAccessLogConfig) and answers nothing, as Envoy expects; entries that
// are about no session of ours are skipped.
type accessLogs struct {
	alsv3.UnimplementedAccessLogServiceServer
	sessions Sessions
}

// StreamAccessLogs follows one stream until Envoy ends it, or the server drains:
// a stream that waits for a message does not notice.
func (a *accessLogs) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	followed := make(chan error, 1)
	go func() { followed <- a.follow(stream) }()
	select {
	case err := <-followed:
		return err
	case <-stream.Context().Done():
		return status.FromContextError(stream.Context().Err()).Err()
	}
}

// follow takes in the messages, of which the first names the Envoy.
func (a *accessLogs) follow(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	node := ""
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return stream.SendAndClose(&alsv3.StreamAccessLogsResponse{})
		case err != nil:
			return err
		}
		if id := m.GetIdentifier().GetNode().GetId(); id != "" {
			node = id
		}
		for _, entry := range m.GetTcpLogs().GetLogEntry() {
			if s, ok := loggedSession(entry, node); ok {
				a.sessions.Logged(s, entry.GetConnectionProperties().GetReceivedBytes(), isEnd(entry.GetCommonProperties()))
			}
		}
	}
}

// loggedSession says in the domain's words whose connection an entry is about,
// by what the check had answered. It reports false if no check of ours let it
// in.
func loggedSession(entry *accesslogv3.TCPAccessLogEntry, node string) (provision.Session, bool) {
	common := entry.GetCommonProperties()
	fields := common.GetMetadata().GetFilterMetadata()[metadataNamespace].GetFields()
	s := provision.Session{
		ID:         text(fields, "session_id"),
		DeviceName: text(fields, "device_name"),
		Protocol:   provision.TCP,
		Envoy:      provision.EnvoyID{Node: node},
	}
	var hubErr, deviceErr error
	s.Hub, hubErr = provision.ParseHubID(text(fields, "hub_id"))
	s.Device, deviceErr = provision.ParseDeviceID(text(fields, "device_id"))
	if s.ID == "" || hubErr != nil || deviceErr != nil {
		return s, false
	}
	if addr, err := netip.ParseAddr(common.GetDownstreamRemoteAddress().GetSocketAddress().GetAddress()); err == nil {
		s.Source = addr.Unmap().WithZone("")
	}
	return s, true
}

func text(fields map[string]*structpb.Value, key string) string { return fields[key].GetStringValue() }

// isEnd reports whether the entry is a connection's last. An Envoy that does
// not say writes one entry only, at the end.
func isEnd(common *accesslogv3.AccessLogCommon) bool {
	kind := common.GetAccessLogType()
	return kind == accesslogv3.AccessLogType_TcpConnectionEnd || kind == accesslogv3.AccessLogType_NotSet
}
