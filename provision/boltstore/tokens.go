package boltstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
)

// Tokens implements provision.Tokens.
func (s *Store) Tokens(ctx context.Context) (tokens []provision.Token, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		tokens, err = readTokens(tx.Bucket(bucketTokens))
		return err
	})
	return tokens, err
}

func readTokens(b *bbolt.Bucket) (tokens []provision.Token, err error) {
	err = b.ForEach(func(_, v []byte) error {
		t, err := record.DecodeToken(v)
		tokens = append(tokens, t)
		return err
	})
	return tokens, err
}

// CreateToken implements provision.Tokens.
func (s *Store) CreateToken(ctx context.Context, token provision.Token) error {
	return s.createToken(ctx, token, false)
}

// CreateFirstToken implements provision.Tokens.
func (s *Store) CreateFirstToken(ctx context.Context, token provision.Token) error {
	return s.createToken(ctx, token, true)
}

func (s *Store) createToken(ctx context.Context, token provision.Token, first bool) error {
	b, err := record.EncodeToken(token)
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *txn) error {
		if first && t.get(bucketMeta, metaTokens) != nil {
			return fmt.Errorf("a first token: %w", provision.ErrExists)
		}
		all, err := readTokens(t.bucket(bucketTokens))
		switch {
		case err != nil:
			return err
		case t.get(bucketTokens, []byte(token.Name)) != nil:
			return fmt.Errorf("token %q: %w", token.Name, provision.ErrExists)
		case len(all) >= provision.MaxTokens:
			return fmt.Errorf("%w: %d", provision.ErrTooManyTokens, len(all))
		}
		t.put(bucketTokens, []byte(token.Name), b)
		t.put(bucketMeta, metaTokens, []byte("1"))
		return nil
	})
}

// RotateToken implements provision.Tokens.
func (s *Store) RotateToken(ctx context.Context, id uuid.UUID, secret [32]byte, now time.Time) (token provision.Token, err error) {
	err = s.write(ctx, func(t *txn) error {
		if token, err = findToken(t, id); err != nil {
			return err
		}
		token.Secret, token.RotatedAt = secret, now
		b, err := record.EncodeToken(token)
		if err != nil {
			return err
		}
		t.put(bucketTokens, []byte(token.Name), b)
		return nil
	})
	return token, err
}

// DeleteToken implements provision.Tokens.
func (s *Store) DeleteToken(ctx context.Context, id uuid.UUID) (token provision.Token, err error) {
	err = s.write(ctx, func(t *txn) error {
		if token, err = findToken(t, id); err != nil {
			return err
		}
		t.delete(bucketTokens, []byte(token.Name))
		return nil
	})
	return token, err
}

func findToken(t *txn, id uuid.UUID) (provision.Token, error) {
	all, err := readTokens(t.bucket(bucketTokens))
	if err != nil {
		return provision.Token{}, err
	}
	for _, token := range all {
		if token.ID == id {
			return token, nil
		}
	}
	return provision.Token{}, fmt.Errorf("token %s: %w", id, provision.ErrNotFound)
}
