package envoy

import (
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	connectTimeout = 2 * time.Second
	// pingInterval and pingTimeout find a dead link to hubgate before checks
	// hang on it. hubgate must allow pings this often, idle links included.
	pingInterval = 30 * time.Second
	pingTimeout  = 5 * time.Second
	// healthInterval and healthTimeout bound how long a hubgate that drains or
	// hangs is still asked.
	healthInterval = 5 * time.Second
	healthTimeout  = 2 * time.Second
)

// MaxChecks is how many checks one Envoy has under way at each address of
// hubgate: as many as hubgate takes (authz.max_in_flight). With more, an overload
// makes a queue in which every check waits for longer than its device does.
const MaxChecks = 1024

// protocol is what a cluster's upstreams speak.
type protocol int

const (
	rawTCP protocol = iota
	http1
	http2
)

type clusterSpec struct {
	name      string
	addresses []string
	protocol  protocol
}

func (b *builder) cluster(spec clusterSpec) *clusterv3.Cluster {
	// Connections are counted where they arrive; Envoy's default of 1,024
	// here would turn the next admitted device away.
	limit := wrapperspb.UInt32(b.options.MaxConnections)
	c := &clusterv3.Cluster{
		Name:                          spec.name,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: discovery(spec.addresses)},
		ConnectTimeout:                durationpb.New(connectTimeout),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
		LbPolicy:                      clusterv3.Cluster_LEAST_REQUEST,
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: spec.name,
			Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints(spec.addresses)}},
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: limit, MaxPendingRequests: limit, MaxRequests: limit, MaxRetries: limit,
		}}},
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{
			TcpKeepalive: tcpKeepalive(b.options.TCPKeepalive),
		},
	}
	if options := b.httpOptions(spec.protocol); options != nil {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
		}
	}
	return c
}

// hubgateCluster prefers replicas that say they serve. If none does, Envoy
// asks all the same (panic mode), so that health checks never keep a lone
// hubgate out.
func (b *builder) hubgateCluster() *clusterv3.Cluster {
	h := b.options.Hubgate
	c := b.cluster(clusterSpec{name: hubgateName, addresses: h.Addresses, protocol: http2})
	c.HealthChecks = []*corev3.HealthCheck{{
		Interval:           durationpb.New(healthInterval),
		NoTrafficInterval:  durationpb.New(healthInterval),
		Timeout:            durationpb.New(healthTimeout),
		UnhealthyThreshold: wrapperspb.UInt32(2),
		HealthyThreshold:   wrapperspb.UInt32(1),
		HealthChecker:      &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}},
	}}
	limit := wrapperspb.UInt32(MaxChecks * uint32(len(h.Addresses)))
	thresholds := c.CircuitBreakers.Thresholds[0]
	thresholds.MaxRequests, thresholds.MaxPendingRequests = limit, limit
	if h.TLS != nil {
		c.TransportSocket = b.hubgateTLS(h.TLS)
	}
	return c
}

// hubgateTLS verifies hubgate by CA and by name; Envoy leaves the name out
// unless told.
func (b *builder) hubgateTLS(t *ClientTLS) *corev3.TransportSocket {
	name := &tlsv3.SubjectAltNameMatcher{
		SanType: tlsv3.SubjectAltNameMatcher_DNS,
		Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: t.ServerName}},
	}
	context := &tlsv3.UpstreamTlsContext{Sni: t.ServerName}
	if _, err := netip.ParseAddr(t.ServerName); err == nil {
		name.SanType = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		context.Sni = "" // SNI holds names only
	}
	context.CommonTlsContext = &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
		AlpnProtocols: []string{"h2"},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{
				TrustedCa:                 file(t.CA),
				MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{name},
			},
		},
	}
	if t.Client != (KeyPair{}) {
		context.CommonTlsContext.TlsCertificates = []*tlsv3.TlsCertificate{t.Client.certificate()}
	}
	return b.tlsSocket(context)
}

func (b *builder) httpOptions(p protocol) *anypb.Any {
	explicit := &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	switch p {
	case http1:
		explicit.ProtocolConfig = &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	case http2:
		explicit.ProtocolConfig = &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				ConnectionKeepalive: &corev3.KeepaliveSettings{
					Interval: durationpb.New(pingInterval),
					Timeout:  durationpb.New(pingTimeout),
				},
			},
		}
	default:
		return nil
	}
	return b.pack(&upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	})
}

// discovery is STATIC unless there are names to resolve.
func discovery(addresses []string) clusterv3.Cluster_DiscoveryType {
	for _, address := range addresses {
		if e, _ := parseEndpoint(address); e.name != "" {
			return clusterv3.Cluster_STRICT_DNS
		}
	}
	return clusterv3.Cluster_STATIC
}

func endpoints(addresses []string) []*endpointv3.LbEndpoint {
	list := make([]*endpointv3.LbEndpoint, len(addresses))
	for i, address := range addresses {
		list[i] = &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: endpointAddress(address)},
		}}
	}
	return list
}
