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

// proxyTLVs tells brokers who is connected without the library, by what
// hubgate's answer has left in the connection's metadata.
func (b *builder) proxyTLVs() *corev3.TransportSocket {
	header := &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V2}
	for _, tlv := range []struct {
		kind uint32
		key  string
	}{{TLVHubID, "hub_id"}, {TLVDeviceID, "device_id"}, {TLVDeviceName, "device_name"}} {
		header.AddedTlvs = append(header.AddedTlvs, &corev3.TlvEntry{
			Type: tlv.kind,
			FormatString: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
					Specifier: &corev3.DataSource_InlineString{
						InlineString: "%DYNAMIC_METADATA(envoy.filters.network.ext_authz:" + tlv.key + ")%",
					},
				}},
			},
		})
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.upstream_proxy_protocol",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(&proxytransportv3.ProxyProtocolUpstreamTransport{
			Config: header,
			TransportSocket: &corev3.TransportSocket{
				Name:       "envoy.transport_sockets.raw_buffer",
				ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(&rawv3.RawBuffer{})},
			},
		})},
	}
}
