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

// Digest is a SHA-256 of what an edge was told, as it was told.
type Digest [32]byte

// Evidence is what an edge was told of a device's certificates and has not
// decoded: a device that the Gate recognises needs no decoding. It is used
// during the check only, by one goroutine.
type Evidence interface {
	// Identity is a digest of everything in the check that its outcome depends
	// on, time and state apart, except what the device presented besides its
	// leaf. Zero: the chain is not attested, so nothing can be recognised by it.
	Identity() Digest
	// Presented is a digest of identity and of what the device presented.
	Presented(identity Digest) Digest
	// Read decodes into Leaf, Attested and Presented, or Problem.
	Read(c *Connection)
}

// Problem is a reason found before the decision began.
type Problem struct {
	Reason Reason
	Detail string // for operators
}
