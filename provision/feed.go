package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// retryPause is the pause before what the store did not give is asked for
	// again.
	retryPause = 250 * time.Millisecond
	// loaders bounds how many partitions or hubs are loaded at once.
	loaders = 8
)

// feed is the sink of the store's change feed. Devices that changed leave the
// cache at once; hubs have to be read again, which a sink must not do itself,
// so they are noted for Gate.Run. Until they have been read again, checks read
// them through.
type feed struct {
	devices  *deviceCache
	observer Observer
	wake     chan struct{}

	mu         sync.Mutex
	partitions []hubsState
	hubs       map[HubID]hubChange // changed since they were read
}

// hubChange is what the feed said of a hub that was not read again yet.
type hubChange struct {
	whole bool // not only in what it has learned
	times int
}

// hubsState is what the Gate has read of a partition's hubs.
type hubsState struct {
	begun  bool   // the feed has begun: what is read from now on stays current
	loaded uint64 // the epoch that was read, 0 if none
	epoch  uint64 // raised when the hubs have to be read anew
}

func newFeed(devices *deviceCache, partitions int, observer Observer) *feed {
	return &feed{
		devices:    devices,
		observer:   observer,
		wake:       make(chan struct{}, 1),
		partitions: make([]hubsState, partitions),
		hubs:       make(map[HubID]hubChange),
	}
}

// Changed implements Sink.
func (f *feed) Changed(partition int, c Change) {
	defer f.observer.Changed(c) // once the change is known here
	switch c.Kind {
	case DeviceChanged:
		f.devices.changed(partition, c.Device)
		return
	case SessionsChanged:
		return
	}
	if c.Kind == HubChanged {
		f.devices.lost(partition) // a hub that was deleted took its devices with it
	}
	f.mu.Lock()
	change := f.hubs[c.Hub]
	change.times++
	change.whole = change.whole || c.Kind != LearnedChanged
	f.hubs[c.Hub] = change
	f.mu.Unlock()
	f.signal()
}

// Lost implements Sink.
func (f *feed) Lost(partition int) {
	f.devices.lost(partition)
	f.mu.Lock()
	f.partitions[partition].epoch++
	f.mu.Unlock()
	f.signal()
	f.observer.Lost(partition)
}

// Fresh implements Sink.
func (f *feed) Fresh(partition int, at time.Time) {
	f.devices.proven(partition, at)
	f.mu.Lock()
	p := &f.partitions[partition]
	first := !p.begun
	if first {
		p.begun = true
		p.epoch++
	}
	f.mu.Unlock()
	if first {
		f.signal()
	}
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// stale returns the partitions whose hubs have to be read, with the epoch that
// reading them reaches, and the hubs that changed.
func (f *feed) stale() (map[int]uint64, map[HubID]hubChange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	partitions := make(map[int]uint64)
	for i, p := range f.partitions {
		if p.begun && p.loaded != p.epoch {
			partitions[i] = p.epoch
		}
	}
	return partitions, maps.Clone(f.hubs)
}

// readHub notes that the hub was read after the change.
func (f *feed) readHub(hub HubID, change hubChange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hubs[hub] == change {
		delete(f.hubs, hub)
	}
}

// readPartition notes that the partition's hubs were read in that epoch.
func (f *feed) readPartition(partition int, epoch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.partitions[partition].loaded = epoch
}

// current reports whether the hubs of a partition have been read and the hub
// has not changed since.
func (f *feed) current(hub HubID, partition int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.partitions[partition]
	_, changed := f.hubs[hub]
	return p.begun && p.loaded == p.epoch && !changed
}

// told reports whether the hub is known to have changed, and not yet read since.
func (f *feed) told(hub HubID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hubs[hub].whole
}

// unread counts the partitions whose hubs were never read.
func (f *feed) unread() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, p := range f.partitions {
		if p.loaded == 0 {
			n++
		}
	}
	return n
}

// Run loads the stored hubs and follows the store's change feed until the
// context ends, and returns its error.
func (g *Gate) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.store.Watch(ctx, g.feed) })
	group.Go(func() error { return g.survey.run(ctx, g) })
	if g.warnings != nil {
		e := &expiry{gate: g, store: g.warnings, owner: newID()}
		group.Go(func() error { return e.run(ctx) })
	}
	if g.denials != nil {
		group.Go(func() error { return g.denials.run(ctx) })
	}
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-g.feed.wake:
			}
			if err := g.catchUp(ctx); err != nil && ctx.Err() == nil {
				g.log.WarnContext(ctx, "reading hubs failed, trying again", "error", err)
				time.AfterFunc(retryPause, g.feed.signal)
			}
		}
	})
	return group.Wait()
}

// catchUp reads what the feed said has changed. What could not be read stays
// noted.
func (g *Gate) catchUp(ctx context.Context) error {
	partitions, hubs := g.feed.stale()
	var mu sync.Mutex
	var errs []error
	failed := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	var work errgroup.Group
	work.SetLimit(loaders)
	for partition, epoch := range partitions {
		work.Go(func() error {
			if err := g.loadPartition(ctx, partition); err != nil {
				failed(err)
				return nil
			}
			g.feed.readPartition(partition, epoch)
			return nil
		})
	}
	for hub, change := range hubs {
		work.Go(func() error {
			var err error
			if change.whole {
				_, err = g.reload(ctx, hub)
			} else {
				err = g.relearn(ctx, hub)
			}
			if err != nil {
				failed(err)
				return nil
			}
			g.feed.readHub(hub, change)
			return nil
		})
	}
	_ = work.Wait() // the functions report through failed
	if len(partitions) > 0 {
		g.survey.due()
	}
	return errors.Join(errs...)
}

// loadPartition reads all hubs of a partition, and drops those that are gone.
func (g *Gate) loadPartition(ctx context.Context, partition int) error {
	defer g.lockHubs(partition)()
	start := time.Now()
	stored, err := g.store.Hubs(ctx, partition)
	g.metrics.observeStore("hubs", start, err)
	if err != nil {
		return err
	}
	g.hubs.expect(len(stored) * g.store.Partitions()) // they are spread evenly
	gone := g.hubs.storedIn(partition)
	for _, h := range stored {
		delete(gone, h.ID)
		if _, err := g.install(ctx, h, true); err != nil {
			return err
		}
	}
	for id := range gone {
		g.hubs.drop(id)
	}
	return nil
}

// reload reads one hub again. It returns nil if the hub is gone.
func (g *Gate) reload(ctx context.Context, id HubID) (*liveHub, error) {
	defer g.lockHubs(id.Partition(g.store.Partitions()))()
	start := time.Now()
	h, err := g.store.Hub(ctx, id)
	g.metrics.observeStore("hub", start, err)
	switch {
	case errors.Is(err, ErrNotFound):
		if live := g.hubs.id(id); live != nil && live.Declared == "" {
			g.hubs.drop(id)
		}
		return nil, nil
	case err != nil:
		return nil, err
	}
	learned, err := g.readLearned(ctx, id)
	if err != nil {
		return nil, err
	}
	return g.install(ctx, StoredHub{&h, learned}, false)
}

// relearn reads again what a hub has learned.
func (g *Gate) relearn(ctx context.Context, id HubID) error {
	defer g.lockHubs(id.Partition(g.store.Partitions()))()
	live := g.hubs.id(id)
	if live == nil {
		return nil
	}
	learned, err := g.readLearned(ctx, id)
	if err == nil {
		same := *live.Hub
		_, err = g.install(ctx, StoredHub{&same, learned}, false)
	}
	return err
}

func (g *Gate) readLearned(ctx context.Context, id HubID) ([][]byte, error) {
	start := time.Now()
	learned, err := g.store.Learned(ctx, id)
	g.metrics.observeStore("learned", start, err)
	return learned, err
}

// install makes a hub that was read from the store live. A declared one lives
// by its declaration; only what it has learned, and what is revoked on it, is the
// store's. One of many, which no check has needed here yet, is compiled when one does. It
// returns nil if the hub is not to serve. The hub's lock is held.
func (g *Gate) install(ctx context.Context, h StoredHub, ofMany bool) (*liveHub, error) {
	known := g.hubs.id(h.ID)
	if h.Declared != "" {
		if known == nil { // declared to other processes only
			return nil, nil
		}
		declared := *known.Hub
		declared.Version, declared.Revocations = h.Version, h.Revocations
		h.Hub = &declared
	}
	revoked, err := g.readRevoked(ctx, h.Hub, known)
	if err != nil {
		return nil, err
	}
	h.revoked = revoked
	if known != nil && reflect.DeepEqual(known.Hub, h.Hub) && reflect.DeepEqual(known.learned, h.Learned) {
		return known, nil // and with it stays what was found out about its devices
	}
	build := newCompiled
	if ofMany && (known == nil || known.trusted() == nil) {
		build = newLiveHub
	}
	live, err := build(h.Hub, h.Learned, revoked)
	if err != nil {
		// A record that this version cannot use.
		g.hubs.drop(h.ID)
		g.log.ErrorContext(ctx, "hub cannot be used", "hub", h.Name, "error", err)
		return nil, nil
	}
	g.hubs.put(live)
	return live, nil
}

// lockHubs serializes reading the hubs of a partition, so that an older reading
// never replaces a newer one. It returns the unlock.
func (g *Gate) lockHubs(partition int) func() {
	m := &g.hubLocks[partition]
	m.Lock()
	return m.Unlock
}

// Ready returns nil once the hubs are loaded and while the store is the one of
// the start; else it says why not. A store that does not answer is no reason:
// known devices are served all the same.
func (g *Gate) Ready() error {
	if n := g.feed.unread(); n > 0 {
		return fmt.Errorf("hubs of %d partitions are not loaded", n)
	}
	if g.store.Replaced() {
		return ErrStoreChanged
	}
	return nil
}
