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
	var metadata []*corev3.HeaderValue
	if b.options.Module != nil {
		metadata = append(metadata, &corev3.HeaderValue{Key: "hubgate-chain", Value: "%FILTER_STATE(hubgate.chain:PLAIN)%"})
	}
	return b.brokerListener(listenerSpec{
		name: mqttName, listen: b.options.MQTT.Listen, alpn: []string{"mqtt"}, wholeChain: b.options.Module != nil,
	}, metadata...)
}

// insecureMQTTListener is the same without TLS: the library reads the device's
// credentials out of its CONNECT, before the check.
func (b *builder) insecureMQTTListener() *listenerv3.Listener {
	return b.brokerListener(listenerSpec{
		name: insecureMQTTName, listen: b.options.MQTT.Insecure, insecure: true,
		filters: []*listenerv3.Filter{b.credentialsFilter()},
	}, &corev3.HeaderValue{Key: "hubgate-credentials", Value: "%FILTER_STATE(hubgate.credentials:PLAIN)%"})
}

// brokerListener completes a listener for MQTT; hubgate is told the metadata in
// addition.
func (b *builder) brokerListener(spec listenerSpec, metadata ...*corev3.HeaderValue) *listenerv3.Listener {
	m := b.options.MQTT
	spec.proxyProtocol, spec.maxConnections = m.ProxyProtocol, m.MaxConnections
	spec.filters = append(spec.filters, b.filter("envoy.filters.network.ext_authz", b.connectionAuthz(spec, metadata)))
	if b.options.Module != nil {
		spec.filters = append(spec.filters, b.sessionFilter("mqtt"))
	}
	spec.filters = append(spec.filters, b.filter("envoy.filters.network.tcp_proxy", b.brokerProxy(spec)))
	return b.listener(spec)
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
func (b *builder) connectionAuthz(spec listenerSpec, metadata []*corev3.HeaderValue) *extauthzv3.ExtAuthz {
	return &extauthzv3.ExtAuthz{
		StatPrefix:             spec.name,
		GrpcService:            b.authzService(b.options.MQTT.Hub, metadata...),
		TransportApiVersion:    corev3.ApiVersion_V3,
		IncludePeerCertificate: true,
		IncludeTlsSession:      true,
		SendTlsAlertOnDenial:   !spec.insecure,
	}
}

// brokerProxy opens the broker's side only when data has passed the check.
func (b *builder) brokerProxy(spec listenerSpec) *tcpproxyv3.TcpProxy {
	proxy := &tcpproxyv3.TcpProxy{
		StatPrefix:          spec.name,
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
