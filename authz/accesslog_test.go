package authz

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hubgate/hubgate/provision"
)

// heardLog is one call of Logged.
type heardLog struct {
	session  provision.Session
	received uint64
	closed   bool
}

// ears are Sessions that remember.
type ears struct {
	mu    sync.Mutex
	heard []heardLog
}

func (e *ears) Logged(s provision.Session, received uint64, closed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, heardLog{s, received, closed})
}

func (e *ears) all() []heardLog {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

// entry is a log entry about a connection whose check answered d.
func entry(t testing.TB, d provision.Decision, kind accesslogv3.AccessLogType, received uint64) *accesslogv3.TCPAccessLogEntry {
	return &accesslogv3.TCPAccessLogEntry{
		CommonProperties: &accesslogv3.AccessLogCommon{
			AccessLogType: kind,
			DownstreamRemoteAddress: &corev3.Address{Address: &corev3.Address_SocketAddress{
				SocketAddress: &corev3.SocketAddress{Address: "::ffff:192.0.2.7"},
			}},
			Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{metadataNamespace: decodeReply(t, replies{}.of(provision.TCP, true, d)).GetDynamicMetadata()}},
		},
		ConnectionProperties: &accesslogv3.ConnectionProperties{ReceivedBytes: received},
	}
}

func logMessage(node string, entries ...*accesslogv3.TCPAccessLogEntry) *alsv3.StreamAccessLogsMessage {
	m := &alsv3.StreamAccessLogsMessage{LogEntries: &alsv3.StreamAccessLogsMessage_TcpLogs{
		TcpLogs: &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{LogEntry: entries},
	}}
	if node != "" {
		m.Identifier = &alsv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: node}, LogName: "mqtt"}
	}
	return m
}

func TestAccessLogsTellOfSessions(t *testing.T) {
	d := allowed("sensor-0001")
	d.Session = "0192d3a0-0000-7000-8000-000000000001"
	refused := provision.Decision{ID: "x", Reason: provision.DeviceDisabled}
	once := entry(t, d, accesslogv3.AccessLogType_NotSet, 3)
	periodic := entry(t, d, accesslogv3.AccessLogType_TcpPeriodic, 4)
	foreign := entry(t, d, accesslogv3.AccessLogType_TcpConnectionEnd, 9)
	foreign.CommonProperties.Metadata.FilterMetadata[metadataNamespace].Fields["hub_id"] = structpb.NewStringValue("hub")

	e := &ears{}
	r := start(t, Config{Gate: gateFunc(admitAll), Sessions: e}, "127.0.0.1:0")
	stream, err := alsv3.NewAccessLogServiceClient(r.dial(t, nil)).StreamAccessLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*alsv3.StreamAccessLogsMessage{
		logMessage("edge-1", entry(t, d, accesslogv3.AccessLogType_TcpUpstreamConnected, 0)),
		logMessage("", entry(t, d, accesslogv3.AccessLogType_TcpPeriodic, 100), periodic,
			entry(t, refused, accesslogv3.AccessLogType_TcpConnectionEnd, 5), foreign, &accesslogv3.TCPAccessLogEntry{}),
		{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{
			LogEntry: []*accesslogv3.HTTPAccessLogEntry{{Request: &accesslogv3.HTTPRequestProperties{RequestBodyBytes: 1}}},
		}}},
		logMessage("", entry(t, d, accesslogv3.AccessLogType_TcpConnectionEnd, 200), once),
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	want := provision.Session{
		ID: d.Session, Hub: d.Hub, Device: d.Device, DeviceName: "sensor-0001", Protocol: provision.TCP,
		Envoy: provision.EnvoyID{Node: "edge-1"}, Source: netip.MustParseAddr("192.0.2.7"),
	}
	rest := []heardLog{{received: 0}, {received: 100}, {received: 4}, {received: 200, closed: true}, {received: 3, closed: true}}
	got := e.all()
	if len(got) != len(rest) {
		t.Fatalf("heard %d entries, want %d: %+v", len(got), len(rest), got)
	}
	for i, g := range got {
		if g.session.ID != want.ID || g.session.Hub != want.Hub || g.session.Device != want.Device || g.session.DeviceName != want.DeviceName ||
			g.session.Envoy != want.Envoy || g.session.Source != want.Source || g.session.Protocol != want.Protocol {
			t.Errorf("entry %d is about %+v, want %+v", i, g.session, want)
		}
		if g.received != rest[i].received || g.closed != rest[i].closed {
			t.Errorf("entry %d: %d bytes, closed %v; want %d, %v", i, g.received, g.closed, rest[i].received, rest[i].closed)
		}
	}
}

func TestAccessLogsAreNotServedWithoutSessions(t *testing.T) {
	r := start(t, Config{Gate: gateFunc(admitAll)}, "127.0.0.1:0")
	stream, err := alsv3.NewAccessLogServiceClient(r.dial(t, nil)).StreamAccessLogs(t.Context())
	if err == nil {
		_, err = stream.CloseAndRecv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("answered %v", err)
	}
}

// TestAccessLogStreamsEndWithTheDrain, which waits for no Envoy to hang up.
func TestAccessLogStreamsEndWithTheDrain(t *testing.T) {
	e := &ears{}
	r := start(t, Config{Gate: gateFunc(admitAll), Sessions: e}, "127.0.0.1:0")
	stream, err := alsv3.NewAccessLogServiceClient(r.dial(t, nil)).StreamAccessLogs(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	d := allowed("sensor-0001")
	d.Session = "0192d3a0-0000-7000-8000-000000000001"
	if err := stream.Send(logMessage("edge-1", entry(t, d, accesslogv3.AccessLogType_TcpPeriodic, 1))); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(e.all()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was heard")
		}
	}
	r.drain()
	if err := <-r.served; err != nil {
		t.Errorf("drained with %v", err)
	}
}
