package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
)

// ErrUnknown says that no token has that secret.
var ErrUnknown = errors.New("unknown token")

// freshness is how long what was read of the store counts: so much later, at
// most, a token that another replica rotated or revoked is dead here.
const freshness = time.Second

// Configured is a token of the configuration.
type Configured struct {
	Principal Principal
	// Secret is its hash: see HashSecret.
	Secret [32]byte
}

// Keyring finds who has a secret: among the tokens of the configuration, which
// count even while the store does not answer, and among those of the store,
// which do not: then they are refused with the store's error. It is safe for
// concurrent use.
//
// Secrets are looked up by their SHA-256, so how long that takes tells nothing
// of them.
type Keyring struct {
	store provision.Tokens
	now   func() time.Time

	configured atomic.Pointer[map[[32]byte]Principal]

	mu     sync.Mutex
	stored map[[32]byte]Principal
	readAt time.Time // when reading stored began, or failed
	err    error     // of that reading
}

// NewKeyring makes a Keyring of the store's tokens. now may be nil: time.Now.
func NewKeyring(store provision.Tokens, now func() time.Time) *Keyring {
	if now == nil {
		now = time.Now
	}
	k := &Keyring{store: store, now: now}
	k.Configure(nil)
	return k
}

// Configure replaces the tokens of the configuration, at once.
func (k *Keyring) Configure(tokens []Configured) {
	configured := make(map[[32]byte]Principal, len(tokens))
	for _, t := range tokens {
		configured[t.Secret] = t.Principal
	}
	k.configured.Store(&configured)
}

// Find returns who has the secret: ErrUnknown if nobody has.
func (k *Keyring) Find(ctx context.Context, secret string) (Principal, error) {
	hash, err := HashSecret(secret)
	if err != nil {
		return Principal{}, ErrUnknown // without a look into the store
	}
	if p, ok := (*k.configured.Load())[hash]; ok {
		return p, nil
	}
	// Whoever waits here waits for one reading of the store, which has a limit.
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.now(); k.readAt.IsZero() || now.Sub(k.readAt) >= freshness || now.Before(k.readAt) {
		k.readAt = now
		if k.stored, k.err = k.read(ctx); k.err != nil {
			k.readAt = k.now() // or each who waits would read, one after the other, while the store hangs
		}
	}
	if k.err != nil {
		return Principal{}, k.err
	}
	if p, ok := k.stored[hash]; ok {
		return p, nil
	}
	return Principal{}, ErrUnknown
}

// readTimeout bounds a reading: others wait for it.
const readTimeout = 5 * time.Second

func (k *Keyring) read(ctx context.Context) (map[[32]byte]Principal, error) {
	// Who asked may hang up; what is read is for all.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	tokens, err := k.store.Tokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	stored := make(map[[32]byte]Principal, len(tokens))
	for _, t := range tokens {
		role, err := ParseRole(t.Role)
		if err != nil {
			continue // of a newer hubgate; it may do nothing here
		}
		stored[t.Secret] = Principal{Name: t.Name, Role: role, Project: t.Project, TokenID: t.ID.String()}
	}
	return stored, nil
}

// forget has the next look-up read the store.
func (k *Keyring) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.readAt = time.Time{}
}

// HashSecret is the hash of a secret, in its one form: SHA-256. A secret has to
// be a random UUID, as guessing has to be hopeless, and Scaleway's SDK takes
// nothing else.
func HashSecret(secret string) ([32]byte, error) {
	id, err := uuid.Parse(secret)
	if err != nil || len(secret) != 36 || id.Version() != 4 || id.Variant() != uuid.RFC4122 {
		return [32]byte{}, errors.New("is no random UUID (version 4): make one with uuidgen -r")
	}
	return sha256.Sum256([]byte(id.String())), nil
}

// newSecret draws a secret from the system's source of randomness.
func newSecret() (secret string, hash [32]byte, err error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", hash, fmt.Errorf("no randomness: %w", err)
	}
	secret = id.String()
	return secret, sha256.Sum256([]byte(secret)), nil
}
