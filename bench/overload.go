package main

import (
	"bytes"
	"context"
	"time"

	"github.com/hubgate/hubgate/bench/grpcload"
)

const (
	// envoys are how many ask, with so many threads each, which have a connection
	// each.
	envoys, envoyThreads = 4, 2
	// overloadFactor is how many times what hubgate can take is offered.
	overloadFactor = 5
	// newOneOf is how many devices come for each that was never there.
	newOneOf = 20
	// checkPatience is how long an Envoy waits for an answer.
	checkPatience = time.Second
)

// Columns of what is offered.
const (
	goodput       = "allowed in time/s"
	allowed       = "% of those asked"
	cpuPerAllowed = "CPU µs/allowed"
)

// overload offers several times what hubgate can take, by devices that it knows
// and by some that it does not, and half of what it can take before and after.
// Envoys turn away what is beyond their circuit breaker, as the generated
// configuration has it.
func overload(ctx context.Context, w *world, r *result) error {
	s, err := w.startHubgate(ctx, hubgateSpec{name: "overload", store: "bolt:hubgate.db"})
	if err != nil {
		return err
	}
	defer s.process.Kill()
	requests, err := w.httpChecks()
	if err != nil {
		return err
	}
	for i := range requests {
		requests[i].Timeout = checkPatience
	}
	known, err := openLoad(ctx, s, requests, verdict(true))
	if err != nil {
		return err
	}
	defer known.close()
	if err := known.warm(ctx, w.inFlight); err != nil {
		return err
	}
	peak, before, during, strange, after := &side{name: "peak"}, &side{name: "half of it, before"},
		&side{name: "overload: known devices"}, &side{name: "overload: new devices"}, &side{name: "half of it, after"}
	for range w.rounds {
		most, err := known.closed(ctx, w.inFlight, w.long)
		if err != nil {
			return err
		}
		rate := most[checksPerSec]
		crowd, err := w.crowd(ctx, s, requests, int(2*rate*w.long.Seconds()/newOneOf))
		if err != nil {
			return err
		}
		var rounds [3][2]sample
		for i, factor := range []float64{0.5, overloadFactor, 0.5} {
			if rounds[i], err = crowd.offer(ctx, factor*rate, w.long, i == 1); err != nil {
				break
			}
		}
		crowd.close()
		if err != nil {
			return err
		}
		peak.samples = append(peak.samples, sample{goodput: rate, cpuPerAllowed: most[cpuPerCheck]})
		before.samples = append(before.samples, rounds[0][0])
		during.samples, strange.samples = append(during.samples, rounds[1][0]), append(strange.samples, rounds[1][1])
		after.samples = append(after.samples, rounds[2][0])
	}
	r.Columns, r.Rows = []string{goodput, allowed, cpuPerAllowed, "p50 µs", "p99 µs"}, rowsOf([]*side{peak, before, during, strange, after})
	r.Targets = []target{
		ratio(goodput, during, peak).atLeast(0.9),
		ratio(cpuPerAllowed, during, peak),
		ratio(goodput, after, before).atLeast(0.99),
		ratio("p99 µs", after, before),
		ratio(allowed, during, strange).atLeast(1),
	}
	return nil
}

// crowd is a load of devices that hubgate knows, and of some that it does not.
type crowd struct {
	*load
	known []int // by connection: how many of its requests, the first, are of those that it knows
}

// crowd opens a load of those and of so many devices that were never there.
func (w *world) crowd(ctx context.Context, s *server, known []grpcload.Request, unseen int) (*crowd, error) {
	made := len(w.own.made)
	chips, err := w.own.chips(made + unseen)
	if err != nil {
		return nil, err
	}
	requests := known[:len(known):len(known)]
	for i, c := range chips[made:] {
		r := httpCheck(c, made+i)
		r.Timeout = checkPatience
		requests = append(requests, r)
	}
	const n = envoys * envoyThreads
	l, err := openLoadOver(ctx, n, s, requests, anything)
	if err != nil {
		return nil, err
	}
	c := &crowd{load: l}
	for i := range l.conns {
		c.known = append(c.known, (len(known)+n-1-i)/n)
	}
	return c, nil
}

// offer offers so many checks a second, and tells what became of those of known
// devices, and of those that were never there if they come, too.
func (c *crowd) offer(ctx context.Context, perSecond float64, long time.Duration, newOnes bool) (of [2]sample, err error) {
	before, err := c.server.cpu()
	if err != nil {
		return of, err
	}
	all, err := c.load.offer(ctx, perSecond, long, func(conn int) func(int) int {
		known, next, end := c.known[conn], c.known[conn], c.conns[conn].Questions()
		return func(n int) int {
			if newOnes && n%newOneOf == 0 && next < end {
				next++
				return next - 1
			}
			return n % known
		}
	})
	if err != nil {
		return of, err
	}
	after, err := c.server.cpu()
	if err != nil {
		return of, err
	}
	var asked, within [2]int // within long, those that were allowed
	var took [2][]time.Duration
	for i, o := range all {
		for _, call := range o.Made {
			who := 0
			if call.Request >= c.known[i] {
				who = 1
			}
			asked[who]++
			if call.Good {
				took[who] = append(took[who], call.Took)
				if call.Due+call.Took <= long {
					within[who]++
				}
			}
		}
	}
	for who, t := range took {
		of[who] = sample{goodput: float64(within[who]) / long.Seconds(), allowed: 100 * float64(len(t)) / float64(max(1, asked[who]))}
		if len(t) > 0 {
			percentiles(of[who], t)
		}
	}
	of[0][cpuPerAllowed] = float64(after-before) / float64(time.Microsecond) / float64(max(1, len(took[0])+len(took[1])))
	return of, nil
}

// allows tells whether a reply allows: its first field, a status, has no code
// then.
func allows(reply []byte) bool { return bytes.HasPrefix(reply, []byte{1<<3 | 2, 0}) }
