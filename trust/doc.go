// Package trust says whether a chain of X.509 certificates leads to one of a
// hub's trust anchors. It does no I/O and knows nothing of hubs or devices.
//
// Only the leaf is attested: Envoy saw its key used. All that came with it is
// untrusted material that can help to build a path and nothing else. Limits
// come before signatures, and signatures are checked from the anchor down, so
// that a forged chain fails at its first check, with a key we trust, instead of
// costing one check per certificate with keys the attacker chose. The path that
// is found then has to pass crypto/x509's own verification.
package trust
