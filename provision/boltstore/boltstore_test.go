package boltstore

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision/storetest"
)

// start opens a store that lives and writes as long as the test.
func start(t testing.TB, config Config) *Store {
	t.Helper()
	if config.Path == "" {
		config.Path = filepath.Join(t.TempDir(), "hubgate.db")
	}
	s, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s
}

// run lets the store write until the test ends, and closes it then.
func run(t testing.TB, s *Store) {
	t.Helper()
	done := make(chan error)
	go func() { done <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		clock := &storetest.Clock{}
		return storetest.Fixture{Store: start(t, Config{Now: clock.Now}), Clock: clock}
	}, storetest.FromEnv())
}

func TestTrim(t *testing.T) {
	t.Parallel()
	storetest.Trim(t, start(t, Config{}))
}

// TestOlderFile: a file of a hubgate that knew no cursors gets them.
func TestOlderFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hubgate.db")
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketCursors) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(path); err != nil {
		t.Errorf("verify: %v", err)
	}
	s = start(t, Config{Path: path})
	if _, err := s.ClaimCursor(t.Context(), "log", 0, "one", time.Second); err != nil {
		t.Error(err)
	}
}
