package envoy

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// maxReply bounds hubgate's answer to a check, in bytes.
	maxReply = 64 << 10
	// checkRetries is how often a check is sent to another replica when the
	// first does not answer it: it never got there, or its connection broke.
	// Checks are idempotent.
	checkRetries = 2
	// otherHostTries is how often a retry picks a replica at random until it is
	// another one: few would send it back to the one that has just failed.
	otherHostTries = 16
	// retryPause bounds the random pause before a retry; Envoy's default is a
	// second.
	retryPause = 25 * time.Millisecond
)

// authzService is the call to hubgate that both listeners make. The metadata
// is part of hubgate's contract: what Envoy knows of the connection, but has
// no place for in a CheckRequest.
func (b *builder) authzService(hub string, more ...*corev3.HeaderValue) *corev3.GrpcService {
	node := b.options.NodeID
	if node == "" {
		node = "%HOSTNAME%"
	}
	connection := "%CONNECTION_ID%"
	if b.options.Module != nil {
		connection = "%FILTER_STATE(hubgate.epoch:PLAIN)%/" + connection
	}
	metadata := []*corev3.HeaderValue{
		{Key: "hubgate-chain-sha256", Value: "%DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256%"},
		{Key: "hubgate-connection", Value: connection},
		{Key: "hubgate-node", Value: node},
		// A CheckRequest's source is the peer of the connection; this one is
		// the device even behind proxies that speak HTTP.
		{Key: "hubgate-source", Value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
	}
	if hub != "" {
		metadata = append(metadata, &corev3.HeaderValue{Key: "hubgate-hub", Value: hub})
	}
	metadata = append(metadata, more...)
	return &corev3.GrpcService{
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
			ClusterName:             hubgateName,
			MaxReceiveMessageLength: wrapperspb.UInt32(maxReply),
			SkipEnvoyHeaders:        true,
		}},
		Timeout:         durationpb.New(b.options.Hubgate.CheckTimeout),
		InitialMetadata: metadata,
		RetryPolicy: &corev3.RetryPolicy{
			RetryBackOff: &corev3.BackoffStrategy{
				BaseInterval: durationpb.New(retryPause),
				// Envoy 1.40 takes this for the time limit of one try, too.
				MaxInterval: durationpb.New(max(retryPause, b.options.Hubgate.CheckTimeout)),
			},
			NumRetries: wrapperspb.UInt32(checkRetries),
			RetryOn:    "connect-failure,refused-stream,reset",
			RetryHostPredicate: []*corev3.RetryPolicy_RetryHostPredicate{{
				Name: "envoy.retry_host_predicates.previous_hosts",
				ConfigType: &corev3.RetryPolicy_RetryHostPredicate_TypedConfig{
					TypedConfig: b.pack(&previoushostsv3.PreviousHostsPredicate{}),
				},
			}},
			HostSelectionRetryMaxAttempts: otherHostTries,
		},
	}
}
