package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
)

// FirstName is the name of the token that the first start makes.
const FirstName = "admin"

// ErrInvalid marks what a caller has to change; Problem says how.
var ErrInvalid = errors.New("invalid")

// Problem is the text of an error that wraps ErrInvalid, without that word.
func Problem(err error) string { return strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": ") }

// TokensConfig is what Tokens are made of. Store and Keyring are required.
type TokensConfig struct {
	Store   provision.Tokens
	Keyring *Keyring
	// Logger gets one line per act. Nil: slog.Default.
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Tokens are the stored tokens, as administrators of all projects manage them.
// What it does is in force here when it returns, and within a second or little
// more on other replicas.
type Tokens struct {
	store   provision.Tokens
	keyring *Keyring
	log     *slog.Logger
	now     func() time.Time
}

// NewTokens makes Tokens.
func NewTokens(c TokensConfig) (*Tokens, error) {
	if c.Store == nil || c.Keyring == nil {
		return nil, errors.New("access: tokens need a store and a keyring")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Tokens{store: c.Store, keyring: c.Keyring, log: c.Logger, now: c.Now}, nil
}

// List returns all tokens, by name.
func (t *Tokens) List(ctx context.Context, p Principal) ([]provision.Token, error) {
	if err := p.NeedEverywhere(Admin); err != nil {
		return nil, err
	}
	return t.store.Tokens(ctx)
}

var tokenName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

// CheckName says what is wrong with a token's name.
func CheckName(name string) error {
	if !tokenName.MatchString(name) {
		return fmt.Errorf("%q is no name: write 1 to 64 of a-z, 0-9, dot, dash, underscore, with a letter or digit at both ends", name)
	}
	return nil
}

// Create makes a token and returns its secret, which nobody can tell later.
func (t *Tokens) Create(ctx context.Context, p Principal, name string, role Role, project uuid.UUID) (token provision.Token, secret string, err error) {
	if err := p.NeedEverywhere(Admin); err != nil {
		return token, "", err
	}
	if err := CheckName(name); err != nil {
		return token, "", fmt.Errorf("%w: name: %w", ErrInvalid, err)
	}
	token, secret, err = t.fresh(name, role, project)
	if err != nil {
		return token, "", err
	}
	if err := t.store.CreateToken(ctx, token); err != nil {
		return token, "", err
	}
	t.acted(ctx, p, "token created", token)
	return token, secret, nil
}

func (t *Tokens) fresh(name string, role Role, project uuid.UUID) (provision.Token, string, error) {
	secret, hash, err := newSecret()
	if err != nil {
		return provision.Token{}, "", err
	}
	return provision.Token{
		ID: uuid.New(), Name: name, Role: role.String(), Project: project, Secret: hash, CreatedAt: t.now().UTC(),
	}, secret, nil
}

// Rotate gives a token another secret and returns it. The old one is dead.
func (t *Tokens) Rotate(ctx context.Context, p Principal, id uuid.UUID) (provision.Token, string, error) {
	if err := p.NeedEverywhere(Admin); err != nil {
		return provision.Token{}, "", err
	}
	secret, hash, err := newSecret()
	if err != nil {
		return provision.Token{}, "", err
	}
	token, err := t.store.RotateToken(ctx, id, hash, t.now().UTC())
	if err != nil {
		return token, "", err
	}
	t.acted(ctx, p, "token rotated", token)
	return token, secret, nil
}

// Revoke deletes a token.
func (t *Tokens) Revoke(ctx context.Context, p Principal, id uuid.UUID) error {
	if err := p.NeedEverywhere(Admin); err != nil {
		return err
	}
	token, err := t.store.DeleteToken(ctx, id)
	if err != nil {
		return err
	}
	t.acted(ctx, p, "token revoked", token)
	return nil
}

func (t *Tokens) acted(ctx context.Context, p Principal, act string, token provision.Token) {
	t.keyring.forget()
	t.log.InfoContext(ctx, "administrator's act", "act", act, "by", p.Name,
		"token", token.Name, "token_id", token.ID.String(), "role", token.Role)
}

// First makes an admin token if the store never had a token, and writes its
// secret into the file, readable by its owner only. It reports whether it did.
// A file that is there already, because a start was cut short, is used if it
// holds a fit secret, and nothing else is overwritten.
func (t *Tokens) First(ctx context.Context, file string) (made bool, err error) {
	all, err := t.store.Tokens(ctx)
	if err != nil || len(all) > 0 {
		return false, err
	}
	token, secret, err := t.fresh(FirstName, Admin, uuid.Nil)
	if err != nil {
		return false, err
	}
	// The file comes first: a token that nobody can read would be the first one
	// for ever.
	wrote, err := writeSecret(file, secret)
	if err != nil {
		return false, err
	}
	if !wrote {
		if token.Secret, err = readSecret(file); err != nil {
			return false, fmt.Errorf("%s: %w, or remove the file", file, err)
		}
	}
	switch err := t.store.CreateFirstToken(ctx, token); {
	case errors.Is(err, provision.ErrExists):
		// There was a token once, or another replica was faster.
		if wrote {
			return false, os.Remove(file)
		}
		return false, nil
	case err != nil:
		return false, err
	}
	t.keyring.forget()
	return true, nil
}

// readSecret reads the secret of a file that nobody else can read.
func readSecret(file string) (hash [32]byte, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return hash, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return hash, fmt.Errorf("others may read it (mode %#o): make it 0600", info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return hash, err
	}
	return HashSecret(strings.TrimSpace(string(text)))
}

// writeSecret writes a new file, whole or not at all; false if it is there.
func writeSecret(file, secret string) (bool, error) {
	temporary, err := os.CreateTemp(filepath.Dir(file), ".hubgate-token-*") // mode 0600
	if err != nil {
		return false, err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.WriteString(secret + "\n")
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err != nil {
		return false, err
	}
	switch err := os.Link(temporary.Name(), file); {
	case errors.Is(err, fs.ErrExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}
