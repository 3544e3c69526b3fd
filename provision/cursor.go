package provision

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNotOwner means that another process has taken the cursor since. What this
// one still does with it must not count.
var ErrNotOwner = errors.New("another process owns the cursor")

// HeldError is ErrNotOwner when a cursor is claimed: another owner's lease
// holds.
type HeldError struct {
	// For is what is left of the lease, unless its owner renews it.
	For time.Duration
}

func (e *HeldError) Error() string { return fmt.Sprintf("%v for another %s", ErrNotOwner, e.For) }

// Unwrap makes it ErrNotOwner.
func (e *HeldError) Unwrap() error { return ErrNotOwner }

// Cursor is how far a sink has read the events of a partition, as its owner
// knows it.
type Cursor struct {
	// Fence numbers the owners: a cursor is moved only by its newest.
	Fence uint64
	// Seq is that of the last event that the sink has.
	Seq uint64
	// New is set if nothing was ever saved: the sink has not begun.
	New bool
}

// Cursors is what relays of events need of a store, beyond Outbox. Each sink has
// a cursor in each partition, and each cursor one owner: the process whose lease
// on it holds.
type Cursors interface {
	// LastEvents returns the seq of the newest event of every partition, 0
	// where there is none.
	LastEvents(ctx context.Context) ([]uint64, error)
	// ClaimCursor makes owner, a name that no other process has, the owner for
	// the time of the lease, or renews its lease. While another's lease holds,
	// it returns a *HeldError.
	ClaimCursor(ctx context.Context, sink string, partition int, owner string, lease time.Duration) (Cursor, error)
	// SaveCursor moves the cursor to c.Seq, never back, and renews the lease; a
	// lease of 0 ends it. It returns ErrNotOwner, and changes nothing, if there
	// is a newer owner than c.Fence says.
	SaveCursor(ctx context.Context, sink string, partition int, owner string, c Cursor, lease time.Duration) error
	// ReadCursors returns the cursors of the sinks, in their order, without
	// claiming them. Only Seq and New are set.
	ReadCursors(ctx context.Context, partition int, sinks []string) ([]Cursor, error)
	// TrimEvents removes the events up to seq, but never the newest of the
	// partition. It returns ErrNotOwner, and removes nothing, if the sink's
	// cursor has a newer owner than fence says.
	TrimEvents(ctx context.Context, sink string, partition int, fence, seq uint64) error
}

// Announcer takes events that are not part of a change.
type Announcer interface {
	// AppendEvents puts the events at the end of the partition's outbox, in
	// one step.
	AppendEvents(ctx context.Context, partition int, events []Event) error
}
