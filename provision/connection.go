package provision

import (
	"net/netip"

	"github.com/hubgate/hubgate/trust"
)

// Protocol is what the device speaks to Envoy.
type Protocol string

// Protocols. TCP is everything that Envoy does not parse, MQTT above all.
const (
	HTTP Protocol = "http"
	TCP  Protocol = "tcp"
)

// Connection is one check: a device that Envoy asks about.
type Connection struct {
	Protocol Protocol
	// TLS tells whether the device connected with TLS.
	TLS bool
	// Leaf is the certificate (DER) whose key Envoy saw used. It alone is
	// attested; it is the device's identity.
	Leaf []byte
	// Presented are the certificates (DER) that came with it. They are
	// untrusted: they can only help to build a path.
	Presented [][]byte
	// Attested are the fingerprints of the chain that the device sent in its
	// handshake, leaf first, as Envoy computed them; they survive TLS
	// resumption.
	Attested []trust.Fingerprint
	// Credentials are what the device brought, nil if nothing. They count without
	// TLS only.
	Credentials *Credentials
	// SNI is the server name of the handshake, "" if there was none.
	SNI string
	// HubHint is the hub (ID or name) that Envoy's configuration names for the
	// listener. It never comes from a request.
	HubHint string
	// Authority is the host of the HTTP request, with or without port.
	Authority string
	// Source is the device's address.
	Source netip.Addr
	// Node and EnvoyConnection name the connection within Envoy.
	Node            string
	EnvoyConnection string
	// Evidence has Leaf, Attested and Presented where the edge has not decoded
	// them yet; nil where they are here.
	Evidence Evidence
	// Problem is why the edge could not make sense of what Envoy sent, or
	// would not; nil in an ordinary check.
	Problem *Problem
	// DryRun explains: it creates, learns, counts and logs nothing, and the
	// decision carries its steps.
	DryRun bool
}

// Evidence is what an edge was told of a device's certificates and has not
// decoded: a device that the Gate recognises needs no decoding. It and its
// strings are used during the check only, by one goroutine.
type Evidence interface {
	// Attested returns the leaf and the fingerprints of the chain, in the words
	// in which Envoy attests them. If either is "", nothing can be recognised.
	Attested() (leaf, prints string)
	// Presented returns all of what the device presented besides its leaf.
	Presented() [2]string
	// Read decodes into Leaf, Attested and Presented, or Problem.
	Read(c *Connection)
}

// Problem is a reason found before the decision began.
type Problem struct {
	Reason Reason
	Detail string // for operators
}
