package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/hubgate/hubgate/provision"
)

const (
	// unconfirmedBefore is how far before the start of this process changes may
	// have been made that no replica has: another process, or this one before it
	// was restarted, told whoever asked for them that they failed.
	unconfirmedBefore = 10 * time.Minute
	// clockLeeway is how far the clocks of processes may differ.
	clockLeeway = time.Minute
)

// confirmed tells, by partition, until when all changes are known to be on as
// many replicas as there have to be. A change whose WAIT failed is there all the
// same, on one server perhaps: who asks again must not be told that it is made,
// as long as it could be lost.
//
// A server's changes go to its replicas in their order, so one WAIT that
// succeeds vouches for all changes that were made before it began.
type confirmed struct {
	mu    sync.Mutex
	until []time.Time
}

func newConfirmed(partitions int, now time.Time) *confirmed {
	c := &confirmed{until: make([]time.Time, partitions)}
	for i := range c.until {
		c.until[i] = now.Add(-unconfirmedBefore)
	}
	return c
}

// advance tells that a WAIT succeeded that began then.
func (c *confirmed) advance(partition int, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began.After(c.until[partition]) {
		c.until[partition] = began
	}
}

// covers reports whether a change of that time is known to be replicated.
func (c *confirmed) covers(partition int, changed time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return changed.Add(clockLeeway).Before(c.until[partition])
}

// confirm makes sure that a device that was read is on as many replicas as there
// have to be. It costs a round trip only if the device was changed lately.
func (s *Store) confirm(ctx context.Context, d provision.Device) error {
	p := s.partition(d.Hub)
	if s.replicas == 0 || s.confirmed.covers(p.number, d.UpdatedAt) {
		return nil
	}
	began := s.now()
	switch w, _, err := s.change(ctx, p, scriptTouch, nil); {
	case err != nil:
		return err
	case w != wordOK:
		return unexpected(w)
	}
	s.confirmed.advance(p.number, began)
	return nil
}
