package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// courtesyShare is the part of the processors that chains not seen before
	// get where known devices would take all: one of so many.
	courtesyShare = 20
	// courtesyWindow is what is looked back on to tell whether there are known
	// devices, and activeKnown how many of their checks there have to be in it.
	courtesyWindow = 20 * time.Millisecond
	activeKnown    = 2
	// quiet is how soon a processor is there again where nobody else waits for it.
	quiet = 100 * time.Microsecond
	// aWhile is how long nobody may have waited before a chain goes ahead.
	aWhile = 200 * time.Microsecond
)

// errNoTurn is for whoever would wait for longer than his caller does.
var errNoTurn = errors.New("known devices need the processors, and too many chains that were not seen before wait for what is left")

// courtesy lets known devices go first where processors are scarce. To parse and
// to verify a chain takes what ten to a hundred checks of recognised devices
// take, and whoever sends chains can make up any number. As many are worked on at
// once as there are processors. While there are known devices, the next one
// begins when nobody else waits for a processor, or once the last one was a small
// part of its processor's time. So a crowd of new devices, or all of them after a
// restart, has all that there is, and a flood beside known devices what they
// leave.
type courtesy struct {
	processors int64
	// slots are the processors: each is there while no chain is worked on, and is
	// the moment until which others go first.
	slots chan time.Time
	// pass lets others go first, and tells how long they took; computed is this
	// thread's processor time so far.
	pass, computed func() time.Duration

	known   atomic.Int64 // checks of recognised devices so far
	waiting atomic.Int64
	cost    atomic.Int64 // what work takes, in nanoseconds, smoothed
	scarce  atomic.Bool

	mu     sync.Mutex // of the window
	began  time.Time
	before int64 // known, then
	active bool
}

func newCourtesy() (*courtesy, error) {
	turn, err := newTurnstile()
	if err != nil {
		return nil, err
	}
	n := runtime.GOMAXPROCS(0)
	c := &courtesy{processors: int64(n), slots: make(chan time.Time, n), pass: turn.pass, computed: threadTime}
	for range n {
		c.slots <- time.Time{}
	}
	return c, nil
}

// do does work on a chain when its turn comes. The error is errNoTurn, or the
// context's, if that ended before.
func (c *courtesy) do(ctx context.Context, work func()) error {
	ahead := c.waiting.Add(1)
	now, err := c.wait(ctx, ahead)
	c.waiting.Add(-1)
	if err != nil {
		return err
	}
	// The clock of a thread does not count what else ran meanwhile. Work seldom
	// goes on on another thread.
	began := c.computed()
	defer func() {
		spent := min(max(0, c.computed()-began), time.Since(now))
		c.cost.Store((3*c.cost.Load() + int64(spent)) / 4)
		c.slots <- now.Add(courtesyShare * spent)
	}()
	work()
	return nil
}

// wait returns the moment at which the work begins, and with it a slot.
func (c *courtesy) wait(ctx context.Context, ahead int64) (now time.Time, err error) {
	// Half of the time that is left is for what comes then.
	if deadline, ok := ctx.Deadline(); ok && c.scarce.Load() {
		if time.Duration(ahead*courtesyShare*c.cost.Load()/c.processors) > time.Until(deadline)/2 {
			return now, errNoTurn
		}
	}
	var until time.Time
	select {
	case until = <-c.slots:
	case <-ctx.Done():
		return now, ctx.Err()
	}
	for {
		now = time.Now()
		if !c.knownActive(now) {
			c.scarce.Store(false)
			return now, nil
		}
		if !now.Before(until) {
			return now, nil
		}
		if c.alone() {
			c.scarce.Store(false)
			return time.Now(), nil
		}
		c.scarce.Store(true)
		if err := ctx.Err(); err != nil {
			c.slots <- until
			return now, err
		}
	}
}

// alone lets others go first, and tells whether there were none for a while: an
// answer that is on its way brings the next check, so that even busy processors
// have nothing to do now and then.
func (c *courtesy) alone() bool {
	for began := time.Now(); time.Since(began) < aWhile; {
		if c.pass() >= quiet {
			return false
		}
	}
	return true
}

// knownActive tells whether there are known devices that would have to wait.
func (c *courtesy) knownActive(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.began) >= courtesyWindow {
		known := c.known.Load()
		c.active = known-c.before >= activeKnown
		c.began, c.before = now, known
	}
	return c.active
}

// threadTime is what this thread has computed so far.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // there is such a clock
	return time.Duration(t.Nano())
}

// turnstile lets others go first: a goroutine that passes it goes on when all
// have run that could run before, those among them for whom something waits in a
// socket. runtime.Gosched alone lets those run that run anyway, and Go does not
// look at sockets as long as there are any. The way through it is a pipe, of which
// Go learns together with the sockets.
type turnstile struct {
	mu      sync.Mutex
	in, out *os.File // closed when nobody has them any more
	raw     syscall.RawConn
}

func newTurnstile() (*turnstile, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	raw, err := out.SyscallConn()
	return &turnstile{in: in, out: out, raw: raw}, err
}

// pass lets others go first, and tells how long they took.
func (t *turnstile) pass() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	began := time.Now()
	pushed := false
	_ = t.raw.Read(func(fd uintptr) bool { // a pipe of our own does not fail
		var one [1]byte
		if !pushed { // Go waits for what is pushed now
			pushed = true
			_, err := t.in.Write(one[:])
			return err != nil
		}
		_, _ = unix.Read(int(fd), one[:])
		return true
	})
	runtime.Gosched() // those whose sockets were looked at
	return time.Since(began)
}
