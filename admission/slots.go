package admission

import (
	"context"
	"sync"
)

// slots bounds how many questions of a hub each of its hooks has before it at a
// time.
type slots struct {
	most int
	mu   sync.Mutex
	of   map[string]*slot
}

type slot struct {
	free  chan struct{}
	users int // those that have or want one
}

func newSlots(most int) slots { return slots{most: most, of: make(map[string]*slot)} }

// take waits for a slot of that hub and hook. It is given back with release.
func (s *slots) take(ctx context.Context, hook string) (release func(), err error) {
	s.mu.Lock()
	of := s.of[hook]
	if of == nil {
		of = &slot{free: make(chan struct{}, s.most)}
		s.of[hook] = of
	}
	of.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if of.users--; of.users == 0 {
			delete(s.of, hook)
		}
	}
	select {
	case of.free <- struct{}{}:
		return func() { <-of.free; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
