// Package boltstore keeps hubs, devices and hub events in one durable file, and
// sessions in memory. It is the default store: a hubgate that needs nothing else
// around it.
//
// The process that opens the file owns it until Close. Reads are snapshots and
// never wait. Every change goes to one writer, the goroutine of Run, which
// takes whatever waits, applies it in one bbolt transaction, syncs the file
// once and then answers all: a lone caller pays one commit and no delay, many
// callers share one. The writer runs no code of its callers: edits are
// evaluated where they were called and land only if the record is still what
// they were evaluated on.
package boltstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
)

// Defaults of Config.
const (
	DefaultPath        = "hubgate.db"
	DefaultLockTimeout = time.Second
	DefaultRetention   = 100_000
)

// Config says which file to open and how. The zero value is usable.
type Config struct {
	// Path of the file, created if there is none; DefaultPath if empty.
	Path string
	// LockTimeout is how long to wait for another process to let go of the
	// file; 0 means DefaultLockTimeout.
	LockTimeout time.Duration
	// Owner is what another process that finds the file in use calls this one
	// in its error, such as "hubgate serve".
	Owner string
	// Partitions is provision.DefaultPartitions if 0. It is fixed when the file
	// is created; another number later is an error.
	Partitions int
	// Retention is how many events each partition keeps at most; 0 means
	// DefaultRetention.
	Retention int
	// Around is what each commit is made in: it calls commit once, which waits
	// for the disk. Nil: nothing.
	Around func(commit func())
	// Now is the clock of Watch, of sessions, of leases on cursors and of rates;
	// nil means time.Now.
	Now func() time.Time
}

// Store is an open file. It implements the store interfaces of provision.
// Methods are safe for concurrent use.
type Store struct {
	path       string
	db         *bbolt.DB
	file       os.FileInfo // what path was when it was opened
	meta       meta
	retention  uint64
	feed       *feed
	sessions   *sessions
	owners     *owners
	rates      *rates
	around     func(func())
	queue      chan *op
	running    atomic.Bool
	replaced   atomic.Bool
	closing    chan struct{} // closed by Close: Run has to end
	stopped    chan struct{} // closed when Run has ended, or never will run
	closeOnce  sync.Once
	closeError error
}

var _ interface {
	provision.Store
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Outbox
	provision.Announcer
	provision.Cursors
	provision.Sessions
	provision.Claims
} = (*Store)(nil)

// Open opens the file, or creates it, and locks it against other processes.
// Changes are made once Run runs; until then they wait for it.
func Open(config Config) (*Store, error) {
	path := cmp.Or(config.Path, DefaultPath)
	db, err := openFile(path, cmp.Or(config.LockTimeout, DefaultLockTimeout))
	if err != nil {
		return nil, err
	}
	now := config.Now
	if now == nil {
		now = time.Now
	}
	if config.Around == nil {
		config.Around = func(commit func()) { commit() }
	}
	s := &Store{
		path:      path,
		db:        db,
		retention: uint64(cmp.Or(config.Retention, DefaultRetention)),
		feed:      newFeed(now),
		sessions:  newSessions(now),
		owners:    newOwners(now),
		rates:     newRates(now),
		around:    config.Around,
		queue:     make(chan *op, maxBatch),
		closing:   make(chan struct{}),
		stopped:   make(chan struct{}),
	}
	if err := s.begin(config); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// begin makes the opened file this store's.
func (s *Store) begin(config Config) error {
	var err error
	if s.file, err = os.Stat(s.path); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if err := writeOwner(s.path, config.Owner); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if s.meta, err = s.readMeta(); errors.Is(err, errEmpty) {
		err = s.db.Update(func(tx *bbolt.Tx) error { return initialize(tx, config.Partitions) })
		if err == nil {
			err = syncDir(filepath.Dir(s.path)) // the file itself is new
		}
		if err == nil {
			s.meta, err = s.readMeta()
		}
	}
	if err != nil {
		return fmt.Errorf("open store %s: %w", s.path, err)
	}
	if config.Partitions != 0 && config.Partitions != s.meta.partitions {
		return fmt.Errorf("open store %s: it has %d partitions, the configuration says %d: the number is fixed when the store is created",
			s.path, s.meta.partitions, config.Partitions)
	}
	if err := s.db.Update(upgrade); err != nil {
		return fmt.Errorf("open store %s: upgrade: %w", s.path, err)
	}
	return nil
}

func (s *Store) readMeta() (m meta, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		m, err = readMeta(tx)
		return err
	})
	return m, err
}

// Close ends Run, waits for it and closes the file. What is called afterwards
// returns provision.ErrUnavailable.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		if s.running.CompareAndSwap(false, true) {
			close(s.stopped) // Run never ran and never will
		}
		<-s.stopped
		removeOwner(s.path)
		s.closeError = s.db.Close()
	})
	return s.closeError
}

// ID is the random ID that the store was given when it was created.
func (s *Store) ID() string { return s.meta.id }

// Partitions is the number of partitions.
func (s *Store) Partitions() int { return s.meta.partitions }

// Remote reports that looking is cheaper than creating: a look reads the file's
// mapping, a creation waits for the writer.
func (s *Store) Remote() bool { return false }

// Replaced reports whether somebody put another file, or none, in the place of
// the one that was opened. Nothing is created on it any more.
func (s *Store) Replaced() bool { return s.replaced.Load() }

func (s *Store) checkReplaced() {
	now, err := os.Stat(s.path)
	gone := errors.Is(err, os.ErrNotExist)
	s.replaced.Store(gone || err == nil && !os.SameFile(s.file, now))
}

// view runs a read on a snapshot of everything that has been committed.
func (s *Store) view(ctx context.Context, read func(tx *bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
	}
	defer func() { _ = tx.Rollback() }() // a read transaction has nothing to lose
	return read(tx)
}
