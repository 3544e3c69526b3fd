package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/bench/grpcload"
	"github.com/hubgate/hubgate/envoy"
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
	return openLoadOver(ctx, connections, s, requests, accept)
}

func openLoadOver(ctx context.Context, connections int, s *server, requests []grpcload.Request, accept func([]byte) error) (*load, error) {
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

// warm asks each question twice, whatever time that takes, so that what is
// measured is no device's first connection.
func (l *load) warm(ctx context.Context, inFlight int) error {
	if err := l.once(ctx, inFlight); err != nil {
		return err
	}
	return l.once(ctx, inFlight)
}

// once asks each question once.
func (l *load) once(ctx context.Context, inFlight int) error {
	_, err := l.all(func(c *grpcload.Conn) (int, error) {
		return c.Count(ctx, max(1, inFlight/len(l.conns)), c.Questions())
	})
	return err
}

// all asks over all connections, and tells how many answers came.
func (l *load) all(ask func(*grpcload.Conn) (int, error)) (answered int, err error) {
	each := make([]int, len(l.conns))
	var group errgroup.Group
	for i, c := range l.conns {
		group.Go(func() (err error) {
			each[i], err = ask(c)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("%s: %w", l.server.name, err)
	}
	for _, n := range each {
		answered += n
	}
	return answered, nil
}

// closed keeps the server busy for that long.
func (l *load) closed(ctx context.Context, inFlight int, long time.Duration) (sample, error) {
	return l.cost(ctx, func(c *grpcload.Conn) (int, error) {
		return c.Closed(ctx, max(1, inFlight/len(l.conns)), long)
	})
}

// count asks so many questions, and tells what that cost the server.
func (l *load) count(ctx context.Context, inFlight, n int) (sample, error) {
	return l.cost(ctx, func(c *grpcload.Conn) (int, error) {
		return c.Count(ctx, max(1, inFlight/len(l.conns)), max(1, n/len(l.conns)))
	})
}

// cost asks, and tells what that cost the server.
func (l *load) cost(ctx context.Context, ask func(*grpcload.Conn) (int, error)) (sample, error) {
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
	answered, err := l.all(ask)
	if err != nil {
		return nil, err
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
	if answered == 0 {
		return nil, fmt.Errorf("%s answered nothing", l.server.name)
	}
	n := float64(answered)
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

// offer offers so many checks a second as Envoys do: they wait for checkPatience,
// and turn away what is beyond their circuit breaker. which, if there is one,
// picks what a connection asks.
func (l *load) offer(ctx context.Context, perSecond float64, long time.Duration, which func(conn int) func(n int) int) ([]grpcload.Offered, error) {
	all := make([]grpcload.Offered, len(l.conns))
	var group errgroup.Group
	for i, c := range l.conns {
		o := grpcload.Offer{
			Every: time.Duration(float64(time.Second) * float64(len(l.conns)) / perSecond), Long: long,
			Limit: envoy.MaxChecks / envoyThreads, Patience: checkPatience, Good: allows,
		}
		if which != nil {
			o.Which = which(i)
		}
		group.Go(func() (err error) {
			all[i], err = c.Offer(ctx, o)
			return err
		})
	}
	return all, group.Wait()
}
