package provision

import (
	"context"
	"sync"
)

// rounds tells when the checks that began under old settings have ended,
// without holding up those that begin under new ones.
type rounds struct {
	mu      sync.Mutex
	current *round
}

// round counts the checks in flight since the last turn.
type round struct {
	all     *rounds
	running int
	turned  bool
	ended   chan struct{}
}

func (r *rounds) enter() *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		r.current = &round{all: r, ended: make(chan struct{})}
	}
	r.current.running++
	return r.current
}

func (r *round) leave() {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.running--
	r.endIfOver()
}

func (r *round) endIfOver() {
	if r.turned && r.running == 0 {
		close(r.ended)
	}
}

// turn begins a new round and waits for the checks of the old one to end.
func (r *rounds) turn(ctx context.Context) error {
	r.mu.Lock()
	old := r.current
	r.current = nil
	if old != nil {
		old.turned = true
		old.endIfOver()
	}
	r.mu.Unlock()
	if old == nil {
		return nil
	}
	select {
	case <-old.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
