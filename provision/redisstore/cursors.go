package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

// AppendEvents implements provision.Announcer. It is one round trip.
func (s *Store) AppendEvents(ctx context.Context, partition int, events []provision.Event) error {
	if len(events) == 0 {
		return nil
	}
	args := make([]any, len(events))
	for i, e := range events {
		encoded, err := encodeEvent(e)
		if err != nil {
			return err
		}
		args[i] = encoded
	}
	w, _, err := s.change(ctx, s.parts[partition], scriptEventAppend, nil, args...)
	if err == nil && w != wordOK {
		err = unexpected(w)
	}
	return err
}

// LastEvents implements provision.Cursors. It is one round trip to each server.
func (s *Store) LastEvents(ctx context.Context) ([]uint64, error) {
	replies := make([]*redis.StringCmd, len(s.parts))
	err := s.call(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i, p := range s.parts {
			replies[i] = pipe.HGet(ctx, p.state(), fieldOut)
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	last := make([]uint64, len(replies))
	for i, reply := range replies {
		switch n, err := reply.Uint64(); {
		case err == nil:
			last[i] = n
		case !errors.Is(err, redis.Nil):
			return nil, fmt.Errorf("last event of partition %d: %w: %s", i, provision.ErrUnavailable, err.Error())
		}
	}
	return last, nil
}

// ClaimCursor implements provision.Cursors. It is one round trip.
func (s *Store) ClaimCursor(ctx context.Context, sink string, partition int, owner string, lease time.Duration) (provision.Cursor, error) {
	p := s.parts[partition]
	w, value, err := s.change(ctx, p, scriptCursorClaim, []string{p.cursor(sink), p.owner(sink)}, owner, milliseconds(lease))
	switch {
	case err != nil:
		return provision.Cursor{}, err
	case w == wordHeld:
		left, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return provision.Cursor{}, fmt.Errorf("cursor of %s in partition %d: %w", sink, partition, err)
		}
		return provision.Cursor{}, &provision.HeldError{For: time.Duration(max(left, 0)) * time.Millisecond}
	case w != wordOK:
		return provision.Cursor{}, unexpected(w)
	}
	fence, seq, _ := strings.Cut(value, " ")
	c, err := parseCursor(seq)
	if err == nil {
		c.Fence, err = strconv.ParseUint(fence, 10, 64)
	}
	if err != nil {
		return provision.Cursor{}, fmt.Errorf("cursor of %s in partition %d: %w", sink, partition, err)
	}
	return c, nil
}

// parseCursor reads a cursor's seq; "" is a new one.
func parseCursor(seq string) (provision.Cursor, error) {
	if seq == "" {
		return provision.Cursor{New: true}, nil
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	return provision.Cursor{Seq: n}, err
}

// milliseconds rounds up: no lease that is meant to hold is 0.
func milliseconds(d time.Duration) int64 {
	return (max(d, 0) + time.Millisecond - 1).Milliseconds()
}

// SaveCursor implements provision.Cursors. It is one round trip.
func (s *Store) SaveCursor(ctx context.Context, sink string, partition int, owner string, c provision.Cursor, lease time.Duration) error {
	p := s.parts[partition]
	seq := ""
	if !c.New {
		seq = strconv.FormatUint(c.Seq, 10)
	}
	w, _, err := s.change(ctx, p, scriptCursorSave, []string{p.cursor(sink), p.owner(sink)}, owner, c.Fence, seq, milliseconds(lease))
	return owned(w, err)
}

// TrimEvents implements provision.Cursors. It is one round trip.
func (s *Store) TrimEvents(ctx context.Context, sink string, partition int, fence, seq uint64) error {
	p := s.parts[partition]
	w, _, err := s.change(ctx, p, scriptEventTrim, []string{p.cursor(sink)}, fence, seq)
	return owned(w, err)
}

// owned turns the word of a fenced script into an error.
func owned(w word, err error) error {
	switch {
	case err != nil:
		return err
	case w == wordHeld:
		return provision.ErrNotOwner
	case w != wordOK:
		return unexpected(w)
	}
	return nil
}

// ReadCursors implements provision.Cursors.
func (s *Store) ReadCursors(ctx context.Context, partition int, sinks []string) ([]provision.Cursor, error) {
	p := s.parts[partition]
	replies := make([]*redis.StringCmd, len(sinks))
	err := s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, sink := range sinks {
			replies[i] = pipe.HGet(ctx, p.cursor(sink), fieldSeq)
		}
	})
	if err != nil {
		return nil, err
	}
	cursors := make([]provision.Cursor, len(sinks))
	for i, reply := range replies {
		text, err := found(reply)
		if err != nil && !errors.Is(err, provision.ErrNotFound) {
			return nil, fmt.Errorf("%w: %s", provision.ErrUnavailable, err.Error())
		}
		if cursors[i], err = parseCursor(text); err != nil {
			return nil, fmt.Errorf("cursor of %s in partition %d: %w", sinks[i], partition, err)
		}
	}
	return cursors, nil
}
