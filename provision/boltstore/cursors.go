package boltstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
)

// owners are who owns the cursors. They are in memory: the process owns the
// file, so whoever owns a cursor lives in it, and a new process starts with
// nobody.
type owners struct {
	now func() time.Time

	mu     sync.Mutex
	fences uint64
	of     map[cursorOf]*ownership
}

type cursorOf struct {
	sink      string
	partition int
}

type ownership struct {
	owner string
	fence uint64
	until time.Time
}

func newOwners(now func() time.Time) *owners {
	return &owners{now: now, of: map[cursorOf]*ownership{}}
}

// claim returns the fence.
func (o *owners) claim(c cursorOf, owner string, lease time.Duration) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	held := o.of[c]
	switch {
	case held != nil && now.Before(held.until) && held.owner != owner:
		return 0, &provision.HeldError{For: held.until.Sub(now)}
	case held == nil || !now.Before(held.until):
		o.fences++
		held = &ownership{owner: owner, fence: o.fences}
		o.of[c] = held
	}
	held.until = now.Add(lease)
	return held.fence, nil
}

// check returns provision.ErrNotOwner unless the fence is that of the newest
// owner.
func (o *owners) check(c cursorOf, fence uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if held := o.of[c]; held == nil || held.fence != fence {
		return provision.ErrNotOwner
	}
	return nil
}

func (o *owners) renew(c cursorOf, fence uint64, lease time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	held := o.of[c]
	if held == nil || held.fence != fence {
		return provision.ErrNotOwner
	}
	held.until = o.now().Add(lease)
	return nil
}

// AppendEvents implements provision.Announcer.
func (s *Store) AppendEvents(ctx context.Context, partition int, events []provision.Event) error {
	if len(events) == 0 {
		return nil
	}
	if s.Replaced() {
		return fmt.Errorf("%s: %w", s.path, provision.ErrStoreChanged)
	}
	encoded := make([][]byte, len(events))
	for i, e := range events {
		var err error
		if encoded[i], err = encodeEvent(e); err != nil {
			return err
		}
	}
	return s.write(ctx, func(t *txn) error {
		for _, e := range encoded {
			t.appendEvent(partition, e)
		}
		return nil
	})
}

// LastEvents implements provision.Cursors.
func (s *Store) LastEvents(ctx context.Context) ([]uint64, error) {
	last := make([]uint64, s.meta.partitions)
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		outbox := tx.Bucket(bucketOutbox)
		for p := range last {
			last[p] = s.lastSeq(outbox, p)
		}
		return nil
	})
	return last, err
}

// ClaimCursor implements provision.Cursors.
func (s *Store) ClaimCursor(ctx context.Context, sink string, partition int, owner string, lease time.Duration) (provision.Cursor, error) {
	fence, err := s.owners.claim(cursorOf{sink, partition}, owner, lease)
	if err != nil {
		return provision.Cursor{}, err
	}
	// Whoever owned it before may still have a change of it with the writer;
	// it is refused there. One that was made is seen here.
	cursors, err := s.ReadCursors(ctx, partition, []string{sink})
	if err != nil {
		return provision.Cursor{}, err
	}
	c := cursors[0]
	c.Fence = fence
	return c, nil
}

// SaveCursor implements provision.Cursors. Only a cursor that moves is written.
func (s *Store) SaveCursor(ctx context.Context, sink string, partition int, _ string, c provision.Cursor, lease time.Duration) error {
	of := cursorOf{sink, partition}
	before, err := s.ReadCursors(ctx, partition, []string{sink})
	if err != nil {
		return err
	}
	if moves := !c.New && (before[0].New || c.Seq > before[0].Seq); !moves {
		return s.owners.renew(of, c.Fence, lease)
	}
	key := cursorKey(partition, sink)
	return s.write(ctx, func(t *txn) error {
		if err := s.owners.renew(of, c.Fence, lease); err != nil {
			return err
		}
		if v := t.get(bucketCursors, key); len(v) == 8 && binary.BigEndian.Uint64(v) >= c.Seq {
			return nil
		}
		t.put(bucketCursors, key, binary.BigEndian.AppendUint64(nil, c.Seq))
		return nil
	})
}

// ReadCursors implements provision.Cursors.
func (s *Store) ReadCursors(ctx context.Context, partition int, sinks []string) ([]provision.Cursor, error) {
	cursors := make([]provision.Cursor, len(sinks))
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketCursors)
		for i, sink := range sinks {
			switch v := b.Get(cursorKey(partition, sink)); len(v) {
			case 0:
				cursors[i].New = true
			case 8:
				cursors[i].Seq = binary.BigEndian.Uint64(v)
			default:
				return fmt.Errorf("cursor of %s in partition %d has %d bytes", sink, partition, len(v))
			}
		}
		return nil
	})
	return cursors, err
}

// trimChunk bounds the events that one change removes, and so how long it keeps
// others waiting.
const trimChunk = 1_000

// TrimEvents implements provision.Cursors.
func (s *Store) TrimEvents(ctx context.Context, sink string, partition int, fence, seq uint64) error {
	for more := true; more; {
		err := s.write(ctx, func(t *txn) error {
			more = false
			if err := s.owners.check(cursorOf{sink, partition}, fence); err != nil {
				return err
			}
			outbox := t.bucket(bucketOutbox)
			last := s.lastSeq(outbox, partition)
			first, _ := outbox.Cursor().Seek(eventKey(partition, 0))
			if last == 0 {
				return nil
			}
			until := min(seq, last-1)
			for n, at := 0, eventSeq(first); at <= until; n, at = n+1, at+1 {
				if n == trimChunk {
					more = true
					break
				}
				t.delete(bucketOutbox, eventKey(partition, at))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
