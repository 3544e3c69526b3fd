package provision

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// SecretHash is the SHA-256 of a device's secret; zero if it has none. Secrets are
// made here alone, of 256 random bits, so that there is nothing to guess: a slow
// or salted hash would add nothing, and would cost every check.
type SecretHash [sha256.Size]byte

// NewSecret draws a secret: 43 characters that are safe everywhere. It is for the
// device and whoever sets it up; hubgate keeps its hash.
func NewSecret() (string, SecretHash) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	secret := base64.RawURLEncoding.EncodeToString(random[:])
	return secret, SecretHashOf(secret)
}

// SecretHashOf hashes what a device presents.
func SecretHashOf(secret string) SecretHash { return sha256.Sum256([]byte(secret)) }

// IsZero reports whether there is no secret.
func (h SecretHash) IsZero() bool { return h == SecretHash{} }

// Proves reports whether who presented this knows the device's secret. It takes
// as long whatever differs.
func (h SecretHash) Proves(device SecretHash) bool {
	return subtle.ConstantTimeCompare(h[:], device[:]) == 1 && !device.IsZero()
}

// SecretMark tells the secrets of one device apart, in the record of a session.
type SecretMark [8]byte

// Mark is the hash's mark.
func (h SecretHash) Mark() SecretMark { return SecretMark(h[:8]) }

// IsZero reports whether it is that of no secret.
func (m SecretMark) IsZero() bool { return m == SecretMark{} }
