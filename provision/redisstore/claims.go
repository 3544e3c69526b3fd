package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

// claimUsed is the value of a claim that was used.
const claimUsed = "1"

// unclaimed is the error of a creation whose name has no claim.
func unclaimed(used bool) error {
	if used {
		return fmt.Errorf("%w: the name has created a device before", provision.ErrNotClaimed)
	}
	return fmt.Errorf("%w: the name is not on the hub's claim list", provision.ErrNotClaimed)
}

// PutClaims implements provision.Claims.
func (s *Store) PutClaims(ctx context.Context, hub provision.HubID, names []string) (int, error) {
	p := s.partition(hub)
	w, value, err := s.change(ctx, p, scriptClaimPut, []string{p.hub(hub), p.claims(hub)}, claimArgs(names, provision.MaxClaims)...)
	if err != nil {
		return 0, err
	}
	switch w {
	case wordOK:
		return strconv.Atoi(value)
	case wordHub:
		return 0, fmt.Errorf("hub %s: %w", hub, provision.ErrHubChanged)
	case wordFull:
		return 0, fmt.Errorf("hub %s has %s claims, and can have %d: %w", hub, value, provision.MaxClaims, provision.ErrTooManyClaims)
	default:
		return 0, unexpected(w)
	}
}

func claimArgs(names []string, before ...any) []any {
	for _, name := range names {
		before = append(before, name)
	}
	return before
}

// RemoveClaims implements provision.Claims.
func (s *Store) RemoveClaims(ctx context.Context, hub provision.HubID, names []string) (int, error) {
	if len(names) == 0 {
		return 0, nil // without any the script removes all
	}
	return s.removeClaims(ctx, hub, names)
}

// ClearClaims implements provision.Claims. The server frees the list's memory
// in its own time.
func (s *Store) ClearClaims(ctx context.Context, hub provision.HubID) error {
	_, err := s.removeClaims(ctx, hub, nil)
	return err
}

func (s *Store) removeClaims(ctx context.Context, hub provision.HubID, names []string) (int, error) {
	p := s.partition(hub)
	w, value, err := s.change(ctx, p, scriptClaimRemove, []string{p.claims(hub)}, claimArgs(names)...)
	switch {
	case err != nil:
		return 0, err
	case w != wordOK:
		return 0, unexpected(w)
	}
	return strconv.Atoi(value)
}

// ListClaims implements provision.Claims. A cursor is HSCAN's.
func (s *Store) ListClaims(ctx context.Context, hub provision.HubID, cursor string, limit int) ([]provision.Claim, string, error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("page of %d claims", limit)
	}
	var at uint64
	if cursor != "" {
		var err error
		if at, err = strconv.ParseUint(cursor, 10, 64); err != nil {
			return nil, "", errors.New("cursor is none of this list")
		}
	}
	p := s.partition(hub)
	for {
		var reply *redis.ScanCmd
		err := s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
			reply = pipe.HScan(ctx, p.claims(hub), at, "", int64(limit))
		})
		if err != nil {
			return nil, "", err
		}
		fields, next := reply.Val()
		if len(fields) == 0 && next != 0 { // a stretch of empty buckets
			at = next
			continue
		}
		claims := make([]provision.Claim, 0, len(fields)/2)
		for i := 0; i+1 < len(fields); i += 2 {
			claims = append(claims, provision.Claim{Name: fields[i], Used: fields[i+1] == claimUsed})
		}
		if next == 0 {
			return claims, "", nil
		}
		return claims, strconv.FormatUint(next, 10), nil
	}
}

// CountClaims implements provision.Claims.
func (s *Store) CountClaims(ctx context.Context, hub provision.HubID) (int, error) {
	p := s.partition(hub)
	var reply *redis.IntCmd
	err := s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) { reply = pipe.HLen(ctx, p.claims(hub)) })
	if err != nil {
		return 0, err
	}
	return int(reply.Val()), nil
}
