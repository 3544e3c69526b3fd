package provision

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/hubgate/hubgate/trust"
)

const (
	// expiryAhead is how long before a trust anchor expires that is told.
	expiryAhead = 30 * 24 * time.Hour
	// expiryPause is how long it is not told again, by any process.
	expiryPause = 24 * time.Hour
	// expiryCheck is how often anchors are looked at.
	expiryCheck = time.Hour
	// expirySoon is when they are first: hubs are loaded then.
	expirySoon = time.Minute
	// expiryLease is how long a process has for the warnings of a partition.
	expiryLease = time.Minute
	// expirySink is the cursor that remembers, in each partition, when warnings
	// were last given: its Seq is that time, in seconds.
	expirySink = "anchor-expiry"
)

// Warnings is what warnings of trust anchors that expire need of a store; the
// contracts are those of Cursors and Announcer.
type Warnings interface {
	Announcer
	ClaimCursor(ctx context.Context, sink string, partition int, owner string, lease time.Duration) (Cursor, error)
	SaveCursor(ctx context.Context, sink string, partition int, owner string, c Cursor, lease time.Duration) error
}

// expiry warns of trust anchors that expire.
type expiry struct {
	gate  *Gate
	store Warnings
	owner string
}

func (e *expiry) run(ctx context.Context) error {
	for wait := expirySoon; ; wait = expiryCheck {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if err := e.warn(ctx, e.gate.now()); err != nil && ctx.Err() == nil {
			e.gate.log.WarnContext(ctx, "warning of trust anchors that expire failed, trying again", "error", err)
		}
	}
}

// warn tells of the anchors that expire soon, once a day over all processes.
func (e *expiry) warn(ctx context.Context, now time.Time) error {
	due := make(map[int][]Event)
	for _, h := range e.gate.hubs.all() {
		for _, der := range h.Anchors {
			outline, _ := trust.ReadOutline(der)
			left := outline.NotAfter().Sub(now)
			if left < 0 || left > expiryAhead {
				continue // the devices that it does not admit any more tell of one that has expired
			}
			anchor, err := x509.ParseCertificate(der)
			if err != nil {
				continue // which who compiles the hub tells of
			}
			event := AnchorExpiring.OnHub(*h.Hub, now)
			event.Severity = SeverityError
			event.Message = fmt.Sprintf("trust anchor expires in %d days: %s", int(left.Hours()/24), plain(anchor.Subject.String()))
			partition := h.ID.Partition(e.gate.store.Partitions())
			due[partition] = append(due[partition], event)
		}
	}
	var errs []error
	for partition, events := range due {
		errs = append(errs, e.tell(ctx, partition, events, now))
	}
	return errors.Join(errs...)
}

// tell stores the events, unless some process told of the partition's anchors
// within a day. It remembers that first: a day may be left out, none is told
// twice.
func (e *expiry) tell(ctx context.Context, partition int, events []Event, now time.Time) error {
	c, err := e.store.ClaimCursor(ctx, expirySink, partition, e.owner, expiryLease)
	switch {
	case errors.Is(err, ErrNotOwner):
		return nil // another one is at it
	case err != nil:
		return err
	}
	told := !c.New && now.Sub(time.Unix(int64(c.Seq), 0)) < expiryPause
	if !told {
		c.New, c.Seq = false, uint64(now.Unix())
	}
	if err := e.store.SaveCursor(ctx, expirySink, partition, e.owner, c, 0); err != nil || told {
		return err
	}
	for len(events) > 0 {
		some := events[:min(len(events), appendBatch)]
		if err := e.store.AppendEvents(ctx, partition, some); err != nil {
			return err
		}
		events = events[len(some):]
	}
	return nil
}
