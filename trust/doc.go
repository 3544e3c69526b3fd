// Package trust decides whether a device certificate chains to a hub's trust
// anchors. It knows X.509 and nothing else: no hubs, no devices, no I/O.
//
// A [Chain] is what a connection brought: the leaf, whose key the TLS server saw
// used, and presented certificates that nobody vouches for. A [Bundle] is what
// a hub trusts: anchors, and intermediates known to chain to them. Verifying one
// under the other yields a [Path] or an [Error] that says what broke it.
//
// # Why not just x509.Verify
//
// Go builds chains upward from the leaf, so that every signature a stranger
// presents is checked with a key the same stranger chose: a hostile chain costs
// up to 1.4 s. Here the order is reversed:
//
//	ParseChain  limits on number, size, keys, algorithms; no signature yet
//	names       what can matter to the leaf, upward by issuer names, linear
//	signatures  from the anchors down, each edge at most once, at most
//	            MaxSignatureChecks: a key is used only after it is trusted,
//	            so a forged chain fails at its first check
//	policy      the path found: times, usages, constraints
//	x509.Verify over exactly this path, as the last word
//
// Known intermediates were verified when the Bundle was made and cost nothing.
// The worst that a stranger can send costs less than 2 ms under a P-256 anchor
// (BenchmarkHostile), a chain of another vendor 20 µs.
//
// The presented certificates can only help: nothing that is added to them makes
// a chain valid that is not signed under an anchor, and what is unrelated to the
// leaf by names is ignored as long as it parses. So is, unless the chain fails for
// lack of it, a certificate whose key or algorithm is not accepted.
//
// # Differences from RFC 5280, section 6
//
// Anchors are certificates, and their own validity, usage and constraints count.
// Extended key usages nest, as in crypto/x509. A notBefore may be
// NotBeforeLeeway ahead, as devices are born minutes before they connect. A path
// through constraints that crypto/x509 does not enforce (directoryName and
// others) is refused. Revocation is not looked at.
package trust
