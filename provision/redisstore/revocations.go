package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// Revocations implements provision.Store.
func (s *Store) Revocations(ctx context.Context, hub provision.HubID) (provision.Revocations, error) {
	fields, err := s.revoked(ctx, hub)
	if err != nil {
		return provision.Revocations{}, err
	}
	return record.DecodeRevocations(fields)
}

func (s *Store) revoked(ctx context.Context, hub provision.HubID) (map[string][]byte, error) {
	p := s.partition(hub)
	var reply *redis.MapStringStringCmd
	err := s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		reply = pipe.HGetAll(ctx, p.revoked(hub))
	})
	if err != nil {
		return nil, err
	}
	fields := make(map[string][]byte, len(reply.Val()))
	for field, value := range reply.Val() {
		fields[field] = []byte(value)
	}
	return fields, nil
}

// CRL implements provision.Store.
func (s *Store) CRL(ctx context.Context, hub provision.HubID, issuer trust.KeyHash) ([]byte, error) {
	p := s.partition(hub)
	var reply *redis.StringCmd
	err := s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		reply = pipe.HGet(ctx, p.crls(hub), string(issuer[:]))
	})
	if err != nil {
		return nil, err
	}
	der, err := found(reply)
	return []byte(der), err
}

// UpdateRevocations implements provision.HubRegistry.
func (s *Store) UpdateRevocations(ctx context.Context, id provision.HubID, change func(*provision.Revocations) error, event func(provision.Hub) provision.Event) error {
	for {
		w, err := s.tryUpdateRevocations(ctx, id, change, event)
		switch {
		case err != nil:
			return err
		case w == wordOK:
			return nil
		case w == wordGone:
			return provision.ErrNotFound
		case w != wordConflict:
			return unexpected(w)
		}
		if err := s.again(ctx); err != nil {
			return err
		}
	}
}

func (s *Store) tryUpdateRevocations(ctx context.Context, id provision.HubID, change func(*provision.Revocations) error, event func(provision.Hub) provision.Event) (word, error) {
	h, rec, err := s.hub(ctx, id)
	if err != nil {
		return "", err
	}
	if h.Deleting {
		return "", beingDeleted(h)
	}
	fields, err := s.revoked(ctx, id)
	if err != nil {
		return "", err
	}
	edit, err := record.EditRevocations(fields, change)
	if err != nil {
		return "", err
	}
	h.Version++
	h.Revocations++
	after, err := record.EncodeHub(h)
	if err != nil {
		return "", err
	}
	e, err := encodeEvent(event(h))
	if err != nil {
		return "", err
	}
	const revoked, crls = 5, 6 // KEYS of the script
	args := []any{rec, after, h.Version, e, encodeChange(provision.RevocationsChanged, id, provision.DeviceID{})}
	for field, value := range edit.Fields {
		args = append(args, revoked, field, value)
	}
	for issuer, list := range edit.Lists {
		args = append(args, crls, string(issuer[:]), list)
	}
	p := s.partition(id)
	w, _, err := s.change(ctx, p, scriptRevoke, []string{p.hub(id), p.revoked(id), p.crls(id)}, args...)
	return w, err
}
