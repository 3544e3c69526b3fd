package grpcload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// drainTimeout is what calls in flight have to be answered when a load ends.
const drainTimeout = 10 * time.Second

// Closed keeps so many calls in flight for that long, waits for those that are
// still in flight, and returns how many were answered.
func (c *Conn) Closed(ctx context.Context, inFlight int, long time.Duration) (int, error) {
	var (
		answered, free = 0, inFlight
		over           = false
		end            = time.Now().Add(long)
	)
	timer := time.AfterFunc(long, func() {
		c.mu.Lock()
		over = true
		c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer timer.Stop()
	err := c.load(ctx, end,
		func(uint32) { answered++; free++ },
		func() (send bool, done bool) { return free > 0 && !over, over && free == inFlight },
		func(uint32) { free-- })
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
	ticker := time.NewTicker(min(every, 200*time.Microsecond))
	defer ticker.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				c.changed.Broadcast()
			}
		}
	}()
	err := c.load(ctx, start.Add(long),
		func(id uint32) {
			took = append(took, time.Since(due[id]))
			delete(due, id)
		},
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

// load writes calls when want says so, and reads answers, until want says that
// all is done. The three functions are called with the lock held.
func (c *Conn) load(ctx context.Context, end time.Time, ended func(uint32), want func() (send, done bool), sent func(uint32)) error {
	ctx, cancel := context.WithDeadlineCause(ctx, end.Add(drainTimeout), errors.New("calls are not answered"))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	defer stop()
	reading, endReading := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	reader.Go(func() {
		if err := c.readWhile(reading, func(id uint32) {
			c.mu.Lock()
			ended(id)
			c.mu.Unlock()
			c.changed.Signal()
		}); err != nil {
			c.fail(err)
		}
	})
	err := c.write1(want, sent)
	stop()
	endReading()
	reader.Wait()
	return err
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
