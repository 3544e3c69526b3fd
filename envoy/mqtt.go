package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// brokerAttempts is how many brokers are tried for one connection.
const brokerAttempts = 3

func (b *builder) mqttListener() *listenerv3.Listener {
	m := b.options.MQTT
	filters := []*listenerv3.Filter{b.filter("envoy.filters.network.ext_authz", b.connectionAuthz())}
	if b.options.Module != nil {
		filters = append(filters, b.sessionFilter("mqtt"))
	}
	return b.listener(listenerSpec{
		name:           mqttName,
		listen:         m.Listen,
		alpn:           []string{"mqtt"},
		proxyProtocol:  m.ProxyProtocol,
		maxConnections: m.MaxConnections,
		filters:        append(filters, b.filter("envoy.filters.network.tcp_proxy", b.brokerProxy())),
		wholeChain:     b.options.Module != nil,
	})
}

func (b *builder) brokerCluster() *clusterv3.Cluster {
	c := b.cluster(clusterSpec{name: brokerName, addresses: b.options.MQTT.Brokers})
	if b.options.MQTT.ProxyTLVs {
		c.TransportSocket = b.proxyHeader()
	}
	return c
}

// connectionAuthz asks hubgate at the first byte of a connection. Its answer
// leaves hub_id, device_id, device_name and session_id in the connection's
// dynamic metadata, namespace envoy.filters.network.ext_authz.
func (b *builder) connectionAuthz() *extauthzv3.ExtAuthz {
	var chain []*corev3.HeaderValue
	if b.options.Module != nil {
		chain = append(chain, &corev3.HeaderValue{Key: "hubgate-chain", Value: "%FILTER_STATE(hubgate.chain:PLAIN)%"})
	}
	return &extauthzv3.ExtAuthz{
		StatPrefix:             mqttName,
		GrpcService:            b.authzService(b.options.MQTT.Hub, chain...),
		TransportApiVersion:    corev3.ApiVersion_V3,
		IncludePeerCertificate: true,
		IncludeTlsSession:      true,
		SendTlsAlertOnDenial:   true,
	}
}

// brokerProxy opens the broker's side only when data has passed the check.
func (b *builder) brokerProxy() *tcpproxyv3.TcpProxy {
	proxy := &tcpproxyv3.TcpProxy{
		StatPrefix:          mqttName,
		ClusterSpecifier:    &tcpproxyv3.TcpProxy_Cluster{Cluster: brokerName},
		IdleTimeout:         durationpb.New(b.options.MQTT.IdleTimeout),
		MaxConnectAttempts:  wrapperspb.UInt32(brokerAttempts),
		UpstreamConnectMode: tcpproxyv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA,
		MaxEarlyDataBytes:   wrapperspb.UInt32(bufferLimit),
		AccessLog:           b.accessLog(connectionLogFields),
	}
	if b.options.Module == nil {
		proxy.AccessLog = append(proxy.AccessLog, b.sessionLog())
		proxy.AccessLogOptions = &tcpproxyv3.TcpProxy_TcpAccessLogOptions{
			AccessLogFlushInterval:    durationpb.New(sessionLogInterval),
			FlushAccessLogOnConnected: true,
		}
	}
	if b.options.MQTT.ProxyTLVs {
		proxy.ProxyProtocolTlvs = identityTLVs()
		// A load balancer's TLVs of these types would be a device's word.
		proxy.ProxyProtocolTlvMergePolicy = tcpproxyv3.ProxyProtocolTlvMergePolicy_OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD
	}
	return proxy
}
