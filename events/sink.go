package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// Sink takes events. Its methods are safe for concurrent use: each partition
// has a worker that calls them.
type Sink interface {
	// Name is the sink's own name; its cursors are stored under it, and it is
	// a metric label.
	Name() string
	// Wants tells whether the event is for the sink at all. One that is not
	// counts as taken.
	Wants(provision.Event) bool
	// Deliver hands the events over in order, and returns how many, from the
	// first on, were taken for good; fewer than all with an error. It bounds
	// how long it waits for the other side. An error that is a *Refusal is
	// about the first event that was not taken, and will not pass by itself;
	// one that is a *Busy says when to try again.
	Deliver(ctx context.Context, events []provision.Event) (int, error)
	// Close ends connections.
	Close() error
}

// Refusal is an event that the sink understood and will not take, whenever it
// is tried. What is wrong with the sink, its address or our credentials, is no
// Refusal: it is mended, and then the event is taken.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Busy is a failure after which the sink said when to come back.
type Busy struct {
	Err   error
	After time.Duration
}

func (b *Busy) Error() string { return fmt.Sprintf("%v (try again in %s)", b.Err, b.After) }

// Unwrap returns the cause.
func (b *Busy) Unwrap() error { return b.Err }

// Check tries a sink with an event that says that it is a trial (reason
// "ping"): whatever it takes to deliver one works if it returns nil.
func Check(ctx context.Context, s Sink, now time.Time) error {
	_, err := s.Deliver(ctx, []provision.Event{provision.PlatformEvent(provision.ReasonPing, provision.SeverityInfo, "hubgate tries whether events arrive", 1, now)})
	var busy *Busy
	if errors.As(err, &busy) {
		return busy.Err
	}
	return err
}

// meets is a severity that a sink wants: "" for every.
func meets(want provision.Severity, e provision.Event) bool {
	return want == "" || want == provision.SeverityInfo || e.Severity == want
}
