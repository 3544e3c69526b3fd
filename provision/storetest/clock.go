package storetest

import (
	"sync"
	"time"
)

// Clock is the time as a store under test sees it: the real one, until a test
// moves it. The zero value is ready.
type Clock struct {
	mu     sync.Mutex
	ahead  time.Duration
	frozen time.Time
}

// Now is the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen.IsZero() {
		return c.frozen
	}
	return time.Now().Add(c.ahead)
}

// freeze stops the clock, so that only Advance moves it, and returns its time.
func (c *Clock) freeze() time.Time {
	now := c.Now().UTC().Round(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = now
	return now
}

// Advance moves the clock. A server's own clock stays as it is.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
	if !c.frozen.IsZero() {
		c.frozen = c.frozen.Add(d)
	}
}
