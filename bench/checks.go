package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/hubgate/hubgate/bench/grpcload"
	"github.com/hubgate/hubgate/internal/pki"
)

// Columns of the checks.
const (
	cpuPerCheck    = "CPU µs/check"
	allocsPerCheck = "allocs/check"
	checksPerSec   = "checks/s"
)

// openRate is far below what any of the servers can do on one processor, so
// that what is measured is how long a check takes and not how long it waits.
const openRate = 2000

// closedCase is one kind of check, asked of hubgate, of the stock server, and
// of the floor: in a closed loop for what it costs, and in an open one for how
// long it takes.
type closedCase struct {
	// requests are asked in turn.
	requests func(*world) ([]grpcload.Request, error)
	allowed  bool
	mostCPU  float64 // of the stock server's
	// mostAllocs is how many more than the floor's; 0: any.
	mostAllocs float64
}

func (c closedCase) run(ctx context.Context, w *world, r *result) error {
	requests, err := c.requests(w)
	if err != nil {
		return err
	}
	var sides []*side
	for _, name := range []string{"hubgate", "stock", "raw"} {
		s, err := w.server(ctx, name)
		if err != nil {
			return err
		}
		accept := anything
		if name == "hubgate" {
			accept = verdict(c.allowed)
		}
		l, err := openLoad(ctx, s, requests, accept)
		if err != nil {
			return err
		}
		defer l.close()
		if err := l.warm(ctx, w.inFlight); err != nil {
			return err
		}
		sides = append(sides, &side{name: name, measure: func() (sample, error) {
			m, err := l.closed(ctx, w.inFlight, w.long)
			if err != nil {
				return nil, err
			}
			took, err := l.open(ctx, openRate, w.long)
			if err == nil {
				percentiles(m, took)
			}
			return m, err
		}})
	}
	if err := measureInTurns(sides, w.rounds); err != nil {
		return err
	}
	r.Columns = []string{cpuPerCheck, allocsPerCheck, checksPerSec, "p50 µs", "p99 µs", "p99.9 µs"}
	r.Rows = rowsOf(sides)
	hubgate, stock, raw := sides[0], sides[1], sides[2]
	r.Targets = []target{ratio(cpuPerCheck, hubgate, stock).atMost(c.mostCPU)}
	if c.mostAllocs > 0 {
		r.Targets = append(r.Targets, more(allocsPerCheck, hubgate, raw).atMost(c.mostAllocs))
	}
	return nil
}

// percentiles adds those of what an open loop took, in microseconds from the
// moment at which a check was due.
func percentiles(into sample, took []time.Duration) {
	slices.Sort(took)
	for name, q := range map[string]float64{"p50 µs": 0.5, "p99 µs": 0.99, "p99.9 µs": 0.999} {
		into[name] = float64(quantile(took, q)) / float64(time.Microsecond)
	}
}

func (w *world) httpChecks() ([]grpcload.Request, error)    { return w.checks(httpCheck, w.own) }
func (w *world) mqttChecks() ([]grpcload.Request, error)    { return w.checks(mqttCheck, w.own) }
func (w *world) foreignChecks() ([]grpcload.Request, error) { return w.checks(httpCheck, w.foreign) }

// checks makes a check for each device of the vendor.
func (w *world) checks(check func(*pki.Identity, int) grpcload.Request, v *vendor) ([]grpcload.Request, error) {
	devices, err := v.chips(w.devices)
	if err != nil {
		return nil, err
	}
	return asks(check, devices), nil
}

// checksOf makes the check of a request for each device.
func checksOf(devices []*pki.Identity) []grpcload.Request { return asks(httpCheck, devices) }

func asks(check func(*pki.Identity, int) grpcload.Request, devices []*pki.Identity) []grpcload.Request {
	requests := make([]grpcload.Request, len(devices))
	for i, d := range devices {
		requests[i] = check(d, i+1)
	}
	return requests
}

// verdict accepts replies that allow, or those that deny.
func verdict(allowed bool) func([]byte) error {
	return func(message []byte) error {
		var reply authv3.CheckResponse
		if err := proto.Unmarshal(message, &reply); err != nil {
			return err
		}
		if (codes.Code(reply.GetStatus().GetCode()) == codes.OK) != allowed {
			return fmt.Errorf("%v", &reply)
		}
		return nil
	}
}

func anything([]byte) error { return nil }
