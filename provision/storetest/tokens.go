package storetest

import (
	"cmp"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
)

func newToken() provision.Token {
	t := provision.Token{
		ID: uuid.New(), Name: "token-" + randomHex(8), Role: "operator", Project: uuid.New(),
		CreatedAt: time.Now().UTC().Round(0),
	}
	_, _ = rand.Read(t.Secret[:]) // never fails
	return t
}

// testTokens is the only test that makes tokens: they belong to no hub.
func testTokens(t *testing.T, f Fixture) {
	ctx, s, other := t.Context(), f.Store, f.replica(t)
	find := func(id uuid.UUID) *provision.Token {
		t.Helper()
		all, err := other.Tokens(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(all, func(a, b provision.Token) int { return cmp.Compare(a.Name, b.Name) }) {
			t.Error("tokens are not listed by name")
		}
		for _, token := range all {
			if token.ID == id {
				return &token
			}
		}
		return nil
	}

	first := newToken()
	if err := s.CreateFirstToken(ctx, first); err != nil && !errors.Is(err, provision.ErrExists) {
		t.Fatal(err)
	}
	a := newToken()
	if err := s.CreateToken(ctx, a); err != nil {
		t.Fatal(err)
	}
	if got := find(a.ID); got == nil || *got != a {
		t.Fatalf("created %+v, found %+v", a, got)
	}
	double := newToken()
	double.Name = a.Name
	if err := other.CreateToken(ctx, double); !errors.Is(err, provision.ErrExists) {
		t.Errorf("a second token of one name: %v", err)
	}

	b := newToken()
	now := a.CreatedAt.Add(time.Hour)
	rotated, err := other.RotateToken(ctx, a.ID, b.Secret, now)
	want := a
	want.Secret, want.RotatedAt = b.Secret, now
	if got := find(a.ID); err != nil || rotated != want || got == nil || *got != want {
		t.Errorf("rotated to %+v, %v; found %+v, want %+v", rotated, err, got, want)
	}
	// Of two that rotate at once, one secret is left, and both are told the truth
	// about a token that is there.
	var group sync.WaitGroup
	for _, handle := range []Store{s, other} {
		group.Go(func() {
			for range 10 {
				if _, err := handle.RotateToken(ctx, a.ID, newToken().Secret, now); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()

	if _, err := s.RotateToken(ctx, b.ID, b.Secret, now); !errors.Is(err, provision.ErrNotFound) {
		t.Errorf("rotation of no token: %v", err)
	}
	if _, err := s.DeleteToken(ctx, b.ID); !errors.Is(err, provision.ErrNotFound) {
		t.Errorf("deletion of no token: %v", err)
	}
	if gone, err := s.DeleteToken(ctx, a.ID); err != nil || gone.Name != a.Name || find(a.ID) != nil {
		t.Errorf("deleted %+v, %v", gone, err)
	}
	if _, err := s.DeleteToken(ctx, first.ID); err != nil && !errors.Is(err, provision.ErrNotFound) {
		t.Error(err)
	}
	// There was a token once, so no first one comes again.
	if err := s.CreateFirstToken(ctx, newToken()); !errors.Is(err, provision.ErrExists) {
		t.Errorf("another first token: %v", err)
	}

	var made []provision.Token
	for {
		token := newToken()
		err := s.CreateToken(ctx, token)
		if errors.Is(err, provision.ErrTooManyTokens) {
			break
		}
		if err != nil || len(made) >= provision.MaxTokens {
			t.Fatalf("after %d tokens: %v", len(made), err)
		}
		made = append(made, token)
	}
	if all, err := s.Tokens(ctx); err != nil || len(all) != provision.MaxTokens {
		t.Errorf("%d tokens, %v", len(all), err)
	}
	for _, token := range made {
		if _, err := s.DeleteToken(ctx, token.ID); err != nil {
			t.Fatal(err)
		}
	}
}
