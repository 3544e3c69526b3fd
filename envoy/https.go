package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// HTTP/2 limits, as Envoy advises for an edge.
const (
	http2Streams          = 100
	http2StreamWindow     = 64 << 10 // bytes
	http2ConnectionWindow = 1 << 20  // bytes
)

func (b *builder) httpsListener() *listenerv3.Listener {
	return b.httpListener(listenerSpec{name: httpsName, listen: b.options.HTTPS.Listen, alpn: []string{"h2", "http/1.1"}})
}

// insecureHTTPListener is the same without TLS: hubgate is told the device's
// credentials, which are its own.
func (b *builder) insecureHTTPListener() *listenerv3.Listener {
	return b.httpListener(listenerSpec{name: insecureHTTPName, listen: b.options.HTTPS.Insecure, insecure: true})
}

// httpListener completes a listener for HTTP.
func (b *builder) httpListener(spec listenerSpec) *listenerv3.Listener {
	h := b.options.HTTPS
	spec.proxyProtocol, spec.maxConnections = h.ProxyProtocol, h.MaxConnections
	if b.options.Module != nil {
		spec.filters = append(spec.filters, b.sessionFilter("http"))
	}
	spec.filters = append(spec.filters, b.filter("envoy.filters.network.http_connection_manager", b.connectionManager(spec)))
	return b.listener(spec)
}

func (b *builder) backendCluster() *clusterv3.Cluster {
	h := b.options.HTTPS
	protocol := http1
	if h.BackendHTTP2 {
		protocol = http2
	}
	return b.cluster(clusterSpec{name: backendName, addresses: h.Backends, protocol: protocol})
}

// connectionManager follows Envoy's "best practices: edge".
func (b *builder) connectionManager(spec listenerSpec) *hcmv3.HttpConnectionManager {
	h := b.options.HTTPS
	return &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		StatPrefix: spec.name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{
			RouteConfig: b.routes(),
		},
		HttpFilters: []*hcmv3.HttpFilter{
			b.httpFilter("envoy.filters.http.header_mutation", forgedTrailers()),
			b.httpFilter("envoy.filters.http.ext_authz", b.httpAuthz(spec)),
			b.httpFilter("envoy.filters.http.router", &routerv3.Router{}),
		},

		// Who asks: the certificate that TLS proved, and nothing a client says.
		ForwardClientCertDetails: hcmv3.HttpConnectionManager_SANITIZE_SET,
		SetCurrentClientCertDetails: &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
			// Not Subject, Uri and Dns: Envoy writes SANs unquoted, so that one
			// with a comma would look like a forged second element.
			Cert: true, Chain: true,
		},
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{{
			Name:        "envoy.http.early_header_mutation.header_mutation",
			TypedConfig: b.pack(&earlyv3.HeaderMutation{Mutations: b.requestRemovals()}),
		}},
		UseRemoteAddress:  wrapperspb.Bool(true),
		XffNumTrustedHops: h.TrustedHops,
		// Nobody is internal, whatever network devices connect from: Envoy's
		// own x-envoy-* headers are not theirs to set. An empty list would
		// mean all private networks, so it has an address that is nobody's.
		InternalAddressConfig: &hcmv3.HttpConnectionManager_InternalAddressConfig{
			CidrRanges: []*corev3.CidrRange{{AddressPrefix: "255.255.255.255", PrefixLen: wrapperspb.UInt32(32)}},
		},

		// One spelling for each request.
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
		StripPortMode:                &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout: durationpb.New(h.IdleTimeout),
			// Many servers cannot tell x_device_id from x-device-id.
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},

		// Bounds.
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:        wrapperspb.UInt32(http2Streams),
			InitialStreamWindowSize:     wrapperspb.UInt32(http2StreamWindow),
			InitialConnectionWindowSize: wrapperspb.UInt32(http2ConnectionWindow),
		},
		StreamIdleTimeout:     durationpb.New(h.StreamIdleTimeout),
		RequestHeadersTimeout: durationpb.New(b.options.HandshakeTimeout),

		UpgradeConfigs: []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		AccessLog:      b.accessLog(httpLogFields),
	}
}

func (b *builder) httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name:       name,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(config)},
	}
}

// httpAuthz asks hubgate before a request goes on. Its answer removes the
// certificate header, which backends must not see, and sets the identity.
func (b *builder) httpAuthz(spec listenerSpec) *extauthzv3.ExtAuthz {
	// hubgate needs nothing else, least of all a device's credentials for the
	// backend. Without TLS they are for hubgate, whose answer removes them.
	headers := []*matcherv3.StringMatcher{
		exactly("x-forwarded-client-cert"), exactly("x-forwarded-for"), exactly("x-request-id"), exactly("user-agent"),
	}
	if spec.insecure {
		headers = append(headers, exactly("authorization"))
	}
	return &extauthzv3.ExtAuthz{
		Services:            &extauthzv3.ExtAuthz_GrpcService{GrpcService: b.authzService(b.options.HTTPS.Hub)},
		TransportApiVersion: corev3.ApiVersion_V3,
		StatusOnError:       &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		ClearRouteCache:     true,
		ValidateMutations:   true,

		IncludePeerCertificate: true,
		IncludeTlsSession:      true,
		AllowedHeaders:         &matcherv3.ListStringMatcher{Patterns: headers},
	}
}

// routes lead everything to the backend. Requests and their answers may be
// streams of any length, so only idleness ends them.
func (b *builder) routes() *routev3.RouteConfiguration {
	domains := []string{"*"}
	if b.options.HTTPS.OnlyDomain {
		domains = []string{b.options.Domain, "*." + b.options.Domain}
	}
	return &routev3.RouteConfiguration{
		Name: backendName,
		VirtualHosts: []*routev3.VirtualHost{{
			Name:    backendName,
			Domains: domains,
			Routes: []*routev3.Route{{
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: backendName},
					Timeout:          durationpb.New(0),
				}},
			}},
		}},
	}
}

// requestRemovals are made before anything looks at a request's headers.
func (b *builder) requestRemovals() []*mutationv3.HeaderMutation {
	// Envoy itself lets some x-envoy-* of strangers through.
	removals := append(identityRemovals(), removePrefix("x-envoy-"))
	if b.options.HTTPS.TrustedHops == 0 {
		// Envoy appends to the first of these; without a proxy in front, what
		// was there before is the device's own invention.
		removals = append(removals, remove("x-forwarded-for"), remove("forwarded"), remove("x-real-ip"))
	}
	return removals
}

// identityRemovals drop what only hubgate may say about a request.
func identityRemovals() []*mutationv3.HeaderMutation {
	return []*mutationv3.HeaderMutation{remove("x-hub-id"), removePrefix("x-device-")}
}

func remove(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

func removePrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix},
		}},
	}}
}

// forgedTrailers drops the same from a request's trailers, which early header
// mutation does not see and HTTP/2 backends may take for headers.
func forgedTrailers() *headermutationv3.HeaderMutation {
	removals := append(identityRemovals(), remove("x-forwarded-client-cert"))
	return &headermutationv3.HeaderMutation{
		Mutations: &headermutationv3.Mutations{RequestTrailersMutations: removals},
	}
}

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}
