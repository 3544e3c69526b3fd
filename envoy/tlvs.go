package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxytransportv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
)

// Types of the TLVs that MQTT.ProxyTLVs adds to the PROXY header, from the
// range that the protocol leaves to applications.
const (
	TLVHubID      = 0xE0
	TLVDeviceID   = 0xE1
	TLVDeviceName = 0xE2
)

// identityTLVs tell brokers who is connected without the library, by what
// hubgate's answer has left in the connection's metadata. The TCP proxy fills
// them in when it connects, which is after the answer; the cluster's own
// added_tlvs know nothing of the metadata.
func identityTLVs() []*corev3.TlvEntry {
	entry := func(kind uint32, key string) *corev3.TlvEntry {
		return &corev3.TlvEntry{
			Type: kind,
			FormatString: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
					Specifier: &corev3.DataSource_InlineString{
						InlineString: "%DYNAMIC_METADATA(envoy.filters.network.ext_authz:" + key + ")%",
					},
				}},
			},
		}
	}
	return []*corev3.TlvEntry{
		entry(TLVHubID, "hub_id"), entry(TLVDeviceID, "device_id"), entry(TLVDeviceName, "device_name"),
	}
}

// proxyHeader begins each connection to a broker with those TLVs and no
// others: what a load balancer in front of Envoy has said stays here.
func (b *builder) proxyHeader() *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.upstream_proxy_protocol",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(&proxytransportv3.ProxyProtocolUpstreamTransport{
			Config: &corev3.ProxyProtocolConfig{
				Version: corev3.ProxyProtocolConfig_V2,
				PassThroughTlvs: &corev3.ProxyProtocolPassThroughTLVs{
					MatchType: corev3.ProxyProtocolPassThroughTLVs_INCLUDE,
					TlvType:   []uint32{TLVHubID, TLVDeviceID, TLVDeviceName},
				},
			},
			TransportSocket: &corev3.TransportSocket{
				Name:       "envoy.transport_sockets.raw_buffer",
				ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(&rawv3.RawBuffer{})},
			},
		})},
	}
}
