package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

const (
	// fieldEvent is the field of an outbox entry.
	fieldEvent = "e"
	// fieldOut is the field of a partition's state that counts its events.
	fieldOut = "out"
	// fieldSeq is the field of a cursor that tells how far it is.
	fieldSeq = "s"
)

// Events implements provision.Outbox.
func (s *Store) Events(ctx context.Context, partition int, after uint64, limit int) ([]provision.Stored, error) {
	if limit < 1 {
		return nil, fmt.Errorf("limit %d is less than 1", limit)
	}
	var entries []redis.XMessage
	err := s.call(ctx, func(ctx context.Context) (err error) {
		entries, err = s.client.XRangeN(ctx, s.parts[partition].outbox(), "("+entryID(after), "+", int64(limit)).Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	events := make([]provision.Stored, len(entries))
	for i, entry := range entries {
		if events[i].Seq, err = entrySeq(entry.ID); err != nil {
			return nil, err
		}
		text, _ := entry.Values[fieldEvent].(string)
		if err := json.Unmarshal([]byte(text), &events[i].Event); err != nil {
			return nil, fmt.Errorf("event %s of partition %d: %w", entry.ID, partition, err)
		}
	}
	return events, nil
}

// LastEvent implements provision.Outbox. It is right even if retention has
// taken every entry.
func (s *Store) LastEvent(ctx context.Context, partition int) (uint64, error) {
	var n uint64
	err := s.call(ctx, func(ctx context.Context) (err error) {
		n, err = s.client.HGet(ctx, s.parts[partition].state(), fieldOut).Uint64()
		return err
	})
	if errors.Is(err, provision.ErrNotFound) {
		return 0, nil
	}
	return n, err
}

func entryID(seq uint64) string { return strconv.FormatUint(seq, 10) + "-0" }

func entrySeq(id string) (uint64, error) {
	seq, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stream entry %q is not ours", id)
	}
	return n, nil
}
