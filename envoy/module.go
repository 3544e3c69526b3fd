package envoy

import (
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	dynamicv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/dynamic_modules/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/dynamic_modules/v3"
	validatorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_validator/dynamic_modules/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Defaults of Module.
const (
	DefaultLink           = "127.0.0.1:9194"
	DefaultUserName       = "{hub_id}/{device_name}"
	DefaultClientID       = "{device_id}-{client_id}"
	DefaultConnectTimeout = 10 * time.Second
	DefaultMaxConnect     = 64 << 10
	// KeepIdentity as UserName or ClientID leaves what the client says. It can
	// then pass for any other client of the broker.
	KeepIdentity = "keep"
)

// Module has Envoy load hubgate's library, libhubgate.so. With it, hubgate
// sees the whole certificate chain over MQTT too, the broker learns who is
// connected, and hubgate can end connections. docs/without-the-module.md says
// what is left without it.
type Module struct {
	// Library is the absolute path of libhubgate.so. Default: Envoy looks for
	// it in the directory that ENVOY_DYNAMIC_MODULES_SEARCH_PATH names, then
	// where the system keeps its libraries.
	Library string
	// Links are addresses of hubgate's link port; Envoy keeps one connection
	// to one of them. Default: DefaultLink.
	Links []string
	// TLS protects the link. Default: Hubgate.TLS.
	TLS *ClientTLS
	// UserName replaces the user name and password of every MQTT client, with
	// {hub_id}, {device_id} and {device_name}. Default: DefaultUserName.
	UserName string
	// ClientID replaces the client ID, unless it is empty; it may hold
	// {client_id} as well. Default: DefaultClientID. No two devices may be able
	// to become the same, whatever they call themselves: as names and client
	// IDs have any length, a / belongs between them.
	ClientID string
	// ConnectTimeout bounds the wait for an MQTT CONNECT after the handshake.
	// Default 10 s.
	ConnectTimeout time.Duration
	// MaxConnect bounds the CONNECT packet, in bytes, with its will. Default
	// 64 KiB.
	MaxConnect int
}

func (m Module) withDefaults(h Hubgate) *Module {
	setDefaults(&m.Links, DefaultLink)
	setDefault(&m.UserName, DefaultUserName)
	setDefault(&m.ClientID, DefaultClientID)
	setDefault(&m.ConnectTimeout, DefaultConnectTimeout)
	setDefault(&m.MaxConnect, DefaultMaxConnect)
	if m.TLS == nil {
		m.TLS = h.TLS
	}
	if m.TLS != nil {
		t := *m.TLS
		setDefault(&t.ServerName, host(m.Links[0]))
		m.TLS = &t
	}
	return &m
}

func (p *problems) module(m *Module) {
	if m.Library != "" && (m.Library[0] != '/' || !isPlain(m.Library)) {
		p.add("Module.Library", "%q is not an absolute path in printable ASCII", m.Library)
	}
	for i, address := range m.Links {
		if _, ok := parseEndpoint(address); !ok {
			p.add(fmt.Sprintf("Module.Links[%d]", i), "%q is neither host:port nor unix:///path", address)
		}
	}
	p.clientTLS("Module.TLS", m.TLS)
	// What a format may hold is the library's to say, when Envoy starts.
	for _, format := range [...][2]string{{"UserName", m.UserName}, {"ClientID", m.ClientID}} {
		if !isPlain(format[1]) {
			p.add("Module."+format[0], "%q is not printable ASCII", format[1])
		}
	}
	p.atLeast("Module.ConnectTimeout", m.ConnectTimeout, time.Millisecond)
	if m.MaxConnect < 1<<10 || m.MaxConnect > 1<<20 {
		p.add("Module.MaxConnect", "%d is not within 1024 and 1048576", m.MaxConnect)
	}
}

// library is how both parts refer to it. Go code cannot be unloaded.
func (b *builder) library() *dynamicv3.DynamicModuleConfig {
	c := &dynamicv3.DynamicModuleConfig{DoNotClose: true}
	if path := b.options.Module.Library; path != "" {
		c.Module = &corev3.AsyncDataSource{Specifier: &corev3.AsyncDataSource_Local{Local: file(path)}}
	} else {
		c.Name = "hubgate"
	}
	return c
}

// chainValidator takes the place of Envoy's own, which would not keep the
// chain. Neither decides anything. It is for MQTT only: over HTTPS, hubgate
// has the chain from the XFCC header, on resumed TLS sessions too.
func (b *builder) chainValidator() *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{
		Name: "envoy.tls.cert_validator.dynamic_modules",
		TypedConfig: b.pack(&validatorv3.DynamicModuleCertValidatorConfig{
			DynamicModuleConfig: b.library(),
			ValidatorName:       "chain",
		}),
	}
}

// sessionFilter is the library's filter; role is that of its place, "mqtt"
// after the check, "http" in front of the connection manager.
func (b *builder) sessionFilter(role string) *listenerv3.Filter {
	m := b.options.Module
	link := map[string]any{"addresses": list(m.Links)}
	if t := m.TLS; t != nil {
		files := map[string]any{"ca": t.CA, "server_name": t.ServerName}
		if t.Client != (KeyPair{}) {
			files["certificate"], files["key"] = t.Client.Certificate, t.Client.Key
		}
		link["tls"] = files
	}
	config := map[string]any{"role": role, "link": link}
	if b.options.NodeID != "" {
		config["node"] = b.options.NodeID
	}
	if role == "mqtt" {
		config["username"], config["client_id"] = m.UserName, m.ClientID
		config["connect_timeout"] = m.ConnectTimeout.String()
		config["max_connect_bytes"] = m.MaxConnect
	}
	return b.libraryFilter("session", config)
}

// credentialsFilter is the library's filter in front of the check, where there is
// no TLS. What it collects comes from strangers.
func (b *builder) credentialsFilter() *listenerv3.Filter {
	m := b.options.Module
	return b.libraryFilter("credentials", map[string]any{
		"connect_timeout": m.ConnectTimeout.String(), "max_connect_bytes": min(m.MaxConnect, bufferLimit),
	})
}

func (b *builder) libraryFilter(name string, config map[string]any) *listenerv3.Filter {
	s, err := structpb.NewStruct(config)
	if b.err == nil {
		b.err = err
	}
	return b.filter("envoy.filters.network.dynamic_modules", &networkv3.DynamicModuleNetworkFilter{
		DynamicModuleConfig: b.library(),
		FilterName:          name,
		FilterConfig:        b.pack(s),
	})
}

func list(values []string) []any {
	all := make([]any, len(values))
	for i, value := range values {
		all[i] = value
	}
	return all
}
