package session

import (
	"context"
	"sync"
)

// task is a piece of work that may wait for the store.
type task func(ctx context.Context)

// queue hands tasks to a fixed number of workers, first come, first served. It
// has no bound of its own: whoever adds makes sure that what it adds for is
// bounded, and waits at most once.
type queue struct {
	mu    sync.Mutex
	ready sync.Cond
	tasks []task
	ended bool
}

func newQueue() *queue {
	q := new(queue)
	q.ready.L = &q.mu
	return q
}

func (q *queue) add(t task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks = append(q.tasks, t)
	q.ready.Signal()
}

// length is how many tasks wait.
func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.tasks)
}

// run works until the context ends. It can be called once.
func (q *queue) run(ctx context.Context, workers int) {
	defer context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.ended = true
		q.ready.Broadcast()
	})()
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for t := q.next(); t != nil; t = q.next() {
				t(ctx)
			}
		})
	}
	group.Wait()
}

// next waits for a task; nil when it is over.
func (q *queue) next() task {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.tasks) == 0 && !q.ended {
		q.ready.Wait()
	}
	if q.ended {
		return nil
	}
	t := q.tasks[0]
	q.tasks[0] = nil
	q.tasks = q.tasks[1:]
	return t
}
