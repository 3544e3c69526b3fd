package boltstore

import (
	"context"
	"sync"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// freshInterval is how often those who watch learn that nothing else happened.
const freshInterval = 400 * time.Millisecond

type change struct {
	partition int
	change    provision.Change
}

// feed tells sinks what the writer commits. The writer calls them itself,
// before it answers who asked for the change: in this process, an acknowledged
// change is a change that every cache knows of.
type feed struct {
	now   func() time.Time
	mu    sync.Mutex
	sinks map[*provision.Sink]struct{}
	since time.Time // when the commit in flight began; zero if there is none
}

func newFeed(now func() time.Time) *feed {
	return &feed{now: now, sinks: map[*provision.Sink]struct{}{}}
}

// committing: from now on readers may see changes that nobody has been told of.
func (f *feed) committing() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since = f.now()
}

func (f *feed) committed(changes []change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since = time.Time{}
	f.report(changes...)
}

// tell tells of a change that is not the file's.
func (f *feed) tell(c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report(c)
}

func (f *feed) report(changes ...change) {
	for sink := range f.sinks {
		for _, c := range changes {
			(*sink).Changed(c.partition, c.change)
		}
	}
}

// fresh tells the sink up to when it has been told everything.
func (f *feed) fresh(sink provision.Sink, partitions int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.since
	if at.IsZero() {
		at = f.now()
	}
	for p := range partitions {
		sink.Fresh(p, at)
	}
}

func (f *feed) add(sink *provision.Sink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sinks[sink] = struct{}{}
}

func (f *feed) remove(sink *provision.Sink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sinks, sink)
}

// Watch tells the sink of every change until the context ends. A store that
// stopped is no longer fresh.
func (s *Store) Watch(ctx context.Context, sink provision.Sink) error {
	s.feed.add(&sink)
	defer s.feed.remove(&sink)
	tick := time.NewTicker(freshInterval)
	defer tick.Stop()
	for {
		s.feed.fresh(sink, s.meta.partitions)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped:
			<-ctx.Done()
			return ctx.Err()
		case <-tick.C:
		}
	}
}
