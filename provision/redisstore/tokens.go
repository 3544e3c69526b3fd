package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
)

// Tokens implements provision.Tokens. A server that is not the one that was
// opened has no tokens to tell of: ErrStoreChanged.
func (s *Store) Tokens(ctx context.Context) ([]provision.Token, error) {
	var all map[string]string
	err := s.call(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		tokens, id := pipe.HGetAll(ctx, keyTokens), pipe.HGet(ctx, keyStore, "id")
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if id.Val() != s.id {
			return provision.ErrStoreChanged
		}
		all = tokens.Val()
		return nil
	})
	if err != nil {
		return nil, err
	}
	delete(all, "")
	tokens := make([]provision.Token, 0, len(all))
	for _, text := range all {
		t, err := record.DecodeToken([]byte(text))
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
	}
	slices.SortFunc(tokens, func(a, b provision.Token) int { return cmp.Compare(a.Name, b.Name) })
	return tokens, nil
}

// CreateToken implements provision.Tokens.
func (s *Store) CreateToken(ctx context.Context, t provision.Token) error {
	err := s.setToken(ctx, t.Name, nil, &t, "")
	if errors.Is(err, errTokenChanged) {
		return fmt.Errorf("token %q: %w", t.Name, provision.ErrExists)
	}
	return err
}

// CreateFirstToken implements provision.Tokens.
func (s *Store) CreateFirstToken(ctx context.Context, t provision.Token) error {
	err := s.setToken(ctx, t.Name, nil, &t, "1")
	if errors.Is(err, errTokenChanged) {
		return fmt.Errorf("a first token: %w", provision.ErrExists)
	}
	return err
}

// RotateToken implements provision.Tokens.
func (s *Store) RotateToken(ctx context.Context, id uuid.UUID, secret [32]byte, now time.Time) (provision.Token, error) {
	return s.changeToken(ctx, id, func(t provision.Token) *provision.Token {
		t.Secret, t.RotatedAt = secret, now
		return &t
	})
}

// DeleteToken implements provision.Tokens.
func (s *Store) DeleteToken(ctx context.Context, id uuid.UUID) (provision.Token, error) {
	return s.changeToken(ctx, id, func(provision.Token) *provision.Token { return nil })
}

// errTokenChanged: the record is no longer the one that was looked at.
var errTokenChanged = errors.New("token has changed")

// changeToken replaces a token by what change makes of it, nil to delete it,
// and returns what is stored then, or was last.
func (s *Store) changeToken(ctx context.Context, id uuid.UUID, change func(provision.Token) *provision.Token) (provision.Token, error) {
	for {
		all, err := s.Tokens(ctx)
		if err != nil {
			return provision.Token{}, err
		}
		i := slices.IndexFunc(all, func(t provision.Token) bool { return t.ID == id })
		if i < 0 {
			return provision.Token{}, fmt.Errorf("token %s: %w", id, provision.ErrNotFound)
		}
		was := all[i]
		is := change(was)
		err = s.setToken(ctx, was.Name, &was, is, "")
		switch {
		case errors.Is(err, errTokenChanged):
			if err := pause(ctx, retryPause); err != nil {
				return provision.Token{}, fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
			}
			continue
		case err != nil:
			return provision.Token{}, err
		case is != nil:
			return *is, nil
		}
		return was, nil
	}
}

func (s *Store) setToken(ctx context.Context, name string, was, is *provision.Token, first string) error {
	before, err := encodeToken(was)
	if err != nil {
		return err
	}
	after, err := encodeToken(is)
	if err != nil {
		return err
	}
	w, _, err := s.run(ctx, scriptTokenSet, []string{keyStore, keyTokens}, []any{s.id, name, before, after, provision.MaxTokens, first})
	if err != nil {
		return err
	}
	switch w {
	case wordOK:
		return nil
	case wordStore:
		return provision.ErrStoreChanged
	case wordConflict:
		return errTokenChanged
	case wordFull:
		return fmt.Errorf("%w: %d", provision.ErrTooManyTokens, provision.MaxTokens)
	default:
		return unexpected(w)
	}
}

// encodeToken is the same for the same token, whenever and by whom.
func encodeToken(t *provision.Token) (string, error) {
	if t == nil {
		return "", nil
	}
	b, err := record.EncodeToken(*t)
	return string(b), err
}
