package provision

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// MaxTokens bounds the tokens of a store: all are read at once.
const MaxTokens = 200

// ErrTooManyTokens says that a store has MaxTokens.
var ErrTooManyTokens = errors.New("too many tokens")

// Token lets who knows its secret administer. The secret itself is kept
// nowhere.
type Token struct {
	ID uuid.UUID
	// Name is unique.
	Name string
	// Role is viewer, operator or admin; see package admin/access.
	Role string
	// Project limits the token to the hubs of one project. Zero: every project.
	Project uuid.UUID
	// Secret is the SHA-256 of the secret: a random UUID of 122 bits, which
	// needs no slow hash.
	Secret    [32]byte
	CreatedAt time.Time
	// RotatedAt is when the token got this secret, if not its first.
	RotatedAt time.Time
}

// Tokens keeps tokens, for all hubs. Errors are ErrUnavailable and
// ErrStoreChanged besides those named.
type Tokens interface {
	// Tokens returns all tokens, by name.
	Tokens(ctx context.Context) ([]Token, error)
	// CreateToken stores a new token: ErrExists if its name is taken,
	// ErrTooManyTokens.
	CreateToken(ctx context.Context, t Token) error
	// CreateFirstToken stores a token if the store never had one, not even one
	// that was deleted since; otherwise ErrExists.
	CreateFirstToken(ctx context.Context, t Token) error
	// RotateToken gives a token another secret: ErrNotFound. The old one is
	// dead when it returns.
	RotateToken(ctx context.Context, id uuid.UUID, secret [32]byte, now time.Time) (Token, error)
	// DeleteToken deletes a token and returns what it was: ErrNotFound.
	DeleteToken(ctx context.Context, id uuid.UUID) (Token, error)
}
