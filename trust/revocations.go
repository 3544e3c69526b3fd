package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
)

// RevocationID names what can be revoked: a certificate by its issuer's key and
// its serial number, or a key with all its certificates. It is a truncated
// SHA-256 of that, so that sets of 100,000 stay small; it never comes from a
// certificate as a whole, whose signature whoever holds it can change.
type RevocationID [16]byte

// The first octet of what is hashed keeps the two kinds apart.
const (
	revokesSerial = 's'
	revokesKey    = 'k'
)

// SerialID is the ID of the certificate that the issuer of that key gave that
// serial number.
func SerialID(issuer KeyHash, serial *big.Int) RevocationID {
	material := make([]byte, 0, 1+len(issuer)+1+32)
	material = append(material, revokesSerial)
	material = append(material, issuer[:]...)
	material = append(material, byte(1+serial.Sign())) // RFC 5280 forbids negative ones, crypto/x509 takes some
	sum := sha256.Sum256(append(material, serial.Bytes()...))
	return RevocationID(sum[:])
}

// KeyID is the ID of a key.
func KeyID(key KeyHash) RevocationID {
	sum := sha256.Sum256(append([]byte{revokesKey}, key[:]...))
	return RevocationID(sum[:])
}

// String returns the ID in lower-case hex.
func (id RevocationID) String() string { return hex.EncodeToString(id[:]) }

// ParseRevocationID reads what String wrote, in either case.
func ParseRevocationID(s string) (RevocationID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(RevocationID{}) {
		return RevocationID{}, fmt.Errorf("%q is no ID of a revocation (32 hexadecimal digits)", cut(s, 80))
	}
	return RevocationID(b), nil
}

// Revocations is a set of what is revoked. It is immutable; nil is the empty
// set.
type Revocations struct{ ids map[RevocationID]struct{} }

// NewRevocations returns the set of all IDs given, nil if there are none.
func NewRevocations(ids ...[]RevocationID) *Revocations {
	n := 0
	for _, some := range ids {
		n += len(some)
	}
	if n == 0 {
		return nil
	}
	r := &Revocations{make(map[RevocationID]struct{}, n)}
	for _, some := range ids {
		for _, id := range some {
			r.ids[id] = struct{}{}
		}
	}
	return r
}

// Len is how many IDs there are.
func (r *Revocations) Len() int {
	if r == nil {
		return 0
	}
	return len(r.ids)
}

// Any reports whether one of the IDs is revoked.
func (r *Revocations) Any(ids []RevocationID) bool {
	if r == nil {
		return false
	}
	for _, id := range ids {
		if _, ok := r.ids[id]; ok {
			return true
		}
	}
	return false
}

// Without returns a Bundle that trusts the same, except what is revoked: no path
// goes through it. Verdicts of the Bundle it was made from are void for it.
func (b *Bundle) Without(revoked *Revocations) *Bundle {
	without := *b
	without.generation = generations.Add(1)
	without.revoked = revoked
	return &without
}

// revocation says what is revoked of the certificate as that issuer signed it.
func (b *Bundle) revocation(n, issuer *node) *Error {
	switch {
	case b.revoked == nil:
		return nil
	case b.revoked.Any([]RevocationID{SerialID(issuer.key, n.cert.SerialNumber)}):
		return n.fail(Revoked, "certificate %s, serial number %s of issuer %s, is revoked",
			subject(n.cert), showSerial(n.cert), subject(issuer.cert))
	case b.revoked.Any([]RevocationID{KeyID(n.key)}):
		return n.fail(Revoked, "the key of certificate %s (SHA-256 %s) is revoked", subject(n.cert), n.key)
	}
	return nil
}

// showSerial shows a serial number, which may have any length, as tools do.
func showSerial(c *x509.Certificate) string {
	return cut(fmt.Sprintf("%X", c.SerialNumber), shownValue)
}

// RevocationIDs are those by which the path can be revoked: of all its
// certificates and keys but the anchor's, which its hub no longer trusts once it
// is removed.
func (p Path) RevocationIDs() []RevocationID {
	var ids []RevocationID
	for i := range len(p.certs) - 1 {
		ids = append(ids, SerialID(KeyHashOf(p.certs[i+1]), p.certs[i].SerialNumber), KeyID(KeyHashOf(p.certs[i])))
	}
	return ids
}

// Issuers are the keys that signed the path's certificates, nearest to the leaf
// first.
func (p Path) Issuers() []KeyHash {
	var keys []KeyHash
	for _, c := range p.certs[min(1, len(p.certs)):] {
		keys = append(keys, KeyHashOf(c))
	}
	return keys
}
