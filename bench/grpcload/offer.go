package grpcload

import (
	"context"
	"time"
)

// Offer is a load that does not adapt to what the server can take, as the
// devices behind an Envoy do not.
type Offer struct {
	// Every is how often a call is due, and Long for how long.
	Every, Long time.Duration
	// Limit is how many calls may be under way. One that is due when as many are
	// is not made, as Envoy's circuit breaker has it.
	Limit int
	// Patience is how long after it was due a call is waited for. Then it is
	// given up, and the server told.
	Patience time.Duration
	// Which picks the request of the nth call that is made. Nil: they are sent in
	// turn.
	Which func(n int) int
	// Good tells whether an answer is what the caller hoped for.
	Good func(message []byte) bool
}

// Offered is what became of the calls of an Offer.
type Offered struct {
	// TurnedAway were not made, as too many were under way.
	TurnedAway int
	// Made were.
	Made []Call
}

// Call is one that was made: which request it was, when it was due, counted from
// the beginning, whether it was answered in time and as hoped, and how long that
// took from when it was due.
type Call struct {
	Request   int
	Due, Took time.Duration
	Good      bool
}

// Offer makes calls as it says. One that fails is no error.
func (c *Conn) Offer(ctx context.Context, o Offer) (Offered, error) {
	var (
		out     Offered
		start   = time.Now()
		total   = int(o.Long / o.Every)
		came    int                    // calls that were due so far
		waiting []time.Duration        // for the connection's window: when each was due
		pending = make(map[uint32]int) // by stream: which of those made
		oldest  int                    // of those made, all before are ended
		streams []uint32               // of those made
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go c.tick(ctx, time.Millisecond)
	lost := func(id uint32) {
		if n, ok := pending[id]; ok {
			out.Made[n].Good = false
			delete(pending, id)
		}
	}
	err := c.load(ctx, start.Add(o.Long),
		&calls{
			ended: func(id uint32) {
				if n, ok := pending[id]; ok {
					call := &out.Made[n]
					call.Took = time.Since(start) - call.Due
					call.Good = call.Good && call.Took <= o.Patience
				}
				delete(pending, id)
			},
			failed: lost,
			answer: func(id uint32, message []byte) {
				if n, ok := pending[id]; ok {
					out.Made[n].Good = o.Good(message)
				}
			},
		},
		func() (send, done bool) {
			now := time.Since(start)
			for ; oldest < len(streams); oldest++ {
				id := streams[oldest]
				n, ok := pending[id]
				if ok && now-out.Made[n].Due <= o.Patience {
					break
				}
				if ok {
					lost(id)
					c.reset(id)
				}
			}
			for ; came < total && time.Duration(came)*o.Every <= now; came++ {
				if len(waiting)+len(pending) < o.Limit {
					waiting = append(waiting, time.Duration(came)*o.Every)
				} else {
					out.TurnedAway++
				}
			}
			for len(waiting) > 0 && now-waiting[0] > o.Patience {
				waiting = waiting[1:]
			}
			if send = len(waiting) > 0; send && o.Which != nil {
				c.next = o.Which(len(out.Made))
			}
			return send, came == total && len(waiting)+len(pending) == 0
		},
		func(id uint32) {
			pending[id] = len(out.Made)
			out.Made, streams = append(out.Made, Call{Request: c.next, Due: waiting[0]}), append(streams, id)
			waiting = waiting[1:]
		})
	return out, err
}
