package grpcload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// drainTimeout is what calls in flight have to be answered when a load ends.
const drainTimeout = 10 * time.Second

// countTimeout is what a number of calls has to be answered.
const countTimeout = time.Minute

// Closed keeps so many calls in flight for that long, waits for those that are
// still in flight, and returns how many were answered.
func (c *Conn) Closed(ctx context.Context, inFlight int, long time.Duration) (int, error) {
	over := false
	timer := time.AfterFunc(long, func() {
		c.mu.Lock()
		over = true
		c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer timer.Stop()
	return c.closed(ctx, inFlight, time.Now().Add(long), func(int) bool { return over })
}

// Count keeps so many calls in flight until as many were sent, waits for those
// that are still in flight, and returns how many were answered.
func (c *Conn) Count(ctx context.Context, inFlight, calls int) (int, error) {
	return c.closed(ctx, inFlight, time.Now().Add(countTimeout), func(sent int) bool { return sent >= calls })
}

func (c *Conn) closed(ctx context.Context, inFlight int, end time.Time, over func(sent int) bool) (int, error) {
	answered, sent := 0, 0
	err := c.load(ctx, end,
		&calls{ended: func(uint32) { answered++ }},
		func() (send, done bool) {
			over := over(sent)
			return !over && sent-answered < inFlight, over && sent == answered
		},
		func(uint32) { sent++ })
	return answered, err
}

// Open sends a call every interval for that long, whatever is answered, and
// returns how long each took from the moment it was due. At most limit calls
// are in flight; one that had to wait for that is charged for it.
func (c *Conn) Open(ctx context.Context, every, long time.Duration, limit int) ([]time.Duration, error) {
	var (
		start = time.Now()
		total = int(long / every)
		due   = make(map[uint32]time.Time, limit)
		took  = make([]time.Duration, 0, total)
		sent  = 0
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.tick(ctx, 50*time.Microsecond)
	err := c.load(ctx, start.Add(long),
		&calls{ended: func(id uint32) {
			took = append(took, time.Since(due[id]))
			delete(due, id)
		}},
		func() (send bool, done bool) {
			if sent == total {
				return false, len(due) == 0
			}
			return len(due) < limit && time.Since(start) >= time.Duration(sent)*every, false
		},
		func(id uint32) {
			due[id] = start.Add(time.Duration(sent) * every)
			sent++
		})
	return took, err
}

// tick wakes the writer until the context ends. Go's own timers are late by up to
// a millisecond where nothing else runs, which is longer than a call takes.
func (c *Conn) tick(ctx context.Context, every time.Duration) {
	pause := unix.NsecToTimespec(int64(every))
	for ctx.Err() == nil {
		_ = unix.Nanosleep(&pause, nil) // a signal may cut it short
		c.changed.Broadcast()
	}
}

// load writes calls when want says so, and reads answers, until want says that
// all is done. All functions are called with the lock held.
func (c *Conn) load(ctx context.Context, end time.Time, of *calls, want func() (send, done bool), sent func(uint32)) error {
	ctx, cancel := context.WithDeadlineCause(ctx, end.Add(drainTimeout), errors.New("calls are not answered"))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	defer stop()
	of = c.locked(of)
	reading, endReading := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	reader.Go(func() {
		if err := c.readWhile(reading, of); err != nil {
			c.fail(err)
		}
	})
	err := c.write1(want, sent)
	stop()
	endReading()
	reader.Wait()
	return err
}

// locked calls with the lock held, and wakes the writer. Answers to what an
// earlier load gave up are none of this one's.
func (c *Conn) locked(of *calls) *calls {
	c.mu.Lock()
	first := c.nextID
	c.mu.Unlock()
	with := func(f func(uint32)) func(uint32) {
		if f == nil {
			return nil
		}
		return func(id uint32) {
			if id < first {
				return
			}
			c.mu.Lock()
			f(id)
			c.mu.Unlock()
			c.changed.Signal()
		}
	}
	safe := &calls{ended: with(of.ended), failed: with(of.failed)}
	if of.answer != nil {
		safe.answer = func(id uint32, message []byte) {
			c.mu.Lock()
			defer c.mu.Unlock()
			of.answer(id, message)
		}
	}
	return safe
}

// write1 is the writing half of a load.
func (c *Conn) write1(want func() (send, done bool), sent func(uint32)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		send, done := want()
		size := int64(len(c.calls[c.next].data))
		switch {
		case c.failed != nil:
			return c.failed
		case done:
			return c.out.Flush()
		case size > c.perCall:
			return fmt.Errorf("grpcload: a request of %d bytes exceeds a stream's window", size)
		case send && size <= c.sendLeft:
			sent(c.write(c.next))
			c.next = (c.next + 1) % len(c.calls)
		default:
			if err := c.out.Flush(); err != nil {
				return err
			}
			c.changed.Wait()
		}
	}
}
