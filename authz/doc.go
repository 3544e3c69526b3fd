// Package authz answers Envoy's external authorization checks
// (envoy.service.auth.v3 over gRPC) with the decisions of provision.Gate.
//
// It exists so that Envoy's protobufs stop here: connection.go turns a
// CheckRequest and its gRPC metadata into a provision.Connection, reply.go
// turns the provision.Decision into a CheckResponse, and nobody else sees
// either message. It decides nothing itself. What it cannot make sense of
// becomes a provision.Problem, which the Gate counts and logs like any other
// outcome, so that every check has one line in the log.
//
// On the same port Envoys without hubgate's library send their access logs
// (envoy.service.accesslog.v3), which tell that a connection is still open, or
// has closed; accesslog.go turns an entry into the session it is about.
//
// # What is believed
//
// Whoever reaches the port can say what it likes, so the port is for Envoy
// alone: mTLS or a Unix socket with a tight mode. Of what Envoy sends, the
// device's identity is attributes.source.certificate and nothing else. The
// chain next to it is untrusted material for building a path. Request headers
// are the device's own words; the one header read is the
// x-forwarded-client-cert that Envoy itself wrote, and only after it proved to
// be about the same certificate.
//
// # What Envoy leaves unsaid
//
// Seen with Envoy 1.40, and the fixtures in testdata hold it fast:
//
//   - tls_session is there on a plaintext connection too, empty. That the
//     connection is TLS follows from SNI, from the principals, from the
//     scheme or from a certificate.
//   - initial_metadata whose value comes out empty is not sent at all, so a
//     device without a certificate has no hubgate-chain-sha256, just like a
//     listener that never asked for it. The other hubgate- keys tell the two
//     apart.
//   - source.address is the peer of the connection, whatever X-Forwarded-For
//     and the trusted hops say. %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% in
//     hubgate-source knows better.
package authz
