package envoy

import "time"

// Defaults of Options.
const (
	DefaultHTTPSListen       = "0.0.0.0:8443"
	DefaultBackend           = "127.0.0.1:8080"
	DefaultMQTTListen        = "0.0.0.0:8883"
	DefaultBroker            = "127.0.0.1:1883"
	DefaultHubgate           = "127.0.0.1:9191"
	DefaultCertificate       = "/etc/envoy/tls/tls.crt"
	DefaultKey               = "/etc/envoy/tls/tls.key"
	DefaultMaxConnections    = 50_000
	DefaultCheckTimeout      = 2 * time.Second
	DefaultHandshakeTimeout  = 10 * time.Second
	DefaultTCPKeepalive      = time.Minute
	DefaultIdleTimeout       = time.Hour
	DefaultStreamIdleTimeout = 5 * time.Minute
)

// Options describe one Envoy. The zero value is usable: both listeners with
// their defaults, certificates from /etc/envoy/tls, everything else on the
// loopback address.
//
// An address is "host:port" or "unix:///path"; the host of a listener is an
// IP address ("0.0.0.0", "[::]" for both families), that of an upstream may be
// a name, whose every address is used. Files are read by Envoy, not by this
// package, and only when Envoy starts.
type Options struct {
	// Domain is the DNS name under which hubs are reached (SNI and authority
	// <hub>.<domain>), as in hubgate's own configuration. Empty if hubs are
	// told apart by issuer or hint alone.
	Domain string
	// HTTPS and MQTT are the listeners; a nil one is left out. If both are
	// nil, both are there with their defaults.
	HTTPS *HTTPS
	MQTT  *MQTT
	// Certificates are what devices see. Envoy picks by SNI, and the first if
	// none matches; one for *.<domain> serves all hubs. Default: DefaultCertificate
	// and DefaultKey.
	Certificates []KeyPair
	// TicketKeys are files of exactly 80 random bytes, shared by all Envoys,
	// so that a device resumes its TLS session on any of them. The first
	// encrypts, all decrypt; rotate daily. Default: each Envoy has keys of its
	// own, lost at a restart. Envoy: DownstreamTlsContext.session_ticket_keys.
	TicketKeys []string
	Hubgate    Hubgate
	// Module has Envoy load hubgate's library. Default: nil, without it.
	Module *Module
	// NodeID names this Envoy to hubgate (metadata hubgate-node); two Envoys
	// must not share one. Printable ASCII without '%' and ','. Default: the
	// host name, as Envoy finds it when it runs.
	NodeID string
	// NodeCluster is the name Envoy gives its group in its own logs and
	// statistics. Default: none.
	NodeCluster string
	// Admin is the address of Envoy's admin interface, which guards nothing
	// and can stop Envoy: loopback addresses and sockets only. Default: off.
	Admin string
	// MaxConnections bounds the open device connections of both listeners
	// together, and with them the pending checks; the next one is closed at
	// once. Mind the limit on open files: each connection takes up to two.
	// Default 50,000. Envoy: overload manager, global_downstream_max_connections.
	MaxConnections uint32
	// HandshakeTimeout bounds a PROXY header, a TLS handshake, and a request's
	// headers, each. Default 10 s. Envoy: transport_socket_connect_timeout.
	HandshakeTimeout time.Duration
	// TCPKeepalive is the silence after which a peer is probed, in whole
	// seconds; four unanswered probes, each a quarter of it apart, end the
	// connection. Default 1 min.
	TCPKeepalive time.Duration
	// AccessLog writes a JSON line per request and per connection to stdout,
	// without headers, query strings or certificates. Default: off.
	AccessLog bool
}

// HTTPS is the listener for devices that speak HTTP/1.1 or HTTP/2.
type HTTPS struct {
	Listen string // default DefaultHTTPSListen
	// Insecure is the address of another listener, without TLS: a device gets
	// in by its secret (HTTP basic authentication) if an operator allows it.
	// Whoever can read the network reads the secret. Default: none.
	Insecure string
	// Backends receive the requests of admitted devices, in cleartext.
	// Default: DefaultBackend.
	Backends []string
	// BackendHTTP2 speaks HTTP/2 to the backends instead of HTTP/1.1.
	BackendHTTP2 bool
	// Hub is the name or ID of the hub that all devices of this listener
	// belong to. Default: hubgate finds it by SNI or issuer.
	Hub string
	// OnlyDomain answers 404, without asking hubgate, to requests whose
	// authority is neither Domain nor under it. Needs Domain.
	OnlyDomain bool
	// ProxyProtocol expects a PROXY header (v1 or v2) in front of every
	// connection and refuses those without. Everybody who can reach such a
	// listener can choose its source address.
	ProxyProtocol bool
	// TrustedHops is how many proxies in front of Envoy append to
	// X-Forwarded-For. With 0, the default, devices cannot influence what
	// backends see there. Envoy: xff_num_trusted_hops.
	TrustedHops uint32
	// MaxConnections bounds this listener alone. Default: no bound of its own.
	MaxConnections uint32
	// IdleTimeout ends a connection without requests. Default 1 h.
	IdleTimeout time.Duration
	// StreamIdleTimeout ends a request or WebSocket on which nothing moved.
	// Default 5 min.
	StreamIdleTimeout time.Duration
}

// MQTT is the listener for MQTT over TLS; it forwards any other protocol over
// TLS in which the client speaks first just as well.
type MQTT struct {
	Listen string // default DefaultMQTTListen
	// Insecure is as in HTTPS; the secret is the password of the CONNECT. It
	// needs Module.
	Insecure string
	// Brokers receive the connections of admitted devices, in cleartext. They
	// see no connection before hubgate has decided. Default: DefaultBroker.
	Brokers []string
	// ProxyTLVs begins each connection to a broker with a PROXY header (v2)
	// that says who is connected: TLVHubID, TLVDeviceID and TLVDeviceName, as
	// text. Brokers have to expect it, from Envoy alone.
	ProxyTLVs bool
	// Hub, ProxyProtocol, MaxConnections: as in HTTPS.
	Hub            string
	ProxyProtocol  bool
	MaxConnections uint32
	// IdleTimeout ends a connection on which nothing moved. hubgate is asked
	// at a connection's first byte, so this bounds a client that stays silent
	// after its handshake, too; it must exceed the longest MQTT keep-alive
	// interval in use. A client that ends its stream without having sent a
	// byte is checked then; if it is admitted, Envoy keeps its side of the
	// connection for as long as this, as nobody ends the other. (Module ends
	// both after its ConnectTimeout.) Default 1 h.
	IdleTimeout time.Duration
}

// Hubgate says how to reach the authorization server. If it cannot be
// reached, or does not answer in time, nobody gets in.
type Hubgate struct {
	// Addresses of hubgate's gRPC port: every replica, or a name that resolves
	// to all of them. Default: DefaultHubgate.
	Addresses []string
	// TLS protects the link; nil speaks cleartext HTTP/2, which belongs on the
	// loopback address or a Unix socket only.
	TLS *ClientTLS
	// CheckTimeout is how long a device waits for a decision before its
	// request fails with 503 or its connection ends. Envoy's own 200 ms is
	// less than a store needs to fail over. Default 2 s.
	CheckTimeout time.Duration
}

// ClientTLS is Envoy's side of (m)TLS towards hubgate.
type ClientTLS struct {
	// CA is a PEM file: whoever it signed for ServerName is hubgate.
	CA string
	// Client is Envoy's own certificate. Zero if hubgate asks for none.
	Client KeyPair
	// ServerName is the DNS name or IP address in hubgate's certificate.
	// Default: the host of the first address.
	ServerName string
}

// KeyPair names two PEM files.
type KeyPair struct {
	Certificate string // chain, leaf first
	Key         string
}

func (o Options) withDefaults() Options {
	if o.HTTPS == nil && o.MQTT == nil {
		o.HTTPS, o.MQTT = &HTTPS{}, &MQTT{}
	}
	if o.HTTPS != nil {
		h := *o.HTTPS
		setDefault(&h.Listen, DefaultHTTPSListen)
		setDefaults(&h.Backends, DefaultBackend)
		setDefault(&h.IdleTimeout, DefaultIdleTimeout)
		setDefault(&h.StreamIdleTimeout, DefaultStreamIdleTimeout)
		o.HTTPS = &h
	}
	if o.MQTT != nil {
		m := *o.MQTT
		setDefault(&m.Listen, DefaultMQTTListen)
		setDefaults(&m.Brokers, DefaultBroker)
		setDefault(&m.IdleTimeout, DefaultIdleTimeout)
		o.MQTT = &m
	}
	setDefaults(&o.Certificates, KeyPair{DefaultCertificate, DefaultKey})
	setDefaults(&o.Hubgate.Addresses, DefaultHubgate)
	setDefault(&o.Hubgate.CheckTimeout, DefaultCheckTimeout)
	if o.Hubgate.TLS != nil {
		t := *o.Hubgate.TLS
		setDefault(&t.ServerName, host(o.Hubgate.Addresses[0]))
		o.Hubgate.TLS = &t
	}
	if o.Module != nil {
		o.Module = o.Module.withDefaults(o.Hubgate)
	}
	setDefault(&o.MaxConnections, DefaultMaxConnections)
	setDefault(&o.HandshakeTimeout, DefaultHandshakeTimeout)
	setDefault(&o.TCPKeepalive, DefaultTCPKeepalive)
	return o
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

func setDefaults[T any](values *[]T, fallback T) {
	if len(*values) == 0 {
		*values = []T{fallback}
	}
}
