// Package events relays hub events from the store's outbox to those who build
// on them: MQTT brokers, webhooks, the log.
//
// An event is stored in the same step as what it tells; this package makes sure
// that it arrives. Each sink has a cursor in each partition of the store, and
// each cursor one owner among the replicas, by a lease with a fencing token.
// The owner reads the partition in order, hands events to the sink until it has
// taken them, and then moves the cursor: at least once, in order per hub. A
// sink that is down or slow keeps nobody else waiting, as every cursor has a
// worker of its own; a replica that dies is followed, at the end of its leases,
// by another.
//
//	          claim            deliver, move cursor
//	waiting ─────────▶ owning ◀───────────────────┐
//	   ▲                 │  └─────────────────────┘
//	   └─────────────────┘
//	    lease lost, or let go
//
// Retention is worked by whoever owns the cursor of the pseudo-sink
// "retention".
package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/provision"
)

// Store is what relays need of a store.
type Store interface {
	provision.Outbox
	provision.Cursors
	provision.Announcer
	// Partitions is the number of partitions.
	Partitions() int
}

// Defaults of Config.
const (
	DefaultLease     = 10 * time.Second
	DefaultPoll      = 200 * time.Millisecond
	DefaultRefusals  = 5
	DefaultMaxAge    = 7 * 24 * time.Hour
	DefaultDelivered = time.Hour
)

const (
	// batch is how many events are read and handed over at once.
	batch = 64
	// leastBackoff and mostBackoff bound the pause after a failure.
	leastBackoff = 250 * time.Millisecond
	mostBackoff  = 30 * time.Second
	// retryPause is the pause before the store is asked again that did not
	// answer.
	retryPause = time.Second
	// letGo bounds how long letting go of leases may take at the end.
	letGo = 2 * time.Second
)

// Config is what Relays are made of. Only Store is required.
type Config struct {
	Store Store
	Sinks []Sink
	// Retention says how long events are kept.
	Retention Retention
	// Lease is how long a cursor stays with an owner that is not heard of: how
	// long it takes until another replica relays in its place. 0: DefaultLease.
	Lease time.Duration
	// Poll is how often new events are looked for. 0: DefaultPoll.
	Poll time.Duration
	// Refusals is how often a sink may refuse an event for what it is before
	// the event is given up. 0: DefaultRefusals.
	Refusals int
	// Logger hears of trouble with sinks. Nil: slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Relays relay events. Nothing runs before Run.
type Relays struct {
	store     Store
	relays    []*relay
	retention Retention
	lease     time.Duration
	poll      time.Duration
	refusals  int
	log       *slog.Logger
	now       func() time.Time
	owner     string // the name of this process among owners
	heads     *heads
	metrics   *metrics
}

// New makes Relays. Sinks need names of their own.
func New(c Config) (*Relays, error) {
	if c.Store == nil {
		return nil, errors.New("events: needs a store")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	r := &Relays{
		store:     c.Store,
		retention: c.Retention.withDefaults(),
		lease:     cmp.Or(c.Lease, DefaultLease),
		poll:      cmp.Or(c.Poll, DefaultPoll),
		refusals:  cmp.Or(c.Refusals, DefaultRefusals),
		log:       c.Logger,
		now:       c.Now,
		owner:     uuid.NewString(),
		heads:     newHeads(c.Store.Partitions()),
	}
	for _, s := range c.Sinks {
		same := func(other *relay) bool { return other.name == s.Name() }
		if s.Name() == retentionSink || slices.ContainsFunc(r.relays, same) {
			return nil, fmt.Errorf("events: more than one sink is called %s", s.Name())
		}
		r.relays = append(r.relays, &relay{Relays: r, sink: s, name: s.Name()})
	}
	var err error
	if r.metrics, err = newMetrics(c.Registerer, r); err != nil {
		return nil, fmt.Errorf("events: metrics: %w", err)
	}
	return r, nil
}

// Run relays until the context ends; then it lets go of what it owns, for other
// replicas to take at once, closes the sinks and returns nil.
func (r *Relays) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { r.retain(ctx) })
	for {
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "looking for events failed, trying again", "error", err)
			pause(ctx, retryPause)
		}
		for _, relay := range r.relays {
			relay.start(ctx, &running)
		}
		if !pause(ctx, r.poll) {
			break
		}
	}
	running.Wait()
	var errs []error
	for _, relay := range r.relays {
		errs = append(errs, relay.sink.Close())
	}
	if err := errors.Join(errs...); err != nil {
		r.log.WarnContext(ctx, "closing a sink of events failed", "error", err)
	}
	return nil
}

// look reads how far each partition is.
func (r *Relays) look(ctx context.Context) error {
	last, err := r.store.LastEvents(ctx)
	if err != nil {
		return err
	}
	r.heads.set(last)
	return nil
}

// Flush waits until the sinks have what is stored, as far as this process owns
// it and they take it, or the context ends. A sink that fails is not waited for.
func (r *Relays) Flush(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	for {
		waiting := false
		for _, relay := range r.relays {
			waiting = waiting || relay.busy()
		}
		if !waiting {
			return nil
		}
		if !pause(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// heads are the newest events of the partitions.
type heads struct {
	mu      sync.Mutex
	last    []uint64
	changed chan struct{} // closed at the next change
}

func newHeads(partitions int) *heads {
	return &heads{last: make([]uint64, partitions), changed: make(chan struct{})}
}

func (h *heads) set(last []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Equal(h.last, last) {
		return
	}
	h.last = last
	close(h.changed)
	h.changed = make(chan struct{})
}

// of returns the newest event of a partition, and what is closed when any
// partition has a newer one.
func (h *heads) of(partition int) (uint64, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[partition], h.changed
}

// pause waits, and returns false if the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
