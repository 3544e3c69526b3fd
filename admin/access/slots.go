package access

import (
	"fmt"
	"sync"
)

// Slots bound what is done at once: by each principal, so that none takes all of
// them, and by all together. It is safe for concurrent use.
type Slots struct {
	code, doing, remedy string
	each, all           int

	mu    sync.Mutex
	taken map[string]int
	total int
}

// NewSlots makes slots of which all can be taken, by a principal at most a
// quarter. Code, doing (`event streams are open`) and remedy (`close one`) are
// what a Busy says.
func NewSlots(code, doing, remedy string, all int) *Slots {
	return &Slots{code: code, doing: doing, remedy: remedy, each: (all + 3) / 4, all: all, taken: make(map[string]int)}
}

// Take takes a slot and returns what gives it back, or a *Busy.
func (s *Slots) Take(p Principal) (free func(), err error) {
	who, each := p.Identity(), s.each
	if p == Local() {
		each = s.all // who opens the socket is not told apart
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.total >= s.all:
		return nil, &Busy{Code: s.code, text: fmt.Sprintf("%d %s already: %s", s.all, s.doing, s.remedy)}
	case s.taken[who] >= each:
		return nil, &Busy{Code: s.code, Own: true, text: fmt.Sprintf("%d %s already for %q: %s", each, s.doing, p.Name, s.remedy)}
	}
	s.taken[who]++
	s.total++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.total--
		if s.taken[who]--; s.taken[who] == 0 {
			delete(s.taken, who)
		}
	}), nil
}

// Busy says that there is no slot.
type Busy struct {
	Code string
	// Own is set if the principal has as many as it may, else all are taken.
	Own  bool
	text string
}

// Error implements error.
func (b *Busy) Error() string { return b.text }
