package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// tripsColumn is how often Redis reads from a client, for one connection.
const tripsColumn = "round trips"

// firstOnRedis measures first connections of devices, on Redis, beside what they
// take at the least: a chain verified, and a script called.
func firstOnRedis(ctx context.Context, w *world, r *result) error {
	url, err := w.startRedis(ctx, generatorCPU())
	if err != nil {
		return err
	}
	s, err := w.startHubgate(ctx, hubgateSpec{name: "first-redis", store: url})
	if err != nil {
		return err
	}
	defer s.process.Kill()
	chips, err := chains(w.own.line, (w.rounds+1)*w.devices)
	if err != nil {
		return err
	}
	file, err := w.newWork("first", chips[:w.devices], url)
	if err != nil {
		return err
	}
	questions := checksOf(chips)
	// The hub learns the line, and connections to Redis are opened.
	first, err := openLoad(ctx, s, questions[:w.devices], verdict(true))
	if err != nil {
		return err
	}
	defer first.close()
	if err := first.once(ctx, w.inFlight); err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: strings.TrimPrefix(url, "unix://")})
	defer func() { _ = client.Close() }()
	sides, err := w.leastWork(ctx, file, s, questions[w.devices:], verdict(true), func(measure func() (sample, error)) (sample, error) {
		before, err := redisInfo(ctx, client, "stats", "total_reads_processed")
		if err != nil {
			return nil, err
		}
		m, err := measure()
		if err != nil {
			return nil, err
		}
		after, err := redisInfo(ctx, client, "stats", "total_reads_processed")
		m[tripsColumn] = (after - before) / float64(w.devices)
		return m, err
	})
	if err != nil {
		return err
	}
	r.Columns, r.Rows = []string{cpuPerCheck, checksPerSec, tripsColumn}, rowsOf(sides)
	r.Targets = []target{
		ratio(cpuPerCheck, sides[0], sides[1]).atMost(1.15), ratio(cpuPerCheck, sides[0], sides[2]),
		// The change feed has some of its own.
		figure(tripsColumn, "for each", sides[0]).atMost(1.1),
	}
	return nil
}

// storeBenchmarks are those of provision/boltstore that show what a first
// connection takes of the embedded store: how many at a time, and what bbolt
// itself takes for as much.
var storeBenchmarks = []struct {
	store, bare, times string
	target             func(store, bare *side) target
}{
	{"BenchmarkFirstConnection64InFlight", "BenchmarkBareBatchOf64", "6400x", func(store, bare *side) target {
		return ratio(putsPerSec, store, bare).atLeast(0.9)
	}},
	{"BenchmarkFirstConnectionAlone", "BenchmarkBarePut", "200x", func(store, bare *side) target {
		return ratio(microsPerPut, store, bare).atMost(1.1)
	}},
}

const putsPerSec, microsPerPut = "puts/s", "µs/put"

// firstOnBolt measures what first connections take of the embedded store, beside
// bbolt itself. It runs the benchmarks that are beside the store, as what they
// compare is the store's own.
func firstOnBolt(ctx context.Context, w *world, r *result) error {
	binary := filepath.Join(w.dir, "boltstore.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "github.com/hubgate/hubgate/provision/boltstore")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the benchmarks: %w\n%s", err, text)
	}
	for _, b := range storeBenchmarks {
		name := func(benchmark string) string { return strings.TrimPrefix(benchmark, "Benchmark") }
		measure := func(benchmark string) *side {
			return &side{name: name(benchmark), measure: func() (sample, error) { return w.benchmark(ctx, binary, benchmark, b.times) }}
		}
		store, bare := measure(b.store), measure(b.bare)
		if err := measureInTurns([]*side{store, bare}, min(w.rounds, 3)); err != nil {
			return err
		}
		r.Rows = append(r.Rows, rowsOf([]*side{store, bare})...)
		r.Targets = append(r.Targets, b.target(store, bare))
	}
	r.Columns = []string{putsPerSec, microsPerPut}
	return nil
}

var nanosPerOp = regexp.MustCompile(`\s([0-9.]+) ns/op`)

// benchmark runs a compiled benchmark so many times, on the servers' processors.
func (w *world) benchmark(ctx context.Context, binary, name, times string) (sample, error) {
	c := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.bench=^"+name+"$", "-test.benchtime="+times)
	var (
		out []byte
		err error
	)
	pinned(serverCPUs(), func() { out, err = c.CombinedOutput() })
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	found := nanosPerOp.FindSubmatch(out)
	if found == nil {
		return nil, errors.New(name + " told no time")
	}
	nanos, err := strconv.ParseFloat(string(found[1]), 64)
	return sample{microsPerPut: nanos / 1e3, putsPerSec: 1e9 / nanos}, err
}
