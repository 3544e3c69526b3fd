package provision

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newTestCourtesy is for one processor, beside others who take so long before
// they let it go.
func newTestCourtesy(t *testing.T, others *time.Duration) *courtesy {
	t.Helper()
	c, err := newCourtesy()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.processors, c.slots = 1, make(chan time.Time, 1)
	c.slots <- time.Time{}
	c.computed = func() time.Duration { return time.Since(began) }
	c.pass = func() time.Duration {
		time.Sleep(*others)
		return *others
	}
	return c
}

// serve answers checks of known devices for a while.
func (c *courtesy) serve() {
	c.knownActive(time.Now())
	c.known.Add(activeKnown)
	time.Sleep(courtesyWindow)
	c.knownActive(time.Now())
}

// TestCourtesy: chains get a part of a processor while known devices wait for it,
// and else all.
func TestCourtesy(t *testing.T) {
	const takes = time.Millisecond
	for _, r := range []struct {
		name   string
		known  bool
		others time.Duration
		part   time.Duration // one of so many
	}{
		{"nobody is known", false, time.Millisecond, 1},
		{"nobody else waits", true, quiet / 2, 1},
		{"known devices wait", true, time.Millisecond, courtesyShare},
	} {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				others := r.others
				c := newTestCourtesy(t, &others)
				began, done := time.Now(), 0
				for time.Since(began) < time.Second {
					if r.known {
						c.known.Add(activeKnown)
					}
					if err := c.do(t.Context(), func() { time.Sleep(takes) }); err != nil {
						t.Fatal(err)
					}
					done++
				}
				// The first few come before a look at who is there; a look takes time.
				if want := int(time.Second / takes / r.part); done < want*8/10 || done > want+want/10+int(courtesyWindow/takes) {
					t.Errorf("%d chains in a second, want some %d", done, want)
				}
			})
		})
	}
}

// TestCourtesyOneAtATime: a processor works on one chain at once.
func TestCourtesyOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		others := time.Duration(0)
		c := newTestCourtesy(t, &others)
		var at, most atomic.Int64
		for range 10 {
			go func() {
				_ = c.do(t.Context(), func() {
					most.Store(max(most.Load(), at.Add(1)))
					time.Sleep(time.Millisecond)
					at.Add(-1)
				})
			}()
		}
		time.Sleep(time.Second)
		if most.Load() != 1 || at.Load() != 0 {
			t.Errorf("%d at once, %d did not end", most.Load(), at.Load())
		}
	})
}

// TestCourtesyEnds: who waits in vain is told so, at once if it is clear, and
// keeps no place.
func TestCourtesyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		others := time.Millisecond
		c := newTestCourtesy(t, &others)
		long := func() { time.Sleep(50 * time.Millisecond) }
		c.serve()
		if err := c.do(t.Context(), long); err != nil {
			t.Fatal(err)
		}
		c.serve()
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := c.do(soon, long); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beside known devices, with little time: %v", err)
		}
		began := time.Now()
		if err := c.do(soon, long); !errors.Is(err, errNoTurn) && !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 0 {
			t.Errorf("with no time left: %v after %s", err, time.Since(began))
		}
		later, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := c.do(later, long); !errors.Is(err, errNoTurn) || time.Since(began) != 0 {
			t.Errorf("where the wait is longer than the time: %v after %s", err, time.Since(began))
		}
		time.Sleep(2 * courtesyWindow)
		if err := c.do(t.Context(), long); err != nil || len(c.slots) != 1 {
			t.Errorf("afterwards: %v, %d processors", err, len(c.slots))
		}
		func() {
			defer func() { _ = recover() }()
			_ = c.do(t.Context(), func() { panic("in work") })
		}()
		if len(c.slots) != 1 {
			t.Errorf("%d processors after a panic", len(c.slots))
		}
	})
}

// TestTurnstile: whoever has something to read runs before one who passes, but
// for a few. Waiting for Go to take the processor away would take it millions.
func TestTurnstile(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	turn, err := newTurnstile()
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	in, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	var read atomic.Int64
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := out.Read(b); err != nil {
				return
			}
			read.Add(1)
		}
	}()
	const bytes, most = 1000, 100_000
	passes := 0
	for i := range int64(bytes) {
		if _, err := in.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		// A thread that has heard of the byte may take a while to tell.
		for ; read.Load() != i+1 && passes < most; passes++ {
			turn.pass()
		}
	}
	if passes >= most || passes == 0 {
		t.Errorf("%d bytes were read after %d passes of %d", read.Load(), passes, bytes)
	}
}
