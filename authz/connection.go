package authz

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/hubgate/hubgate/provision"
)

// The keys of the gRPC metadata that Envoy adds (initial_metadata of its
// ext_authz filters). They are a contract with Envoy's configuration; each
// occurs at most once.
const (
	keyChain        = "hubgate-chain"        // DER, base64, comma-separated, leaf first
	keyFingerprints = "hubgate-chain-sha256" // %DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256%
	keyConnection   = "hubgate-connection"   // [<epoch>/]%CONNECTION_ID%
	keyCredentials  = "hubgate-credentials"  //nolint:gosec // TCP without TLS: user name and SHA-256 of the password, each in base64url, and a dot between
	keyHub          = "hubgate-hub"          // the listener's hub: ID or name
	keyNode         = "hubgate-node"         // the Envoy's own ID
	keySource       = "hubgate-source"       // %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%
)

// keyHubExtension is the hub hint in context_extensions, for listeners or
// routes of HTTP.
const keyHubExtension = "hub"

// The request headers that are read. The one is removed; so is the other, where
// there is no TLS: with it, it is between device and backend, and is not read.
const (
	headerXFCC          = "x-forwarded-client-cert"
	headerAuthorization = "authorization"
)

// translation is one CheckRequest on its way into the domain.
type translation struct {
	q    question
	md   metadata.MD
	conn provision.Connection
}

// connection says in the domain's words what Envoy asks. It always answers:
// what makes no sense becomes the connection's Problem, the first one found. The
// certificates are left as they are; they are the connection's Evidence.
func (t *translation) connection() provision.Connection {
	t.surroundings()
	t.hubHint()
	if !t.conn.TLS {
		t.conn.Credentials = t.credentials()
	}
	if t.conn.Problem == nil {
		t.conn.Evidence = t
	}
	return t.conn
}

// Read implements provision.Evidence.
func (t *translation) Read(c *provision.Connection) {
	t.certificates()
	c.Leaf, c.Attested, c.Presented, c.Problem = t.conn.Leaf, t.conn.Attested, t.conn.Presented, t.conn.Problem
}

// Attested implements provision.Evidence.
func (t *translation) Attested() (leaf, prints string) {
	return t.q.certificate, t.value(keyFingerprints)
}

// Presented implements provision.Evidence.
func (t *translation) Presented() [2]string {
	return [2]string{t.forwardedHeader(), t.value(keyChain)}
}

// refusal is the connection of a check that is refused with this problem
// whatever else it says, so what is costly to read is left unread.
func (t *translation) refusal(problem provision.Problem) provision.Connection {
	t.surroundings()
	t.conn.Problem = &problem
	return t.conn
}

// surroundings reads all but the certificates and what names the hub.
func (t *translation) surroundings() {
	t.conn.Protocol = t.q.protocol()
	t.conn.SNI = strings.Clone(t.q.sni)
	if t.conn.Authority = t.conn.SNI; t.q.host != t.conn.SNI {
		t.conn.Authority = strings.Clone(t.q.host)
	}
	t.conn.TLS = t.isTLS()
	t.conn.Node = t.value(keyNode)
	t.conn.EnvoyConnection = t.value(keyConnection)
	t.conn.Source = t.source()
}

// problem remembers the first reason to go no further.
func (t *translation) problem(reason provision.Reason, format string, args ...any) {
	if t.conn.Problem == nil {
		t.conn.Problem = &provision.Problem{Reason: reason, Detail: fmt.Sprintf(format, args...)}
	}
}

func (t *translation) misconfigured(format string, args ...any) {
	t.problem(provision.ListenerMisconfigured, format, args...)
}

// value is the value of a metadata key, "" if it is not there. A dash is what
// Envoy's formatters print where there is nothing to print.
func (t *translation) value(key string) string {
	values := t.md[key] // lower-case, as gRPC's keys are: Get would see to that each time
	switch {
	case len(values) > 1:
		t.misconfigured("Envoy sent the metadata %s %d times: list it once in the filter's grpc_service.initial_metadata", key, len(values))
		return ""
	case len(values) == 0 || values[0] == "-":
		return ""
	}
	return values[0]
}

// isTLS reports whether the device connected with TLS. No field says so:
// tls_session is there without TLS too. But Envoy names a principal only on
// TLS, its own (the destination's) as well as the device's. The scheme is the
// device's own word; it can only make the check stricter.
func (t *translation) isTLS() bool {
	q := &t.q
	return q.sni != "" || q.certificate != "" || q.sourcePrincipal != "" || q.destinationPrincipal != "" ||
		t.value(keyFingerprints) != "" || strings.EqualFold(q.scheme, "https")
}

// source is the device's address. Only the metadata takes X-Forwarded-For into
// account, as far as Envoy trusts it; on a Unix socket it holds a path.
func (t *translation) source() netip.Addr {
	for _, s := range [...]string{t.value(keySource), t.q.sourceAddress} {
		if addr, err := netip.ParseAddr(s); err == nil {
			return addr.Unmap().WithZone("")
		}
	}
	return netip.Addr{}
}

// hubHint reads the hub that Envoy's configuration names.
func (t *translation) hubHint() {
	hint, extension := t.value(keyHub), strings.Clone(t.q.hub)
	if hint != "" && extension != "" && hint != extension {
		t.misconfigured("Envoy names two hubs: %q in the metadata %s, %q in context_extensions", hint, keyHub, extension)
		return
	}
	t.conn.HubHint = hint
	if hint == "" {
		t.conn.HubHint = extension
	}
}

// certificates reads who the device is, and what it sent to prove it.
func (t *translation) certificates() {
	t.leaf()
	t.attested()
	if t.conn.Leaf != nil && t.conn.Problem == nil {
		t.presented()
	}
}

// leaf reads the attested certificate. That a device sent none is for the Gate
// to judge; that Envoy withholds it is a mistake in its configuration.
func (t *translation) leaf() {
	if t.q.certificate == "" {
		if t.conn.TLS && !t.sentNone() {
			t.misconfigured("TLS without attributes.source.certificate: set include_peer_certificate: true on the ext_authz filter")
		}
		return
	}
	certs, err := decodePEM(t.q.certificate)
	switch {
	case err != nil:
		t.undecodable("attributes.source.certificate", err)
	case len(certs) != 1:
		t.problem(provision.CertificateMalformed, "attributes.source.certificate holds more than one certificate")
	default:
		t.conn.Leaf = certs[0]
	}
}

// sentNone reports whether a missing certificate means that the device sent
// none. Of a certificate that was sent, Envoy would name the principal or the
// fingerprint; that the latter was asked for shows in the metadata beside it,
// since Envoy leaves out what is empty.
func (t *translation) sentNone() bool {
	if t.q.sourcePrincipal != "" || t.value(keyFingerprints) != "" {
		return false
	}
	return len(t.md.Get(keyFingerprints)) > 0 || t.value(keyNode) != "" || t.value(keyConnection) != ""
}

// undecodable tells of certificates that the device sent and nobody can read.
func (t *translation) undecodable(where string, err error) {
	reason := provision.CertificateMalformed
	if errors.Is(err, errTooLong) {
		reason = provision.CertificateUnsupported
	}
	t.problem(reason, "%s: %v", where, err)
}

func (t *translation) attested() {
	encoded := t.value(keyFingerprints)
	if encoded == "" {
		return
	}
	prints, err := decodeFingerprints(encoded)
	if err != nil {
		t.misconfigured("metadata %s is not what %%DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256%% prints: %v", keyFingerprints, err)
		return
	}
	if t.conn.Leaf != nil && sha256.Sum256(t.conn.Leaf) != prints[0] {
		t.misconfigured("metadata %s begins with another certificate than attributes.source.certificate", keyFingerprints)
		return
	}
	t.conn.Attested = prints
}

// chainTruncated stands for a chain that was too long for the module to pass
// on. The leaf and what the hub knows have to do, as on a resumed session.
const chainTruncated = ";truncated"

// presented reads the chain that came with the leaf: from Envoy's own XFCC
// element, else from the module's metadata, which is not there on a resumed
// session.
func (t *translation) presented() {
	where := "the Chain of " + headerXFCC
	chain, err := t.forwardedChain()
	if chain == nil && err == nil && t.conn.Problem == nil {
		if encoded := t.value(keyChain); encoded != "" && encoded != chainTruncated {
			where = "metadata " + keyChain
			chain, err = decodeList(encoded)
		}
	}
	switch {
	case t.conn.Problem != nil:
	case err != nil:
		t.undecodable(where, err)
	case chain != nil && !bytes.Equal(chain[0], t.conn.Leaf):
		t.misconfigured("%s begins with another certificate than attributes.source.certificate", where)
	default:
		t.conn.Presented = chain
	}
}

// forwardedChain is the Chain of the one XFCC element that Envoy wrote, nil if
// there is none. An element about another certificate was not written by this
// Envoy.
func (t *translation) forwardedChain() ([][]byte, error) {
	header := t.forwardedHeader()
	if header == "" {
		return nil, nil
	}
	const remedy = "set forward_client_cert_details: SANITIZE_SET on the HTTP connection manager, and no uri or dns in set_current_client_cert_details"
	elements, err := parseXFCC(header)
	if err != nil {
		t.misconfigured("%s cannot be parsed (%v): %s", headerXFCC, err, remedy)
		return nil, nil
	}
	if len(elements) != 1 {
		t.misconfigured("%s has %d elements: %s", headerXFCC, len(elements), remedy)
		return nil, nil
	}
	var values [3]string
	for i, key := range [...]string{"Hash", "Cert", "Chain"} {
		if values[i], err = elements[0].get(key); err != nil {
			t.misconfigured("%s: %v: %s", headerXFCC, err, remedy)
			return nil, nil
		}
	}
	hash, cert, chain := values[0], values[1], values[2]
	if fingerprint := sha256.Sum256(t.conn.Leaf); hash != "" && !strings.EqualFold(hash, hex.EncodeToString(fingerprint[:])) ||
		cert != "" && !t.isLeaf(cert) {
		t.misconfigured("%s is about another certificate than attributes.source.certificate: %s", headerXFCC, remedy)
		return nil, nil
	}
	if chain == "" {
		return nil, nil
	}
	return decodePEM(chain)
}

// isLeaf reports whether this is the leaf once more. Envoy writes both alike,
// so that comparing them needs no decoding.
func (t *translation) isLeaf(encoded string) bool {
	if encoded == t.q.certificate {
		return true
	}
	certs, err := decodePEM(encoded)
	return err == nil && len(certs) == 1 && bytes.Equal(certs[0], t.conn.Leaf)
}

// forwardedHeader is the XFCC header, from whichever field the filter's
// encode_raw_headers chooses.
func (t *translation) forwardedHeader() string {
	return eitherHeader(t.q.forwarded, t.q.forwardedRaw)
}

func eitherHeader(value string, raw []string) string {
	if value != "" {
		return value
	}
	return strings.Join(raw, ",")
}
