package fleet

import (
	"context"
	"sync"
	"time"

	"github.com/hubgate/hubgate/provision"
)

const (
	// sessionPage is how many sessions are read at once to count devices.
	sessionPage = 1000
	// countWorth is how many times as long as it took to count a count is good:
	// whoever looks at a hub all the time costs the store little.
	countWorth = 20
)

// counts keeps how many devices of a hub are connected for a while, as that is
// not kept by the store: sessions end without a word when their Envoy's lease
// runs out.
type counts struct {
	mu   sync.Mutex
	hubs map[provision.HubID]count
}

type count struct {
	devices int
	until   time.Time
}

type sessionLister interface {
	HubSessions(ctx context.Context, hub provision.HubID, cursor string, limit int) ([]provision.Session, string, error)
}

func (c *counts) of(ctx context.Context, store sessionLister, hub provision.HubID) (int, error) {
	start := time.Now()
	c.mu.Lock()
	known, ok := c.hubs[hub]
	c.mu.Unlock()
	if ok && start.Before(known.until) {
		return known.devices, nil
	}
	connected := make(map[provision.DeviceID]struct{})
	for cursor := ""; ; {
		sessions, next, err := store.HubSessions(ctx, hub, cursor, sessionPage)
		if err != nil {
			return 0, err
		}
		for _, s := range sessions {
			if s.Confirmed {
				connected[s.Device] = struct{}{}
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hubs == nil {
		c.hubs = make(map[provision.HubID]count)
	}
	for id, old := range c.hubs { // of hubs that nobody asks for, or that are gone
		if now.After(old.until) {
			delete(c.hubs, id)
		}
	}
	c.hubs[hub] = count{len(connected), now.Add(countWorth * now.Sub(start))}
	return len(connected), nil
}
