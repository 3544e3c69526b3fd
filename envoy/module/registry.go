package main

import "sync"

// registry gives C numbers for what it may not have pointers to.
type registry struct {
	mu   sync.RWMutex
	list []*connection
	free []uintptr
}

var connections registry

// add gives the connection's number, never 0.
func (r *registry) add(c *connection) uintptr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.free); n > 0 {
		handle := r.free[n-1]
		r.free = r.free[:n-1]
		r.list[handle-1] = c
		return handle
	}
	r.list = append(r.list, c)
	return uintptr(len(r.list))
}

func (r *registry) get(handle uintptr) *connection {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list[handle-1]
}

func (r *registry) remove(handle uintptr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[handle-1] = nil
	r.free = append(r.free, handle)
}
