package record

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
)

// token is the stored form of a token. There are few, so it is JSON, which
// people can read.
type token struct {
	Schema    int       `json:"schema"`
	ID        uuid.UUID `json:"id"`
	Name      string    `json:"name"`
	Role      string    `json:"role"`
	Project   uuid.UUID `json:"project,omitzero"`
	Secret    string    `json:"secret_sha256"`
	CreatedAt time.Time `json:"created_at"`
	RotatedAt time.Time `json:"rotated_at,omitzero"`
}

// EncodeToken returns the stored form of a token.
func EncodeToken(t provision.Token) ([]byte, error) {
	return json.Marshal(token{
		Schema: 1, ID: t.ID, Name: t.Name, Role: t.Role, Project: t.Project,
		Secret: hex.EncodeToString(t.Secret[:]), CreatedAt: t.CreatedAt.UTC(), RotatedAt: t.RotatedAt.UTC(),
	})
}

// DecodeToken reads the stored form of a token, ErrCorrupt if it is none.
func DecodeToken(b []byte) (provision.Token, error) {
	var t token
	if err := json.Unmarshal(b, &t); err != nil {
		return provision.Token{}, fmt.Errorf("%w: token: %w", ErrCorrupt, err)
	}
	secret, err := hex.DecodeString(t.Secret)
	if err != nil || len(secret) != 32 || t.Schema < 1 {
		return provision.Token{}, fmt.Errorf("%w: token %q: no secret", ErrCorrupt, t.Name)
	}
	return provision.Token{
		ID: t.ID, Name: t.Name, Role: t.Role, Project: t.Project, Secret: [32]byte(secret),
		CreatedAt: t.CreatedAt, RotatedAt: t.RotatedAt,
	}, nil
}
