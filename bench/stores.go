package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/trust"
)

// fillers is how many fill a store at a time: as many as the embedded store
// writes at once.
const fillers = 64

// fillersOfHub is how many fill one hub at a time: while one is encoded,
// another is written.
const fillersOfHub = 3

// registry is what filling a store needs of it.
type registry interface {
	Partitions() int
	Hubs(ctx context.Context, partition int) ([]provision.StoredHub, error)
	CreateHub(ctx context.Context, h provision.Hub, event provision.Event) (provision.Hub, error)
	PutDevices(ctx context.Context, hub provision.HubID, puts []provision.Put) ([]provision.PutResult, error)
}

// startRedis starts an empty Redis that keeps nothing, and gives its URL.
func (w *world) startRedis(ctx context.Context, cpus []int) (string, error) {
	socket := filepath.Join(w.dir, fmt.Sprintf("redis-%d.sock", len(w.processes)))
	url := "unix://" + socket
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	defer func() { _ = client.Close() }()
	_, err := w.start(ctx, cpus, process.Spec{
		Name: "redis-server", Path: "redis-server",
		Args:  []string{"--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"},
		Ready: func(ctx context.Context) error { return client.Ping(ctx).Err() },
	})
	return url, err
}

// withStore opens a store, in this process, for as long as f runs.
func withStore(ctx context.Context, url string, f func(registry) error) error {
	path, embedded := cutBolt(url)
	if !embedded {
		s, err := redisstore.Open(ctx, redisstore.Config{URL: url, Timeout: time.Minute})
		if err != nil {
			return err
		}
		return errors.Join(f(s), s.Close())
	}
	s, err := boltstore.Open(boltstore.Config{Path: path})
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	err = f(s)
	end()
	if e := <-ended; !errors.Is(e, context.Canceled) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, s.Close())
}

func cutBolt(url string) (path string, ok bool) {
	const scheme = "bolt:"
	if len(url) > len(scheme) && url[:len(scheme)] == scheme {
		return url[len(scheme):], true
	}
	return "", false
}

// fillDevices gives a hub devices as first connections would, though not one by
// one. told hears of the progress.
func fillDevices(ctx context.Context, s registry, hub provision.HubID, n int, told func(more int)) error {
	const batch = 1024
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range fillersOfHub {
		group.Go(func() error {
			for from := int(next.Add(batch)) - batch; from < n; from = int(next.Add(batch)) - batch {
				puts := make([]provision.Put, min(batch, n-from))
				for i := range puts {
					puts[i] = newPut(fmt.Sprintf("SN-%09d", from+i))
				}
				results, err := s.PutDevices(ctx, hub, puts)
				if err != nil {
					return err
				}
				for _, r := range results {
					if r.Outcome != provision.PutCreated {
						return fmt.Errorf("a device was not created: %w", r.Err)
					}
				}
				told(len(puts))
			}
			return nil
		})
	}
	return group.Wait()
}

// newPut makes the record of a device with a key of its own.
func newPut(name string) provision.Put {
	from, key := netip.MustParseAddr("192.0.2.7"), trust.KeyHash(sha256.Sum256([]byte(name)))
	return provision.Put{Name: name, Merge: func(*provision.Device) (provision.Device, error) {
		now := time.Now()
		return provision.Device{
			Description: provision.ProvisionedBy(from), FirstKey: key, CurrentKey: key,
			Anchor: fillAnchor, Issuer: fillIssuer, ProvisionedFrom: from, CreatedAt: now, UpdatedAt: now,
		}, nil
	}}
}

// A hub's devices share what admitted them.
var fillAnchor, fillIssuer = trust.KeyHash(sha256.Sum256([]byte("anchor"))), trust.KeyHash(sha256.Sum256([]byte("issuer")))

// createHubs fills the store with hubs, each of a CA of its own.
func createHubs(ctx context.Context, s registry, n int) ([]provision.Hub, error) {
	hubs := make([]provision.Hub, n)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range fillers {
		group.Go(func() error {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				ca, err := pki.NewRoot(fmt.Sprintf("CA %d", i))
				if err != nil {
					return err
				}
				now := time.Now()
				h := provision.Hub{
					ID: provision.NewHubID(), Name: fmt.Sprintf("fleet-%d", i), AutoProvisioning: true,
					Anchors: [][]byte{ca.Certificate.Raw}, CreatedAt: now, UpdatedAt: now,
				}
				if hubs[i], err = s.CreateHub(ctx, h, provision.Created.OnHub(h, now)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return hubs, group.Wait()
}
