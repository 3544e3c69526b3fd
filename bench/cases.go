package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/hubgate/hubgate/bench/grpcload"
)

// closedCase is one kind of check, asked of hubgate, of the stock server, and
// of the floor.
type closedCase struct {
	name, what string
	// requests are asked in turn.
	requests func(w *world) ([]grpcload.Request, error)
	allowed  bool
	// most of the stock server's CPU time per check that hubgate may take.
	most float64
}

var closedCases = []closedCase{
	{"known-http", "known device, HTTP request", func(w *world) ([]grpcload.Request, error) { return w.checks(httpCheck, w.own) }, true, 0.5},
	{"known-mqtt", "known device, MQTT connection with its session", func(w *world) ([]grpcload.Request, error) { return w.checks(tcpCheck, w.own) }, true, 1.5},
	{"foreign-again", "chain of another vendor, seen before", func(w *world) ([]grpcload.Request, error) { return w.checks(httpCheck, w.foreign) }, false, 0.6},
}

// checks makes a check for each of some devices of the vendor.
func (w *world) checks(check func([]*x509.Certificate, int) grpcload.Request, v *vendor) ([]grpcload.Request, error) {
	requests := make([]grpcload.Request, w.devices)
	for i := range requests {
		chain, err := v.chain(fmt.Sprintf("sensor-%06d", i))
		if err != nil {
			return nil, err
		}
		requests[i] = check(chain, i+1)
	}
	return requests, nil
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

// world is what the cases share: the vendors and the servers.
type world struct {
	devices             int
	own, foreign        *vendor
	hubgate, stock, raw *server
}

// figures are what a case found, medians over the rounds.
type figures struct {
	CPU    float64 `json:"cpu_microseconds"`
	Allocs float64 `json:"allocations"`
	Rate   float64 `json:"checks_per_second"`
	// Of an open loop at openRate checks a second, in microseconds from the
	// moment at which a check was due.
	P50  float64 `json:"p50_microseconds"`
	P99  float64 `json:"p99_microseconds"`
	P999 float64 `json:"p999_microseconds"`
}

// openRate is far below what any of the servers can do on one processor, so
// that what is measured is how long a check takes and not how long it waits.
const openRate = 2000

// result is a case's outcome.
type result struct {
	Case    string             `json:"case"`
	What    string             `json:"what"`
	Servers map[string]figures `json:"servers"`
	// Ratio is the median over the rounds of hubgate's CPU time per check by
	// the stock server's.
	Ratio float64 `json:"ratio_cpu"`
	// Target is what the ratio may be at most.
	Target float64 `json:"target"`
}

// run measures a closed case.
func (c closedCase) run(ctx context.Context, w *world, o options) (result, error) {
	requests, err := c.requests(w)
	if err != nil {
		return result{}, err
	}
	servers := []*server{w.stock, w.hubgate, w.raw}
	loads := make([]*load, len(servers))
	for i, s := range servers {
		accept := anything
		if s == w.hubgate {
			accept = verdict(c.allowed)
		}
		l, err := openLoad(ctx, s, requests, accept)
		if err != nil {
			return result{}, err
		}
		defer l.close()
		// Caches fill, and a first connection is no known device's.
		if _, err := l.closed(ctx, o.inFlight, o.long/2); err != nil {
			return result{}, err
		}
		loads[i] = l
	}
	rounds := make([][]round, len(servers))
	for range o.rounds {
		for i, l := range loads {
			r, err := l.closed(ctx, o.inFlight, o.long)
			if err != nil {
				return result{}, err
			}
			rounds[i] = append(rounds[i], r)
		}
	}
	out := result{Case: c.name, What: c.what, Servers: make(map[string]figures), Target: c.most}
	ratios := make([]round, o.rounds)
	for i := range ratios {
		ratios[i].CPU = rounds[1][i].CPU / rounds[0][i].CPU
	}
	out.Ratio = median(ratios, func(r round) float64 { return r.CPU })
	for i, s := range servers {
		took, err := loads[i].open(ctx, openRate, o.long)
		if err != nil {
			return result{}, err
		}
		micro := func(q float64) float64 { return float64(quantile(took, q)) / float64(time.Microsecond) }
		out.Servers[s.name] = figures{
			P50: micro(0.5), P99: micro(0.99), P999: micro(0.999),
			CPU:    median(rounds[i], func(r round) float64 { return r.CPU }),
			Allocs: median(rounds[i], func(r round) float64 { return r.Allocs }),
			Rate:   median(rounds[i], func(r round) float64 { return r.Rate }),
		}
	}
	return out, nil
}
