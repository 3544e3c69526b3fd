package access_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
)

// site is a store whose tokens can be cut off, with a clock.
type site struct {
	provision.Tokens
	keyring *access.Keyring
	tokens  *access.Tokens
	now     time.Time
	cut     bool
	reads   int
}

func (s *site) readTokens(ctx context.Context) ([]provision.Token, error) {
	s.reads++
	if s.cut {
		return nil, provision.ErrUnavailable
	}
	return s.Tokens.Tokens(ctx)
}

// cuttable is the site as a store.
type cuttable struct {
	*site
}

// Tokens implements provision.Tokens.
func (c cuttable) Tokens(ctx context.Context) ([]provision.Token, error) { return c.readTokens(ctx) }

func newSite(t *testing.T) *site {
	t.Helper()
	store, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{Tokens: store, now: time.Now()}
	s.keyring = access.NewKeyring(cuttable{s}, func() time.Time { return s.now })
	if s.tokens, err = access.NewTokens(access.TokensConfig{
		Store: cuttable{s}, Keyring: s.keyring, Logger: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) find(t *testing.T, secret string) string {
	t.Helper()
	p, err := s.keyring.Find(t.Context(), secret)
	switch {
	case errors.Is(err, access.ErrUnknown):
		return "unknown"
	case errors.Is(err, provision.ErrUnavailable):
		return "unavailable"
	case err != nil:
		t.Fatal(err)
	}
	return p.Name
}

// TestFresh holds how long what was read counts: another replica's change is
// known a second later, and no flood makes the store be read more often.
func TestFresh(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	token, secret, err := s.tokens.Create(t.Context(), access.Local(), "ci", access.Operator, uuid.Nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.find(t, secret); got != "ci" {
		t.Fatal(got)
	}
	// As another replica would.
	if _, err := s.DeleteToken(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	before := s.reads
	for range 1000 {
		if got := s.find(t, uuid.NewString()); got != "unknown" {
			t.Fatal(got)
		}
	}
	if s.reads != before {
		t.Errorf("%d reads for a flood of wrong secrets within a second", s.reads-before)
	}
	s.now = s.now.Add(time.Second)
	if got := s.find(t, secret); got != "unknown" {
		t.Errorf("a second after its revocation, the token is %s", got)
	}
	if s.reads != before+1 {
		t.Errorf("%d reads", s.reads-before)
	}
}

// TestStoreAway holds that stored tokens fail closed while the store does not
// answer, once what was read is too old, and that configured ones go on.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, stored, err := s.tokens.Create(t.Context(), access.Local(), "stored", access.Admin, uuid.Nil)
	if err != nil {
		t.Fatal(err)
	}
	configured := uuid.NewString()
	hash, err := access.HashSecret(strings.ToUpper(configured))
	if err != nil {
		t.Fatal(err)
	}
	s.keyring.Configure([]access.Configured{{Principal: access.Principal{Name: "configured", Role: access.Admin}, Secret: hash}})
	if got := s.find(t, stored); got != "stored" {
		t.Fatal(got)
	}
	s.cut, s.now = true, s.now.Add(time.Second)
	for _, tt := range [][2]string{{stored, "unavailable"}, {uuid.NewString(), "unavailable"}, {configured, "configured"}, {"x", "unknown"}} {
		if got := s.find(t, tt[0]); got != tt[1] {
			t.Errorf("%s: %s, want %s", tt[0], got, tt[1])
		}
	}
	s.cut, s.now = false, s.now.Add(time.Second)
	if got := s.find(t, stored); got != "stored" {
		t.Error(got)
	}
	s.keyring.Configure(nil)
	if got := s.find(t, configured); got != "unknown" {
		t.Errorf("a token that is no longer configured is %s", got)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{
		"", "hunter2", uuid.Nil.String(), uuid.NewSHA1(uuid.Nil, []byte("x")).String(), uuid.Must(uuid.NewV7()).String(),
		"{" + uuid.NewString() + "}", "urn:uuid:" + uuid.NewString(), strings.ReplaceAll(uuid.NewString(), "-", ""), uuid.NewString() + "\n",
	} {
		if _, err := access.HashSecret(secret); err == nil {
			t.Errorf("%q is a secret", secret)
		}
	}
}

// TestFirst makes the first token, whatever a start that was cut short left.
func TestFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "hubgate.token")
	first := func() bool {
		t.Helper()
		made, err := s.tokens.First(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	secret := func() string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	// What somebody keeps there is not overwritten.
	if err := os.WriteFile(file, []byte("my notes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if made, err := s.tokens.First(t.Context(), file); err == nil || made || secret() != "my notes" {
		t.Errorf("made %v, %v; the file holds %q", made, err, secret())
	}
	// What a start wrote that was then cut short is used.
	left := uuid.NewString()
	if err := os.WriteFile(file, []byte(left+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if made, err := s.tokens.First(t.Context(), file); err == nil || made {
		t.Errorf("a secret that everybody can read: made %v, %v", made, err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if !first() || secret() != left || s.find(t, left) != access.FirstName {
		t.Errorf("the file holds %q, which is of %s", secret(), s.find(t, left))
	}
	if first() {
		t.Error("made twice")
	}
	all, err := s.tokens.List(t.Context(), access.Local())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if err := s.tokens.Revoke(t.Context(), access.Local(), all[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// A revoked token does not come back, and leaves no secret behind that looks
	// like one.
	if first() {
		t.Error("made again after it was revoked")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a secret of no token was left in the file")
	}
}

type tokenStore = provision.Tokens

// hanging is a store whose answers take long, and are none.
type hanging struct {
	tokenStore
	time  time.Time
	reads int
}

func (h *hanging) Tokens(context.Context) ([]provision.Token, error) {
	h.reads++
	h.time = h.time.Add(5 * time.Second)
	return nil, provision.ErrUnavailable
}

// TestKeyringHanging: those who wait for a store that hangs wait for one reading,
// not each for one of its own.
func TestKeyringHanging(t *testing.T) {
	t.Parallel()
	store := &hanging{time: time.Now()}
	k := access.NewKeyring(store, func() time.Time { return store.time })
	for range 3 {
		if _, err := k.Find(t.Context(), uuid.NewString()); err == nil {
			t.Fatal("a secret is known though no token could be read")
		}
	}
	if store.reads != 1 {
		t.Errorf("the store was read %d times, want once", store.reads)
	}
}
