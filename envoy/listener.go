package envoy

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// bufferLimit bounds what Envoy holds of one connection, in bytes; Envoy's
	// advice for an edge. An MQTT client's first packets wait in it.
	bufferLimit = 32 << 10
	// keepaliveProbes unanswered end a connection.
	keepaliveProbes = 4
)

// signatureAlgorithms are those a device may prove its key with: the keys
// that hubgate accepts. Envoy's own list lacks P-521 and Ed25519, and has
// SHA-1.
var signatureAlgorithms = []string{
	"ecdsa_secp256r1_sha256", "ed25519", "rsa_pss_rsae_sha256", "rsa_pkcs1_sha256",
	"ecdsa_secp384r1_sha384", "rsa_pss_rsae_sha384", "rsa_pkcs1_sha384",
	"ecdsa_secp521r1_sha512", "rsa_pss_rsae_sha512", "rsa_pkcs1_sha512",
}

// listenerSpec is what the listeners differ in.
type listenerSpec struct {
	name           string
	listen         string
	insecure       bool // without TLS
	alpn           []string
	proxyProtocol  bool
	maxConnections uint32
	wholeChain     bool // has the library keep the device's chain
	// filters come after the connection limit.
	filters []*listenerv3.Filter
}

func (b *builder) listener(spec listenerSpec) *listenerv3.Listener {
	handshake := durationpb.New(b.options.HandshakeTimeout)
	l := &listenerv3.Listener{
		Name:             spec.name,
		StatPrefix:       spec.name,
		Address:          endpointAddress(spec.listen),
		TrafficDirection: corev3.TrafficDirection_INBOUND,
		TcpKeepalive:     tcpKeepalive(b.options.TCPKeepalive),
		FilterChains: []*listenerv3.FilterChain{{
			Name:                          spec.name,
			Filters:                       spec.filters,
			TransportSocketConnectTimeout: handshake,
		}},
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
	}
	if !spec.insecure {
		l.FilterChains[0].TransportSocket = b.deviceTLS(spec)
	}
	if spec.proxyProtocol {
		l.ListenerFiltersTimeout = handshake
		l.ListenerFilters = []*listenerv3.ListenerFilter{{
			Name: "envoy.filters.listener.proxy_protocol",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{
				TypedConfig: b.pack(&proxyv3.ProxyProtocol{StatPrefix: spec.name}),
			},
		}}
	}
	if spec.maxConnections > 0 {
		limit := b.filter("envoy.filters.network.connection_limit", &limitv3.ConnectionLimit{
			StatPrefix:     spec.name,
			MaxConnections: wrapperspb.UInt64(uint64(spec.maxConnections)),
		})
		chain := l.FilterChains[0]
		chain.Filters = append([]*listenerv3.Filter{limit}, chain.Filters...)
	}
	return l
}

func (b *builder) filter(name string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{
		Name:       name,
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: b.pack(config)},
	}
}

// deviceTLS asks every device for a certificate and proof of its key, and
// leaves trust to hubgate: hubs behind one port have no CA list in common.
func (b *builder) deviceTLS(spec listenerSpec) *corev3.TransportSocket {
	validation := &tlsv3.CertificateValidationContext{
		TrustChainVerification: tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED,
	}
	if spec.wholeChain {
		validation = &tlsv3.CertificateValidationContext{CustomValidatorConfig: b.chainValidator()}
	}
	context := &tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				SignatureAlgorithms:       signatureAlgorithms,
			},
			AlpnProtocols: spec.alpn,
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{
				ValidationContext: validation,
			},
		},
		// The library asks for one by itself, and leaves the answer to hubgate
		// as Envoy's own validator does; with this it would be Envoy's.
		RequireClientCertificate: wrapperspb.Bool(!spec.wholeChain),
	}
	for _, pair := range b.options.Certificates {
		context.CommonTlsContext.TlsCertificates = append(context.CommonTlsContext.TlsCertificates, pair.certificate())
	}
	if len(b.options.Certificates) > 1 {
		// Without a match by name, an RSA and an ECDSA certificate still
		// serve the clients that know only one of them.
		context.FullScanCertsOnSniMismatch = wrapperspb.Bool(true)
	}
	if len(b.options.TicketKeys) > 0 {
		keys := &tlsv3.TlsSessionTicketKeys{}
		for _, name := range b.options.TicketKeys {
			keys.Keys = append(keys.Keys, file(name))
		}
		context.SessionTicketKeysType = &tlsv3.DownstreamTlsContext_SessionTicketKeys{SessionTicketKeys: keys}
	}
	return b.tlsSocket(context)
}

func (b *builder) tlsSocket(context proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(context)},
	}
}

func (k KeyPair) certificate() *tlsv3.TlsCertificate {
	return &tlsv3.TlsCertificate{CertificateChain: file(k.Certificate), PrivateKey: file(k.Key)}
}

func file(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}

func tcpKeepalive(idle time.Duration) *corev3.TcpKeepalive {
	seconds := uint32(idle / time.Second)
	return &corev3.TcpKeepalive{
		KeepaliveProbes:   wrapperspb.UInt32(keepaliveProbes),
		KeepaliveTime:     wrapperspb.UInt32(seconds),
		KeepaliveInterval: wrapperspb.UInt32(max(1, seconds/keepaliveProbes)),
	}
}
