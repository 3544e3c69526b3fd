package events

import (
	"context"
	"errors"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// retentionSink owns the trimming of a partition.
const retentionSink = "retention"

// Retention says how long events are kept. Their number is bounded by the store.
type Retention struct {
	// MaxAge is how long an event is kept that some sink does not have. 0:
	// DefaultMaxAge. What a sink loses to it is counted.
	MaxAge time.Duration
	// Delivered is how long an event is kept that every sink has, for those who
	// read the stream and come back. 0: DefaultDelivered. Without sinks, MaxAge
	// counts alone.
	Delivered time.Duration
	// Every is how often retention is worked. 0: ten seconds.
	Every time.Duration
}

func (r Retention) withDefaults() Retention {
	if r.MaxAge == 0 {
		r.MaxAge = DefaultMaxAge
	}
	if r.Delivered == 0 {
		r.Delivered = min(DefaultDelivered, r.MaxAge)
	}
	if r.Every == 0 {
		r.Every = 10 * time.Second
	}
	return r
}

// retain trims the partitions that this process gets hold of, until the context
// ends.
func (r *Relays) retain(ctx context.Context) {
	for pause(ctx, jitter(r.retention.Every)) {
		for p := range r.store.Partitions() {
			if last, _ := r.heads.of(p); last == 0 {
				continue
			}
			err := r.trim(ctx, p)
			if err != nil && ctx.Err() == nil && !errors.Is(err, provision.ErrNotOwner) {
				r.log.WarnContext(ctx, "retention of events failed, trying again", "partition", p, "error", err)
				break // the next round may find the store well
			}
		}
	}
}

// trim removes what a partition need not keep.
func (r *Relays) trim(ctx context.Context, partition int) error {
	// Whoever trims now goes on trimming: the lease holds until well after the
	// next round.
	c, err := r.store.ClaimCursor(ctx, retentionSink, partition, r.owner, 3*r.retention.Every)
	if err != nil {
		return err
	}
	slowest, err := r.slowest(ctx, partition)
	if err != nil {
		return err
	}
	now := r.now()
	after, most := uint64(0), 1 // most often nothing is to be done
	for {
		stored, err := r.store.Events(ctx, partition, after, most)
		if err != nil {
			return err
		}
		trimmed := 0
		for _, s := range stored {
			if !r.retention.over(s, slowest, now) {
				break
			}
			after = s.Seq
			trimmed++
		}
		if trimmed > 0 {
			if err := r.store.TrimEvents(ctx, retentionSink, partition, c.Fence, after); err != nil {
				return err
			}
		}
		if trimmed < most {
			return nil
		}
		most = 8 * batch
	}
}

// over tells whether an event need not be kept.
func (r Retention) over(s provision.Stored, slowest uint64, now time.Time) bool {
	age := now.Sub(s.Event.Time)
	return age > r.MaxAge || s.Seq <= slowest && age > r.Delivered
}

// slowest is the last event that every sink has; 0 without sinks.
func (r *Relays) slowest(ctx context.Context, partition int) (uint64, error) {
	if len(r.relays) == 0 {
		return 0, nil
	}
	names := make([]string, len(r.relays))
	for i, relay := range r.relays {
		names[i] = relay.name
	}
	cursors, err := r.store.ReadCursors(ctx, partition, names)
	if err != nil {
		return 0, err
	}
	least := cursors[0].Seq
	for _, c := range cursors {
		least = min(least, c.Seq)
	}
	return least, nil
}
