package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/bench/grpcload"
)

// connections is how many Envoy threads the generator stands for.
const connections = 2

// load asks a server the same questions from several connections.
type load struct {
	server *server
	conns  []*grpcload.Conn
}

// openLoad connects to the server. Each connection has its share of the
// requests; accept judges samples of what is answered.
func openLoad(ctx context.Context, s *server, requests []grpcload.Request, accept func([]byte) error) (*load, error) {
	l := &load{server: s}
	n := min(connections, len(requests))
	for i := range n {
		var own []grpcload.Request
		for j := i; j < len(requests); j += n {
			own = append(own, requests[j])
		}
		c, err := grpcload.Dial(ctx, s.address, checkMethod, own, accept)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// closed keeps the server busy for that long.
func (l *load) closed(ctx context.Context, inFlight int, long time.Duration) (sample, error) {
	// Asking for its allocations costs the server time, too.
	allocs, err := l.server.mallocs(ctx)
	if err != nil {
		return nil, err
	}
	cpu, err := l.server.cpu()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	answered := make([]int, len(l.conns))
	var group errgroup.Group
	for i, c := range l.conns {
		group.Go(func() (err error) {
			answered[i], err = c.Closed(ctx, max(1, inFlight/len(l.conns)), long)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w", l.server.name, err)
	}
	took := time.Since(start)
	cpuAfter, err := l.server.cpu()
	if err != nil {
		return nil, err
	}
	allocsAfter, err := l.server.mallocs(ctx)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, n := range answered {
		total += n
	}
	if total == 0 {
		return nil, fmt.Errorf("%s answered nothing", l.server.name)
	}
	n := float64(total)
	return sample{
		cpuPerCheck:    float64(cpuAfter-cpu) / float64(time.Microsecond) / n,
		allocsPerCheck: (allocsAfter - allocs) / n,
		checksPerSec:   n / took.Seconds(),
	}, nil
}

// open sends checks at a fixed rate and returns how long they took, from the
// moment at which each was due.
func (l *load) open(ctx context.Context, perSecond int, long time.Duration) ([]time.Duration, error) {
	every := time.Second * time.Duration(len(l.conns)) / time.Duration(perSecond)
	took := make([][]time.Duration, len(l.conns))
	var group errgroup.Group
	for i, c := range l.conns {
		group.Go(func() (err error) {
			took[i], err = c.Open(ctx, every, long, 512)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w", l.server.name, err)
	}
	return slices.Concat(took...), nil
}
