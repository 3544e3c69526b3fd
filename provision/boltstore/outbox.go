package boltstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
)

// Events returns up to limit events of the partition after seq.
func (s *Store) Events(ctx context.Context, partition int, after uint64, limit int) ([]provision.Stored, error) {
	var events []provision.Stored
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		from := binary.BigEndian.AppendUint64(nil, after+1)
		return scan(tx.Bucket(bucketOutbox), partitionKey(partition), from, func(rest, v []byte) (bool, error) {
			if len(events) >= limit {
				return false, nil
			}
			stored := provision.Stored{Seq: binary.BigEndian.Uint64(rest)}
			if err := json.Unmarshal(v, &stored.Event); err != nil {
				return false, fmt.Errorf("event %d of partition %d: %w", stored.Seq, partition, err)
			}
			events = append(events, stored)
			return true, nil
		})
	})
	return events, err
}

// LastEvent returns the seq of the partition's newest event, 0 if none.
func (s *Store) LastEvent(ctx context.Context, partition int) (seq uint64, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		seq = s.lastSeq(tx.Bucket(bucketOutbox), partition)
		return nil
	})
	return seq, err
}

// lastSeq is the seq of the newest event. Retention never takes that one, so it
// counts all events there ever were.
func (s *Store) lastSeq(outbox *bbolt.Bucket, partition int) uint64 {
	if k := lastWith(outbox, partitionKey(partition)); k != nil {
		return eventSeq(k)
	}
	return 0
}
