package main

import (
	"context"
	"crypto/x509"
	"encoding/gob"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/bench/grpcload"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/trust"
)

// workKind begins the name of a server that does work before it answers; the
// file that describes it follows.
const workKind = "work="

// work is the least that has to be done for connections: that their chains are
// verified and, if there is a Redis, that a script is called for each.
type work struct {
	Anchor []byte
	Chains [][][]byte // leaf first
	Redis  string

	bundle *trust.Bundle
	client *redis.Client
	done   atomic.Int64
}

// script does nothing with keys and arguments of the number and size that a
// first connection's have.
var script = redis.NewScript("return {'ok'}")

var scriptArgument = strings.Repeat("x", 500)

// newWork describes work, in a file, for those who connect to the vendor's hub.
func (w *world) newWork(name string, who []*pki.Identity, redis string) (file string, err error) {
	k := work{Anchor: w.own.root.Certificate.Raw, Redis: redis}
	for _, i := range who {
		var chain [][]byte
		for _, c := range presented(i) {
			chain = append(chain, c.Raw)
		}
		k.Chains = append(k.Chains, chain)
	}
	file = filepath.Join(w.dir, name+".work")
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return file, gob.NewEncoder(f).Encode(&k)
}

func readWork(file string) (*work, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	k := new(work)
	if err := gob.NewDecoder(f).Decode(k); err != nil {
		return nil, err
	}
	anchor, err := x509.ParseCertificate(k.Anchor)
	if err != nil {
		return nil, err
	}
	if k.bundle, err = trust.NewBundle([]*x509.Certificate{anchor}, nil); err != nil {
		return nil, err
	}
	if k.Redis != "" {
		k.client = redis.NewClient(&redis.Options{
			Network: "unix", Addr: strings.TrimPrefix(k.Redis, "unix://"), PoolSize: redisstore.DefaultConnections,
			DisableIdentity: true, ContextTimeoutEnabled: true,
		})
	}
	return k, nil
}

// next does what one connection takes; they take turns.
func (k *work) next(ctx context.Context) error {
	chain := k.Chains[int(k.done.Add(1))%len(k.Chains)]
	c, err := trust.ParseChain(chain[0], chain[1:])
	if err != nil {
		return err
	}
	_, err = k.bundle.Verify(c, trust.Options{})
	if k.client == nil {
		return nil // a chain that is refused was to be
	}
	if err != nil {
		return err
	}
	return script.Run(ctx, k.client, []string{"1", "2", "3", "4", "5", "6", "7"}, 1, 2, 3, 4, 5, chain[0][:16], scriptArgument).Err()
}

// doWork does all of it, with so many under way, and prints the processor time
// that it took, in nanoseconds. It is what bareWork's process does.
func doWork(ctx context.Context, file, inFlight string) error {
	debug.SetGCPercent(400)
	k, err := readWork(file)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(inFlight)
	if err != nil {
		return err
	}
	all := func() error {
		var group errgroup.Group
		group.SetLimit(n)
		for range k.Chains {
			group.Go(func() error { return k.next(ctx) })
		}
		return group.Wait()
	}
	if err := all(); err != nil { // connections are opened, the heap is warm
		return err
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		return err
	}
	if err := all(); err != nil {
		return err
	}
	after, err := cpuTime(os.Getpid())
	fmt.Println(int64(after - before))
	return err
}

// bareWork runs this program as one that does the work and nothing else.
func (w *world) bareWork(ctx context.Context, file string, n int) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self, "-serve", "bare-work", file, strconv.Itoa(w.inFlight))
	c.Stderr = os.Stderr
	var out []byte
	pinned(serverCPUs(), func() { out, err = c.Output() })
	if err != nil {
		return nil, err
	}
	spent, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return sample{cpuPerCheck: float64(spent) / float64(time.Microsecond) / float64(n)}, err
}

// leastWork compares hubgate, which is asked each of the questions once, some of
// them a round, to work: done by itself, and by a server that does nothing else.
// Each measurement of a server is made in around.
func (w *world) leastWork(ctx context.Context, file string, s *server, questions []grpcload.Request, accept func([]byte) error,
	around func(measure func() (sample, error)) (sample, error),
) ([]*side, error) {
	floor, err := w.startNoop(ctx, workKind+file)
	if err != nil {
		return nil, err
	}
	defer floor.process.Kill()
	n := len(questions) / w.rounds
	ask := func(name string, s *server, questions []grpcload.Request, accept func([]byte) error) (*side, error) {
		l, err := openLoad(ctx, s, questions, accept)
		if err != nil {
			return nil, err
		}
		w.closers = append(w.closers, l.close)
		return &side{name: name, measure: func() (sample, error) {
			return around(func() (sample, error) { return l.count(ctx, w.inFlight, n) })
		}}, nil
	}
	hubgate, err := ask("hubgate", s, questions, accept)
	if err != nil {
		return nil, err
	}
	bare := &side{name: "the work alone", measure: func() (sample, error) { return w.bareWork(ctx, file, n) }}
	served, err := ask("the work behind gRPC", floor, questions[:n], anything)
	if err != nil {
		return nil, err
	}
	sides := []*side{hubgate, bare, served}
	return sides, measureInTurns(sides, w.rounds)
}
