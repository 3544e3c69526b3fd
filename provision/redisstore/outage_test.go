package redisstore_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/provision/storetest"
)

// recorder is a sink that notes what it is told.
type recorder struct {
	mu      sync.Mutex
	changes []provision.Change
	lost    map[int]int
	fresh   map[int]time.Time
}

// watch follows the store's feed until the end of the test.
func watch(t *testing.T, s *redisstore.Store) *recorder {
	t.Helper()
	r := &recorder{lost: map[int]int{}, fresh: map[int]time.Time{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, r) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	})
	eventually(t, "the first proof of every partition", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.fresh) == s.Partitions()
	})
	return r
}

func (r *recorder) Changed(_ int, c provision.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, c)
}

func (r *recorder) Lost(p int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[p]++
}

func (r *recorder) Fresh(p int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh[p] = at
}

// unproved counts the partitions without a proof after that moment.
func (r *recorder) unproved(at time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, f := range r.fresh {
		if !f.After(at) {
			n++
		}
	}
	return n
}

// newest is the newest proof of any partition.
func (r *recorder) newest() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	var newest time.Time
	for _, f := range r.fresh {
		if f.After(newest) {
			newest = f
		}
	}
	return newest
}

func (r *recorder) has(c provision.Change) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, have := range r.changes {
		if have == c {
			return true
		}
	}
	return false
}

func (r *recorder) lostPartitions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lost)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: never", what)
		}
	}
}

func createHub(t *testing.T, s *redisstore.Store) provision.Hub {
	t.Helper()
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return hub
}

func disableHub(ctx context.Context, s *redisstore.Store, id provision.HubID) (provision.Hub, error) {
	return s.UpdateHub(ctx, id, func(h *provision.Hub) error { h.Disabled = true; return nil },
		func(h provision.Hub) provision.Event { return storetest.HubEvent(h, "hub was disabled") })
}

func TestOutageAndReturn(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, redisstore.Config{URL: server.URL(), Timeout: 2 * time.Second})
	hub := createHub(t, s)
	feed := watch(t, s)

	server.Stop()
	stopped := time.Now()
	for range 5 {
		start := time.Now()
		_, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip"))
		if !errors.Is(err, provision.ErrUnavailable) {
			t.Fatalf("creation without a server: %v", err)
		}
		if _, err := s.Device(t.Context(), hub.ID, "chip"); !errors.Is(err, provision.ErrUnavailable) {
			t.Fatalf("device without a server: %v", err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("an outage took %s to show", took)
		}
	}
	if feed.newest().After(stopped) {
		t.Error("the feed proved a partition without a server")
	}
	server.Start()
	back := time.Now()
	eventually(t, "creation after the outage", func() bool {
		_, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip"))
		if err != nil && !errors.Is(err, provision.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	eventually(t, "the feed after the outage", func() bool { return feed.unproved(back) == 0 })
	if n := feed.lostPartitions(); n > 0 {
		t.Errorf("%d partitions are lost, though the server kept its data", n)
	}
	if s.Replaced() {
		t.Error("the store counts as replaced, though the server kept its data")
	}
}

// TestPause: a server that answers nothing is found out by time-outs alone.
func TestPause(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, redisstore.Config{URL: server.URL()})
	other := open(t, patient(server.URL()))
	hub := createHub(t, s)
	feed := watch(t, s)

	server.Pause()
	paused := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Device(ctx, hub.ID, "chip"); !errors.Is(err, provision.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("device of a paused server: %v", err)
	}
	if took := time.Since(paused); took > time.Second {
		t.Errorf("a deadline of 300 ms was met after %s", took)
	}
	time.Sleep(2*time.Second - time.Since(paused))
	if proof := feed.newest(); proof.After(paused) {
		t.Errorf("2 s into a pause the feed has proof of %s after it began", proof.Sub(paused))
	}
	server.Resume()
	resumed := time.Now()
	if _, err := disableHub(t.Context(), other, hub.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the feed after the pause", func() bool { return feed.unproved(resumed) == 0 })
	t.Logf("fresh %s after the pause", time.Since(resumed))
	if !feed.has(provision.Change{Kind: provision.HubChanged, Hub: hub.ID}) {
		t.Error("a change after the pause is missing")
	}
	if n := feed.lostPartitions(); n > 0 {
		t.Errorf("%d partitions are lost, though nothing was", n)
	}
}

// TestFlush: a store that lost its data, or is another one, creates nothing.
func TestFlush(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, patient(server.URL()))
	hub := createHub(t, s)
	feed := watch(t, s)
	refused := func(what string) {
		t.Helper()
		if _, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip")); !errors.Is(err, provision.ErrStoreChanged) {
			t.Errorf("creation on %s: %v", what, err)
		}
		if _, err := storetest.CreateHub(t.Context(), s); !errors.Is(err, provision.ErrStoreChanged) {
			t.Errorf("hub on %s: %v", what, err)
		}
		if !s.Replaced() {
			t.Errorf("%s does not count as replaced", what)
		}
	}
	server.Do("FLUSHALL")
	flushed := time.Now()
	eventually(t, "loss of every partition", func() bool { return feed.lostPartitions() == s.Partitions() })
	refused("a flushed store")
	if n := server.Do("EXISTS", "hg:{meta}:store"); n != int64(0) {
		t.Error("something founded a store")
	}
	fresh := open(t, patient(server.URL()))
	refused("another store")
	if _, err := storetest.CreateHub(t.Context(), fresh); err != nil {
		t.Errorf("hub on the new store: %v", err)
	}
	if feed.newest().After(flushed.Add(time.Second)) {
		t.Error("the feed proved a partition of another store")
	}
}

// TestLaggingReplica: the feed notices that the server went back in time, even
// when it has written on since.
func TestLaggingReplica(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, patient(server.URL()))
	hub := createHub(t, s)
	feed := watch(t, s)
	client := server.Client()
	defer func() { _ = client.Close() }()

	ctx := t.Context()
	before := map[string]string{}
	for _, pattern := range []string{"hg:{*}:chg", "hg:{*}:out", "hg:{*}:p"} {
		keys, err := client.Keys(ctx, pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if before[key], err = client.Dump(ctx, key).Result(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := disableHub(ctx, s, hub.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change", func() bool { return feed.has(provision.Change{Kind: provision.HubChanged, Hub: hub.ID}) })
	pipe := client.TxPipeline()
	for key, value := range before {
		pipe.RestoreReplace(ctx, key, 0, value)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := disableHub(ctx, s, hub.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "loss of the partition", func() bool { return feed.lostPartitions() == 1 })
}

func TestFeedOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	s, other := open(t, patient(cluster.URL())), open(t, patient(cluster.URL()))
	feed := watch(t, s)
	var hubs []provision.Hub
	for range 10 {
		hub := createHub(t, other)
		hubs = append(hubs, hub)
	}
	for _, hub := range hubs {
		eventually(t, "a hub's change", func() bool { return feed.has(provision.Change{Kind: provision.HubChanged, Hub: hub.ID}) })
	}

	// One node that does not answer cuts its own partitions only.
	cluster.Nodes[1].Pause()
	paused := time.Now()
	time.Sleep(1500 * time.Millisecond)
	if cut := feed.unproved(paused); cut < 20 || cut > 22 {
		t.Errorf("%d of 64 partitions are cut, want a third", cut)
	}
	cluster.Nodes[1].Resume()
	resumed := time.Now()
	eventually(t, "the feed after the pause", func() bool { return feed.unproved(resumed) == 0 })
	t.Logf("fresh %s after the pause", time.Since(resumed))
	if n := feed.lostPartitions(); n > 0 {
		t.Errorf("%d partitions are lost, though nothing was", n)
	}
}
