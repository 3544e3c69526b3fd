package main

import (
	"encoding/json"
	"path/filepath"
)

type m = map[string]any
type a = []any

// listeners are the ways to configure Envoy that the cases go through.
var listeners = []struct {
	name         string
	http, plain  bool
	proxy, pipe  bool
	hops         int    // trusted X-Forwarded-For hops
	forward      string // forward_client_cert_details
	bare         bool   // neither certificate nor TLS session nor metadata
	noClientCert bool
	raw          bool   // encode_raw_headers
	hub          string // hub hint
}{
	{name: "https", http: true},
	{name: "https-hops", http: true, hops: 1},
	{name: "https-proxy", http: true, proxy: true},
	{name: "https-append", http: true, forward: "APPEND_FORWARD"},
	{name: "https-pipe", http: true, pipe: true},
	{name: "https-optional", http: true, noClientCert: true},
	{name: "https-bare", http: true, bare: true},
	{name: "https-raw", http: true, raw: true},
	{name: "https-hub", http: true, hub: "factory"},
	{name: "http", http: true, plain: true},
	{name: "tcp"},
	{name: "tcp-optional", noClientCert: true},
	{name: "tcp-proxy", proxy: true},
	{name: "tcp-plain", plain: true},
	{name: "tcp-bare", bare: true},
	{name: "tcp-hub", hub: "factory"},
}

func bootstrap(dir string, authz, backend int, ports []int) ([]byte, error) {
	var ls a
	for i, l := range listeners {
		grpc := m{
			"envoy_grpc": m{"cluster_name": "hubgate"},
			"timeout":    "2s",
		}
		if !l.bare {
			metadata := a{
				m{"key": "hubgate-chain-sha256", "value": "%DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256%"},
				m{"key": "hubgate-chain", "value": "%FILTER_STATE(hubgate.chain:PLAIN)%"},
				m{"key": "hubgate-connection", "value": "%CONNECTION_ID%"},
				m{"key": "hubgate-node", "value": "envoy-1"},
				m{"key": "hubgate-source", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
			}
			if l.hub != "" && !l.http {
				metadata = append(metadata, m{"key": "hubgate-hub", "value": l.hub})
			}
			grpc["initial_metadata"] = metadata
		}
		ext := m{
			"transport_api_version": "V3", "grpc_service": grpc,
			"include_peer_certificate": !l.bare, "include_tls_session": !l.bare,
		}
		logs := a{m{"name": "envoy.access_loggers.stdout", "typed_config": m{
			"@type":      "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
			"log_format": m{"text_format_source": m{"inline_string": l.name + " %REQUESTED_SERVER_NAME% %RESPONSE_CODE% tcp=%DYNAMIC_METADATA(envoy.filters.network.ext_authz)% http=%DYNAMIC_METADATA(envoy.filters.http.ext_authz)% flags=%RESPONSE_FLAGS% remote=%DOWNSTREAM_REMOTE_ADDRESS%\n"}},
		}}}
		var filters a
		if l.http {
			ext["@type"] = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
			ext["encode_raw_headers"] = l.raw
			route := m{"match": m{"prefix": "/"}, "route": m{"cluster": "backend"}}
			if l.hub != "" {
				route["typed_per_filter_config"] = m{"envoy.filters.http.ext_authz": m{
					"@type":          "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
					"check_settings": m{"context_extensions": m{"hub": l.hub}}}}
			}
			forward := l.forward
			if forward == "" {
				forward = "SANITIZE_SET"
			}
			filters = a{m{"name": "hcm", "typed_config": m{
				"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
				"stat_prefix": "h", "access_log": logs, "use_remote_address": true, "xff_num_trusted_hops": l.hops,
				"forward_client_cert_details":     forward,
				"set_current_client_cert_details": m{"subject": true, "cert": true, "chain": true, "uri": true, "dns": true},
				"route_config":                    m{"virtual_hosts": a{m{"name": "all", "domains": a{"*"}, "routes": a{route}}}},
				"http_filters": a{
					m{"name": "envoy.filters.http.ext_authz", "typed_config": ext},
					m{"name": "router", "typed_config": m{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
				},
			}}}
		} else {
			ext["@type"] = "type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"
			ext["stat_prefix"] = "t"
			ext["send_tls_alert_on_denial"] = true
			filters = a{
				m{"name": "envoy.filters.network.ext_authz", "typed_config": ext},
				m{"name": "tcp", "typed_config": m{
					"@type":       "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
					"stat_prefix": "t", "cluster": "backend", "access_log": logs}},
			}
		}
		chain := m{"filters": filters}
		if !l.plain {
			chain["transport_socket"] = m{"name": "tls", "typed_config": m{
				"@type":                      "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
				"require_client_certificate": !l.noClientCert,
				"common_tls_context": m{
					"tls_certificates": a{m{
						"certificate_chain": m{"filename": filepath.Join(dir, "server.pem")},
						"private_key":       m{"filename": filepath.Join(dir, "server.key")}}},
					"validation_context": m{"trust_chain_verification": "ACCEPT_UNTRUSTED"},
				}}}
		}
		listener := m{"name": l.name, "filter_chains": a{chain}, "address": m{"socket_address": m{"address": "127.0.0.1", "port_value": ports[i]}}}
		if l.pipe {
			listener["address"] = m{"pipe": m{"path": filepath.Join(dir, "pipe.sock")}}
		}
		if l.proxy {
			listener["listener_filters"] = a{m{"name": "proxy", "typed_config": m{
				"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"}}}
		}
		ls = append(ls, listener)
	}
	cluster := func(name string, port int) m {
		return m{"name": name, "type": "STATIC", "load_assignment": m{"cluster_name": name, "endpoints": a{m{"lb_endpoints": a{
			m{"endpoint": m{"address": m{"socket_address": m{"address": "127.0.0.1", "port_value": port}}}}}}}}}
	}
	hubgate := cluster("hubgate", authz)
	hubgate["typed_extension_protocol_options"] = m{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": m{
		"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
		"explicit_http_config": m{"http2_protocol_options": m{}}}}
	return json.Marshal(m{
		"node":             m{"id": "envoy-1", "cluster": "edge"},
		"static_resources": m{"listeners": ls, "clusters": a{hubgate, cluster("backend", backend)}},
	})
}
