package boltstore

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
)

func TestFileIsCreatedAndKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hubgate.db")
	if err := os.WriteFile(path, nil, fileMode); err != nil { // as mktemp leaves it
		t.Fatal(err)
	}
	first, err := Open(Config{Path: path, Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ownerPath(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a closed store leaves its owner's name behind: %v", err)
	}
	again := start(t, Config{Path: path})
	if again.ID() != first.ID() || again.ID() == "" {
		t.Errorf("store ID %q, after reopening %q", first.ID(), again.ID())
	}
	if again.Partitions() != 8 {
		t.Errorf("%d partitions", again.Partitions())
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if other := start(t, Config{}); other.ID() == first.ID() || other.Partitions() != provision.DefaultPartitions {
		t.Errorf("another store: ID %s, %d partitions", other.ID(), other.Partitions())
	}
}

// TestOpenRefuses: each with its reason, and without touching the file.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	store := func(t *testing.T, path string, edit func(tx *bbolt.Tx) error) {
		s, err := Open(Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.db.Update(edit), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	untouched := func(*bbolt.Tx) error { return nil }
	for name, test := range map[string]struct {
		make   func(t *testing.T, path string)
		config Config
		want   string
	}{
		"text": {
			make: func(t *testing.T, path string) { write(t, path, []byte(strings.Repeat("not a database\n", 1000))) },
			want: "no hubgate store, or damaged (invalid database)",
		},
		"short text": {
			make: func(t *testing.T, path string) { write(t, path, []byte("x")) },
			want: "no hubgate store, or damaged",
		},
		"another program's bbolt file": {
			make: func(t *testing.T, path string) {
				db, err := bbolt.Open(path, fileMode, &bbolt.Options{NoFreelistSync: true})
				if err != nil {
					t.Fatal(err)
				}
				err = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("key")); return err })
				if err := errors.Join(err, db.Close()); err != nil {
					t.Fatal(err)
				}
			},
			want: "it is a bbolt file, but not a hubgate store",
		},
		"newer schema": {
			make: func(t *testing.T, path string) {
				store(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaSchema, []byte("4")) })
			},
			want: "it was written by a newer hubgate (schema 4, this one knows up to 3)",
		},
		"missing bucket": {
			make: func(t *testing.T, path string) {
				store(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketIDs) })
			},
			want: `bucket "ids" is missing`,
		},
		"cut off": {
			make: func(t *testing.T, path string) {
				store(t, path, untouched)
				if err := os.Truncate(path, 5*int64(os.Getpagesize())); err != nil {
					t.Fatal(err)
				}
			},
			want: "the file is cut off",
		},
		"overwritten pages": {
			make: func(t *testing.T, path string) {
				store(t, path, untouched)
				b := read(t, path)
				for i := 2 * os.Getpagesize(); i < len(b); i++ {
					b[i] = 0xff
				}
				write(t, path, b)
			},
			want: "the file is damaged",
		},
		"other number of partitions": {
			make:   func(t *testing.T, path string) { store(t, path, untouched) },
			config: Config{Partitions: 16},
			want:   "it has 64 partitions, the configuration says 16",
		},
		"directory": {
			make: func(t *testing.T, path string) {
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			want: "it is a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := test.config
			config.Path = filepath.Join(t.TempDir(), "hubgate.db")
			test.make(t, config.Path)
			before, _ := os.ReadFile(config.Path)
			s, err := Open(config)
			if err == nil {
				t.Fatal("opened", s.Close())
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), config.Path) {
				t.Errorf("error %q, want %q and the path", err, test.want)
			}
			if after, _ := os.ReadFile(config.Path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestOpenWithoutDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "missing")
	_, err := Open(Config{Path: filepath.Join(dir, "hubgate.db")})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "directory "+dir) {
		t.Errorf("error %v", err)
	}
}

func TestOwnerIsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hubgate.db")
	start(t, Config{Path: path, Owner: "hubgate serve"})
	began := time.Now()
	_, err := Open(Config{Path: path, LockTimeout: 50 * time.Millisecond})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "in use by hubgate serve (pid ") {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("gave up after %s", took)
	}
	if _, err := Verify(path); !errors.Is(err, ErrInUse) {
		t.Errorf("verify: %v", err)
	}
	write(t, ownerPath(path), []byte("nonsense"))
	if _, err := Open(Config{Path: path, LockTimeout: time.Millisecond}); !errors.Is(err, ErrInUse) || !strings.HasSuffix(err.Error(), "in use by another process") {
		t.Errorf("error without a name %v", err)
	}
}

func TestReplacedFileGetsNoDevices(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hubgate.db")
	s := start(t, Config{Path: path})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Replaced() {
		t.Fatal("replaced at once")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !s.Replaced(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody noticed that the file is gone")
		}
	}
	if _, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip-1")); !errors.Is(err, provision.ErrStoreChanged) {
		t.Errorf("creation on a file that is gone: %v", err)
	}
	if _, err := s.Hub(t.Context(), hub.ID); err != nil {
		t.Errorf("what was known is not readable any more: %v", err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, fileMode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestUpgrade: a file of schema 1 is counted when it is opened.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hubgate.db")
	s := start(t, Config{Path: path})
	hub, err := storetest.CreateHub(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := storetest.CreateDevices(t.Context(), s, hub, 1_500); err != nil {
		t.Fatal(err)
	}
	anchors, err := s.AnchorDevices(t.Context(), hub.ID)
	if err != nil || len(anchors) != 1 {
		t.Fatal(anchors, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, fileMode, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket(bucketAnchors), tx.DeleteBucket(bucketClaims), tx.Bucket(bucketMeta).Put(metaSchema, []byte("1")))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(path); err != nil {
		t.Errorf("schema 1: %v", err)
	}
	s = start(t, Config{Path: path})
	again, err := s.AnchorDevices(t.Context(), hub.ID)
	if err != nil || !maps.Equal(again, anchors) {
		t.Errorf("counted %v (%v), want %v", again, err, anchors)
	}
	if n, err := s.PutClaims(t.Context(), hub.ID, []string{"chip-1"}); err != nil || n != 1 {
		t.Errorf("claims in a file of schema 1: %d, %v", n, err)
	}
}
