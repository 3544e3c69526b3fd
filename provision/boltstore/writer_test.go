package boltstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
)

// TestAround: every commit is made in what the configuration says, and nothing
// else is.
func TestAround(t *testing.T) {
	t.Parallel()
	begun, ended := 0, 0
	s := start(t, Config{Around: func(commit func()) {
		begun++
		commit()
		ended++
	}})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := storetest.CreateDevices(t.Context(), s, hub, 1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(storetest.NewHub(), "of no hub")); !errors.Is(err, provision.ErrHubChanged) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if begun != 2 || ended != 2 {
		t.Errorf("%d commits began and %d ended", begun, ended)
	}
}

// TestBatchIsIsolated: what waits is one transaction, and what is refused or
// given up in it takes no neighbour along.
func TestBatchIsIsolated(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hubgate.db")
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	hub := storetest.NewHub()
	hub.Version = 1
	stale := hub
	stale.Version = 7
	waiting, giveUp := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	queued := 0
	// Everything is queued before the writer begins, so it is one batch.
	call := func(want error, call func() error) {
		t.Helper()
		wg.Go(func() {
			if err := call(); !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("call %v, want %v", err, want)
			}
		})
		queued++
		for len(s.queue) < queued {
			time.Sleep(time.Millisecond)
		}
	}
	create := func(hub provision.Hub, name string) func() error {
		return func() error {
			_, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, name))
			return err
		}
	}
	call(provision.ErrHubChanged, create(hub, "before its hub"))
	call(nil, func() error {
		_, err := s.CreateHub(t.Context(), hub, storetest.HubEvent(hub, "hub was created"))
		return err
	})
	call(nil, create(hub, "chip-1"))
	call(provision.ErrHubChanged, create(stale, "chip-2"))
	call(context.Canceled, func() error {
		_, _, err := s.CreateDevice(waiting, storetest.NewCreation(hub, "chip-3"))
		return err
	})
	call(nil, create(hub, "chip-4"))
	call(nil, create(hub, "chip-4"))
	call(provision.ErrNotFound, func() error {
		return s.DeleteHub(t.Context(), provision.NewHubID(), storetest.HubEvent(stale, "must not happen"))
	})
	giveUp()
	before := transactions(t, s)
	run(t, s)
	wg.Wait()
	if n := transactions(t, s) - before; n != 1 {
		t.Errorf("%d transactions, want 1", n)
	}
	devices, _, err := s.Devices(t.Context(), hub.ID, provision.ByCreation, "", 10)
	if err != nil || len(devices) != 2 || devices[0].Name != "chip-1" || devices[1].Name != "chip-4" {
		t.Errorf("devices %v, %v", devices, err)
	}
	if last, err := s.LastEvent(t.Context(), hub.ID.Partition(s.Partitions())); err != nil || last != 3 {
		t.Errorf("last event %d, %v", last, err)
	}

	// What writes nothing costs no commit.
	before = transactions(t, s)
	if err := errors.Join(create(hub, "chip-1")(), s.Learn(t.Context(), hub.ID, nil)); err != nil {
		t.Error(err)
	}
	if n := transactions(t, s) - before; n != 0 {
		t.Errorf("%d transactions for nothing", n)
	}
}

// TestPanicInEdit: an administrator's bad code is its caller's business.
func TestPanicInEdit(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = s.UpdateHub(t.Context(), hub.ID, func(*provision.Hub) error { panic("bad edit") }, nil)
	}()
	if _, created, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip-1")); err != nil || !created {
		t.Errorf("creation after it: %t, %v", created, err)
	}
}

func TestStoreThatDoesNotWrite(t *testing.T) {
	t.Parallel()
	s, err := Open(Config{Path: filepath.Join(t.TempDir(), "hubgate.db")})
	if err != nil {
		t.Fatal(err)
	}
	if hubs, err := s.Hubs(t.Context(), 0); err != nil || len(hubs) != 0 {
		t.Errorf("read before Run: %v, %v", hubs, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = storetest.CreateHub(ctx, s)
	if !errors.Is(err, provision.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write before Run: %v", err)
	}

	// Those who wait when the store closes are told.
	told := make(chan error)
	go func() {
		_, err := storetest.CreateHub(context.Background(), s)
		told <- err
	}()
	for len(s.queue) < 2 { // with the one that gave up
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-told; !errors.Is(err, provision.ErrUnavailable) {
		t.Errorf("write that waited when the store closed: %v", err)
	}
	_, err = storetest.CreateHub(t.Context(), s)
	_, hubErr := s.Hub(t.Context(), provision.NewHubID())
	_, backupErr := s.Backup(t.Context(), nil)
	for what, err := range map[string]error{"write": err, "read": hubErr, "backup": backupErr} {
		if !errors.Is(err, provision.ErrUnavailable) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	if err := s.Run(t.Context()); err != nil {
		t.Errorf("run of a closed store: %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, err := Open(Config{Path: filepath.Join(t.TempDir(), "hubgate.db")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	hub, err := storetest.CreateHub(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); err == nil {
		t.Error("the store runs twice")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if _, err := storetest.CreateHub(t.Context(), s); !errors.Is(err, provision.ErrUnavailable) {
		t.Errorf("write after Run: %v", err)
	}
	if _, err := s.Hub(t.Context(), hub.ID); err != nil {
		t.Errorf("read after Run: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestFullDisk: a change that the disk has no room for fails, its neighbours
// later do not.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	room := func(bytes int) { // in the writer, which reads the bound
		if err := s.write(t.Context(), func(*txn) error { s.db.MaxSize = bytes; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	room(1) // no page more than the file has
	var full error
	created := 0
	for ; full == nil && created < 100_000; created++ {
		_, _, full = s.CreateDevice(t.Context(), storetest.NewCreation(hub, fmt.Sprintf("chip-%d", created)))
	}
	if !errors.Is(full, provision.ErrUnavailable) {
		t.Fatalf("creation on a full disk: %v", full)
	}
	if n, err := s.CountDevices(t.Context(), hub.ID); err != nil || n != created-1 {
		t.Errorf("%d devices, %v; %d were created", n, err, created-1)
	}
	room(0)
	if _, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "at last")); err != nil {
		t.Errorf("creation when there is room again: %v", err)
	}
}

// TestRetention: each partition keeps its newest events, numbered on.
func TestRetention(t *testing.T) {
	t.Parallel()
	const retention, devices = 200, 1_000
	path := filepath.Join(t.TempDir(), "hubgate.db")
	s := start(t, Config{Path: path, Retention: retention})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	partition := hub.ID.Partition(s.Partitions())
	for done := 0; done < devices; done += 50 {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				_, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, fmt.Sprintf("chip-%d", done+i)))
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		events, err := s.Events(t.Context(), partition, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		last := uint64(1 + done + 50)
		if n := uint64(len(events)); n > retention || n < min(last, retention-retention/64) || events[n-1].Seq != last || events[0].Seq != last-n+1 {
			t.Fatalf("%d events, %d to %d, of %d", n, events[0].Seq, events[n-1].Seq, last)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := Verify(path); err != nil || report.Devices != devices {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestAcknowledgedChangeIsTold: in the process that made it, at once.
func TestAcknowledgedChangeIsTold(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	sink := &lastChange{fresh: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Watch(ctx, sink) }()
	<-sink.fresh
	for i := range 20 {
		if err := s.Learn(ctx, hub.ID, [][]byte{fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		if n := sink.count(); n != i+1 {
			t.Fatalf("%d changes told of %d", n, i+1)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("watch: %v", err)
	}
}

type lastChange struct {
	mu      sync.Mutex
	changes int
	fresh   chan struct{}
}

func (l *lastChange) Changed(int, provision.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
}

func (l *lastChange) Lost(int) {}

func (l *lastChange) Fresh(int, time.Time) {
	select {
	case l.fresh <- struct{}{}:
	default:
	}
}

func (l *lastChange) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

func transactions(t *testing.T, s *Store) int {
	t.Helper()
	var n int
	if err := s.view(t.Context(), func(tx *bbolt.Tx) error { n = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}
