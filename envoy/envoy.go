// Package envoy writes the configuration that Envoy needs in front of hubgate.
//
// hubgate's decisions are only as good as what Envoy attests: that the device
// holds the key of its certificate, that no header of a request can pass for
// one of ours, and that a connection nobody decided on goes nowhere. Getting
// these right by hand takes some forty settings in two listeners, and a
// forgotten one fails silently, so they are generated here, from Envoy's own
// types, and tested against the real Envoy.
//
// Bootstrap is the whole API: it turns Options, which describe ports,
// certificates and upstreams, into a bootstrap file for Envoy 1.40 or later.
package envoy

import (
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	downstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Names of listeners, clusters and statistics. Operators meet them in Envoy's
// metrics, so they stay as they are.
const (
	httpsName        = "https"
	mqttName         = "mqtt"
	insecureHTTPName = "insecure_http"
	insecureMQTTName = "insecure_mqtt"
	backendName      = "backend"
	brokerName       = "broker"
	hubgateName      = "hubgate"
)

// Bootstrap returns a complete Envoy bootstrap as YAML, with a comment that
// says what it expects. The same Options give the same bytes. The error names
// every wrong option.
func Bootstrap(o Options) ([]byte, error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	b := &builder{options: o}
	config := b.bootstrap()
	if err := b.check(config); err != nil {
		return nil, err
	}
	return render(header(o), config)
}

// builder puts the messages together. Packing a message can fail only by a
// mistake in this package; the first such error is kept for the end.
type builder struct {
	options Options
	err     error
}

func (b *builder) bootstrap() *bootstrapv3.Bootstrap {
	o := b.options
	static := &bootstrapv3.Bootstrap_StaticResources{
		Clusters: []*clusterv3.Cluster{b.hubgateCluster()},
	}
	if o.HTTPS != nil {
		static.Listeners = append(static.Listeners, b.httpsListener())
		if o.HTTPS.Insecure != "" {
			static.Listeners = append(static.Listeners, b.insecureHTTPListener())
		}
		static.Clusters = append(static.Clusters, b.backendCluster())
	}
	if o.MQTT != nil {
		static.Listeners = append(static.Listeners, b.mqttListener())
		if o.MQTT.Insecure != "" {
			static.Listeners = append(static.Listeners, b.insecureMQTTListener())
		}
		static.Clusters = append(static.Clusters, b.brokerCluster())
	}
	config := &bootstrapv3.Bootstrap{
		StaticResources: static,
		OverloadManager: &overloadv3.OverloadManager{
			ResourceMonitors: []*overloadv3.ResourceMonitor{{
				Name: "envoy.resource_monitors.global_downstream_max_connections",
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{
					TypedConfig: b.pack(&downstreamv3.DownstreamConnectionsConfig{
						MaxActiveDownstreamConnections: int64(o.MaxConnections),
					}),
				},
			}},
		},
	}
	if o.NodeID != "" || o.NodeCluster != "" {
		config.Node = &corev3.Node{Id: o.NodeID, Cluster: o.NodeCluster}
	}
	if o.Admin != "" {
		config.Admin = &bootstrapv3.Admin{
			Address: endpointAddress(o.Admin),
			// Whoever looks into an overload must still get in.
			IgnoreGlobalConnLimit: true,
		}
	}
	return config
}

// pack wraps an extension's configuration and checks it against the rules
// that Envoy's protos carry.
func (b *builder) pack(m proto.Message) *anypb.Any {
	packed, err := anypb.New(m)
	if err == nil {
		err = b.check(m)
	}
	if b.err == nil {
		b.err = err
	}
	return packed
}

// check gives the first error so far, or what the proto's own rules say of m.
func (b *builder) check(m proto.Message) error {
	if b.err != nil {
		return b.err
	}
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			return fmt.Errorf("envoy configuration: %w", err)
		}
	}
	return nil
}
