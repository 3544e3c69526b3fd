package events

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// relay brings events to one sink.
type relay struct {
	*Relays
	sink Sink
	name string

	mu      sync.Mutex
	workers []*worker // by partition, nil where there never was an event

	failing atomic.Int64 // workers whose last delivery failed
	told    atomic.Int64 // when a failure was last logged, Unix nanoseconds
}

// tellAgain is how often a sink that goes on failing is logged.
const tellAgain = time.Minute

// start starts workers for the partitions that have events.
func (r *relay) start(ctx context.Context, running *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.workers == nil {
		r.workers = make([]*worker, r.store.Partitions())
	}
	for p := range r.workers {
		if last, _ := r.heads.of(p); last > 0 && r.workers[p] == nil {
			w := &worker{relay: r, partition: p}
			r.workers[p] = w
			running.Go(func() { w.run(ctx) })
		}
	}
}

// each calls do for every worker.
func (r *relay) each(do func(*worker)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		if w != nil {
			do(w)
		}
	}
}

// busy tells whether there are events that this process is about to deliver.
func (r *relay) busy() bool {
	busy := false
	r.each(func(w *worker) {
		s := w.state()
		busy = busy || s.owns && !s.failing && s.backlog > 0
	})
	return busy
}

// failed logs a failure of the sink, but not the same for every partition.
func (r *relay) failed(ctx context.Context, err error) {
	now := r.now()
	last := r.told.Load()
	if now.UnixNano()-last < int64(tellAgain) || !r.told.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	r.log.WarnContext(ctx, "a sink does not take events, trying on", "sink", r.name, "error", err)
}

// worker brings the events of one partition to the sink, whenever it owns the
// cursor.
type worker struct {
	*relay
	partition int

	mu      sync.Mutex
	current workerState
}

// workerState is what others may know of a worker.
type workerState struct {
	owns    bool
	failing bool
	seq     uint64    // of the last event that the sink has
	backlog uint64    // filled in by state
	oldest  time.Time // of the first event that it does not have, if known
}

func (w *worker) state() workerState {
	last, _ := w.heads.of(w.partition)
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.current
	if s.owns && last > s.seq {
		s.backlog = last - s.seq
	}
	return s
}

func (w *worker) set(change func(*workerState)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.current)
}

// run owns the cursor whenever nobody else does, until the context ends.
func (w *worker) run(ctx context.Context) {
	for {
		began := w.now()
		c, err := w.store.ClaimCursor(ctx, w.name, w.partition, w.owner, w.lease)
		var held *provision.HeldError
		var wait time.Duration
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			w.own(ctx, c, began)
			wait = jitter(retryPause)
		case errors.As(err, &held):
			// Its owner may let go before, at the end of its process.
			wait = min(held.For+jitter(50*time.Millisecond), jitter(w.lease/4))
		default:
			w.log.DebugContext(ctx, "claiming a cursor failed", "sink", w.name, "partition", w.partition, "error", err)
			wait = jitter(retryPause)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// errLost ends what the owner of a cursor does.
var errLost = errors.New("the lease on the cursor was lost")

// own relays until the lease is lost or the context ends.
func (w *worker) own(ctx context.Context, c provision.Cursor, began time.Time) {
	owning, stop := context.WithCancelCause(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { w.renew(owning, stop, c, began) })
	w.set(func(s *workerState) { *s = workerState{owns: true, seq: c.Seq} })
	err := w.relayAll(owning, c)
	stop(errLost)
	renewing.Wait()
	w.succeeded()
	w.set(func(s *workerState) { *s = workerState{} })
	if ctx.Err() == nil {
		w.log.InfoContext(ctx, "stopped relaying a partition", "sink", w.name, "partition", w.partition, "reason", err)
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), letGo)
	defer cancel()
	c.New = true // the cursor stays where it is
	if err := w.store.SaveCursor(limited, w.name, w.partition, w.owner, c, 0); err != nil && !errors.Is(err, provision.ErrNotOwner) {
		w.log.DebugContext(ctx, "letting go of a cursor failed", "sink", w.name, "partition", w.partition, "error", err)
	}
}

// renew keeps the lease while events are delivered, however long that takes,
// and ends the owning when it is over: from then on another may deliver.
func (w *worker) renew(ctx context.Context, stop context.CancelCauseFunc, c provision.Cursor, held time.Time) {
	c.New = true // renews alone
	for pause(ctx, w.lease/3) {
		began := w.now()
		limited, cancel := context.WithDeadline(ctx, held.Add(w.lease))
		err := w.store.SaveCursor(limited, w.name, w.partition, w.owner, c, w.lease)
		cancel()
		switch {
		case err == nil:
			held = began
		case errors.Is(err, provision.ErrNotOwner), w.now().Sub(held) >= w.lease*2/3:
			stop(errLost)
			return
		}
	}
}

// relayAll delivers what comes, and returns why it does not go on.
func (w *worker) relayAll(ctx context.Context, c provision.Cursor) error {
	for ctx.Err() == nil {
		last, changed := w.heads.of(w.partition)
		if last <= c.Seq {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		stored, err := w.store.Events(ctx, w.partition, c.Seq, batch)
		if err == nil && len(stored) > 0 {
			if err = w.begin(ctx, &c, stored[0]); err == nil {
				err = w.deliver(ctx, &c, stored)
			}
		}
		switch {
		case errors.Is(err, provision.ErrNotOwner):
			return err
		case err != nil && ctx.Err() == nil:
			w.log.DebugContext(ctx, "relaying events failed, trying again", "sink", w.name, "partition", w.partition, "error", err)
			pause(ctx, jitter(retryPause))
		case len(stored) == 0:
			pause(ctx, w.poll) // the head is ahead of what a replica has
		}
	}
	return context.Cause(ctx)
}

// begin settles where a cursor stands before its next event: a new sink begins
// with what is kept; what is missing for another one was lost.
func (w *worker) begin(ctx context.Context, c *provision.Cursor, next provision.Stored) error {
	lost := next.Seq - c.Seq - 1
	if lost == 0 && !c.New {
		return nil
	}
	begins := c.New
	moved := *c
	moved.New, moved.Seq = false, next.Seq-1
	if err := w.save(ctx, moved); err != nil {
		return err
	}
	*c = moved
	if begins || lost == 0 {
		return nil
	}
	w.metrics.lost.WithLabelValues(w.name).Add(float64(lost))
	w.log.ErrorContext(ctx, "events were lost: retention took them before the sink had them",
		"sink", w.name, "partition", w.partition, "lost", lost)
	return w.store.AppendEvents(ctx, provision.HubID{}.Partition(w.store.Partitions()), []provision.Event{
		provision.PlatformEvent(provision.ReasonEventsLost, provision.SeverityError,
			"events were lost to retention before sink "+w.name+" had them", int(lost), w.now()),
	})
}

// save moves the cursor.
func (w *worker) save(ctx context.Context, c provision.Cursor) error {
	if err := w.store.SaveCursor(ctx, w.name, w.partition, w.owner, c, w.lease); err != nil {
		return err
	}
	w.set(func(s *workerState) { s.seq = c.Seq })
	return nil
}

// deliver hands events to the sink until it has them all, or the context ends.
func (w *worker) deliver(ctx context.Context, c *provision.Cursor, stored []provision.Stored) error {
	last := stored[len(stored)-1].Seq
	wanted := stored[:0:0]
	events := make([]provision.Event, 0, len(stored))
	for _, s := range stored {
		if w.sink.Wants(s.Event) {
			wanted, events = append(wanted, s), append(events, s.Event)
		}
	}
	failures, refusals := 0, 0
	for len(events) > 0 {
		w.set(func(s *workerState) { s.oldest = events[0].Time })
		n, err := w.sink.Deliver(ctx, events)
		if n > 0 {
			failures, refusals = 0, 0
			w.metrics.relayed.WithLabelValues(w.name).Add(float64(n))
			c.Seq = wanted[n-1].Seq
			wanted, events = wanted[n:], events[n:]
			if len(events) > 0 {
				if err := w.save(ctx, *c); err != nil {
					return err
				}
			}
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.metrics.failures.WithLabelValues(w.name).Inc()
		failures++
		var refusal *Refusal
		if errors.As(err, &refusal) {
			if refusals++; refusals >= w.refusals {
				w.bury(ctx, events[0], err)
				failures, refusals = 0, 0
				c.Seq = wanted[0].Seq
				wanted, events = wanted[1:], events[1:]
				continue
			}
		}
		w.set(func(s *workerState) {
			if !s.failing {
				s.failing = true
				w.failing.Add(1)
			}
		})
		w.failed(ctx, err)
		if !pause(ctx, backoff(failures, err)) {
			return context.Cause(ctx)
		}
	}
	w.succeeded()
	c.Seq = last
	w.set(func(s *workerState) { s.oldest = time.Time{} })
	return w.save(ctx, *c)
}

// succeeded notes that the sink takes events again.
func (w *worker) succeeded() {
	w.set(func(s *workerState) {
		if !s.failing {
			return
		}
		s.failing = false
		if w.failing.Add(-1) == 0 && w.told.Swap(0) != 0 {
			w.log.Info("the sink takes events again", "sink", w.name)
		}
	})
}

// bury gives an event up. The log has it whole, so that it can be sent by hand.
func (w *worker) bury(ctx context.Context, e provision.Event, cause error) {
	w.metrics.buried.WithLabelValues(w.name).Inc()
	text, err := json.Marshal(e)
	if err != nil {
		text = []byte(e.ID)
	}
	w.log.ErrorContext(ctx, "an event was given up: the sink refuses it for good", "sink", w.name, "error", cause, "event", string(text))
}

// backoff is the pause after so many failures in a row: what the sink asks for,
// else twice as long each time; with jitter, so that workers do not come back
// together.
func backoff(failures int, err error) time.Duration {
	d := min(leastBackoff<<min(failures-1, 16), mostBackoff)
	d = jitter(d)
	var busy *Busy
	if errors.As(err, &busy) {
		d = max(d, busy.After)
	}
	return d
}

// jitter is a random time between half of d and d.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
