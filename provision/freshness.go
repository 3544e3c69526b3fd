package provision

import (
	"math"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// freshFor is how long the change feed's last proof makes cached records of a
// partition good. Beyond it every check reads through.
const freshFor = 2 * time.Second

// deviceCache holds devices as the store had them. A record counts only while
// the change feed proves that it is still what the store has; when the store
// does not answer, it counts a bounded time longer.
//
// What makes it safe: the feed reports a change before it calls the partition
// fresh again, so a record that was changed is gone before it could count; and
// a record that was read while a change was reported is not kept.
type deviceCache struct {
	records    *otter.Cache[DeviceID, cachedDevice]
	partitions []partitionState
}

type cachedDevice struct {
	device *Device // never changed
	epoch  uint64  // of the partition when the record was read
}

// partitionState is what the change feed has proved of a partition.
type partitionState struct {
	mu      sync.Mutex
	fresh   time.Time // last proof, zero before the first
	changes uint64    // device changes reported
	epoch   uint64    // raised when the feed lost entries: all cached before is void
}

func newDeviceCache(partitions, size int) (*deviceCache, error) {
	records, err := otter.New(&otter.Options[DeviceID, cachedDevice]{MaximumSize: size})
	if err != nil {
		return nil, err
	}
	return &deviceCache{records: records, partitions: make([]partitionState, partitions)}, nil
}

func (c *deviceCache) partition(id DeviceID) *partitionState {
	return &c.partitions[id.Partition(len(c.partitions))]
}

// get returns a cached record that is no older than age, going by the last
// proof of its partition.
func (c *deviceCache) get(id DeviceID, now time.Time, age time.Duration) (*Device, bool) {
	p := c.partition(id)
	p.mu.Lock()
	fresh, epoch := p.fresh, p.epoch
	p.mu.Unlock()
	if fresh.IsZero() || now.Sub(fresh) > age {
		return nil, false
	}
	r, ok := c.records.GetIfPresent(id)
	if !ok || r.epoch != epoch {
		return nil, false
	}
	return r.device, true
}

// reading marks the start of a read from the store.
func (c *deviceCache) reading(id DeviceID) readMark {
	p := c.partition(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	return readMark{changes: p.changes, epoch: p.epoch, proven: !p.fresh.IsZero()}
}

type readMark struct {
	changes, epoch uint64
	proven         bool
}

// put keeps a record that was read after mark, unless something changed in the
// partition meanwhile, or the feed had not begun: then it keeps none.
func (c *deviceCache) put(d *Device, mark readMark) {
	p := c.partition(d.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !mark.proven || p.changes != mark.changes || p.epoch != mark.epoch {
		// What is there may be older still: this process may have changed it.
		c.records.Invalidate(d.ID)
		return
	}
	c.records.Set(d.ID, cachedDevice{device: d, epoch: p.epoch})
}

// forget drops a record that turned out to be of the past.
func (c *deviceCache) forget(id DeviceID) { c.records.Invalidate(id) }

func (c *deviceCache) changed(partition int, id DeviceID) {
	p := &c.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	c.records.Invalidate(id)
}

func (c *deviceCache) lost(partition int) {
	p := &c.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch++
}

func (c *deviceCache) proven(partition int, at time.Time) {
	p := &c.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.After(p.fresh) {
		p.fresh = at
	}
}

// isFresh reports whether the last proof of the partition is no older than age.
func (c *deviceCache) isFresh(partition int, now time.Time, age time.Duration) bool {
	p := &c.partitions[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.fresh.IsZero() && now.Sub(p.fresh) <= age
}

// proofAge returns how old the last proof of the partition is whose proof is the
// oldest, in seconds.
func (c *deviceCache) proofAge(now time.Time) float64 {
	oldest := 0.0
	for i := range c.partitions {
		p := &c.partitions[i]
		p.mu.Lock()
		fresh := p.fresh
		p.mu.Unlock()
		if fresh.IsZero() {
			return math.Inf(1)
		}
		oldest = max(oldest, now.Sub(fresh).Seconds())
	}
	return oldest
}

// allFresh reports whether every partition is fresh.
func (c *deviceCache) allFresh(now time.Time) bool {
	for i := range c.partitions {
		if !c.isFresh(i, now, freshFor) {
			return false
		}
	}
	return true
}
