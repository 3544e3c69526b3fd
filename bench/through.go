package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// inFlightThroughEnvoy is how many devices connect at a time: enough to keep
// the servers' processor busy, also where one waits to be alone.
const inFlightThroughEnvoy = 64

// through measures what goes through several Envoys. open makes what a worker
// does again and again out of an Envoy and the devices that are the worker's
// own; it returns what ends it as well.
func through(ctx context.Context, w *world, each string, names []string, open func(e *edge, own []*device) (do func() error, end func(), err error)) ([]*side, error) {
	chips, err := w.own.chips(w.devices)
	if err != nil {
		return nil, err
	}
	workers := min(inFlightThroughEnvoy, len(chips))
	own := make([][]*device, workers)
	for i, c := range chips {
		own[i%workers] = append(own[i%workers], newDevice(c))
	}
	var sides []*side
	for _, name := range names {
		e, err := w.edge(ctx, name)
		if err != nil {
			return nil, err
		}
		s := &side{name: name, measure: func() (sample, error) { return e.round(w.long, each, own, open) }}
		if _, err := s.measure(); err != nil { // devices come to be known
			return nil, err
		}
		sides = append(sides, s)
	}
	return sides, measureInTurns(sides, w.rounds)
}

// round keeps the Envoy busy for that long.
func (e *edge) round(long time.Duration, each string, own [][]*device, open func(*edge, []*device) (func() error, func(), error)) (sample, error) {
	does := make([]func() error, len(own))
	for i, devices := range own {
		do, end, err := open(e, devices)
		if err != nil {
			return nil, err
		}
		defer end()
		does[i] = do
	}
	envoyCPU, asksCPU, err := e.cpu()
	if err != nil {
		return nil, err
	}
	began, done := time.Now(), make([]int, len(own))
	var group errgroup.Group
	for i, do := range does {
		group.Go(func() error {
			for time.Since(began) < long {
				if err := do(); err != nil {
					return err
				}
				done[i]++
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	took := time.Since(began)
	envoyAfter, asksAfter, err := e.cpu()
	if err != nil {
		return nil, err
	}
	n := 0.0
	for _, d := range done {
		n += float64(d)
	}
	micro := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / n }
	m := sample{each + "s/s": n / took.Seconds(), cpuFor(each): micro(envoyAfter - envoyCPU + asksAfter - asksCPU)}
	if e.asks != nil {
		m["of it ext_authz's"] = micro(asksAfter - asksCPU)
	}
	return m, nil
}

func (e *edge) cpu() (envoy, asks time.Duration, err error) {
	if envoy, err = cpuTime(e.envoy.Pid()); err != nil || e.asks == nil {
		return envoy, 0, err
	}
	asks, err = e.asks.cpu()
	return envoy, asks, err
}

// cpuFor is the column of the processor time of Envoy and whom it asks.
func cpuFor(each string) string { return "CPU µs/" + each }

// tell fills in what such a case found: the rate of the first side is judged by
// that of the second. The processor time is told beside it, as other work on the
// machine disturbs it less, and so is what asking nobody would give.
func (r *result) tell(each string, sides []*side, atLeast float64) {
	rate := each + "s/s"
	r.Columns, r.Rows = []string{rate, cpuFor(each), "of it ext_authz's"}, rowsOf(sides)
	r.Targets = []target{
		ratio(rate, sides[0], sides[1]).atLeast(atLeast), ratio(cpuFor(each), sides[0], sides[1]), ratio(rate, sides[2], sides[1]),
	}
}

// inTurn gives one device after the other, over and over.
func inTurn(devices []*device) func() *device {
	next := -1
	return func() *device {
		next = (next + 1) % len(devices)
		return devices[next]
	}
}

func httpsConnections(ctx context.Context, w *world, r *result) error {
	sides, err := through(ctx, w, "connection", []string{"hubgate", "stock", "none"}, func(e *edge, own []*device) (func() error, func(), error) {
		next := inTurn(own)
		return func() error {
			c, err := next().dial(e.https)
			if err != nil {
				return err
			}
			defer c.hangUp()
			return c.get()
		}, func() {}, nil
	})
	if err != nil {
		return err
	}
	r.tell("connection", sides, 1)
	return nil
}

func httpRequests(ctx context.Context, w *world, r *result) error {
	sides, err := through(ctx, w, "request", []string{"hubgate", "stock", "none"}, func(e *edge, own []*device) (func() error, func(), error) {
		c, err := own[0].dial(e.https)
		if err != nil {
			return nil, nil, err
		}
		return c.get, c.hangUp, c.get()
	})
	if err != nil {
		return err
	}
	r.tell("request", sides, 1.1)
	return nil
}

func mqttConnections(ctx context.Context, w *world, r *result) error {
	sides, err := through(ctx, w, "connection", []string{"module", "stock", "none", "hubgate"}, func(e *edge, own []*device) (func() error, func(), error) {
		next := inTurn(own)
		return func() error {
			d := next()
			c, err := d.dial(e.mqtt)
			if err != nil {
				return err
			}
			defer c.hangUp()
			return c.connect(d.name)
		}, func() {}, nil
	})
	if err != nil {
		return err
	}
	r.tell("connection", sides, 0.95)
	r.Targets = append(r.Targets, ratio("connections/s", sides[0], sides[3]).atLeast(0.95))
	return nil
}
