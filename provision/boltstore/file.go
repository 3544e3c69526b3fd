package boltstore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// fileMode keeps the file from everyone but its owner.
	fileMode = 0o600
	// reserve is the address space that the file is mapped into, far beyond its
	// size: when a file outgrows its mapping, bbolt makes the writer wait for
	// every read (a backup takes minutes) and all other reads for the writer.
	// It costs no memory.
	reserve = min(16<<30, math.MaxInt/4)
)

// openFile opens and locks the file. It refuses, untouched, what is not
// hubgate's.
func openFile(path string, timeout time.Duration) (*bbolt.DB, error) {
	deadline := time.Now().Add(timeout)
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		dir := filepath.Dir(path)
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("open store %s: directory %s: %w (create it first)", path, dir, errors.Unwrap(err))
		}
	case err != nil:
		return nil, fmt.Errorf("open store: %w", err)
	case info.IsDir():
		return nil, fmt.Errorf("open store %s: it is a directory", path)
	case info.Size() > 0: // bbolt writes to whatever it opens, so look first
		if err := inspect(path, timeout, func(*bbolt.Tx) error { return nil }); err != nil {
			return nil, err
		}
	}
	// The list of free pages is part of every commit, though bbolt could do
	// without and scan the whole file at the next start: a start has to be
	// quick with ten million devices. A hash map finds free pages faster than
	// the default array once many devices were deleted.
	db, err := guarded(path, &bbolt.Options{
		Timeout:         max(time.Until(deadline), time.Millisecond),
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: reserve,
		NoStatistics:    true,
	})
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return db, nil
}

// Check tells whether the file could be opened: ErrInUse if another process has
// it. It changes nothing.
func Check(path string) error {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return err
	}
	return inspect(path, DefaultLockTimeout, func(*bbolt.Tx) error { return nil })
}

// inspect opens a file that nobody writes to, makes sure that it is a whole
// store of a schema that we know, and looks at it.
func inspect(path string, timeout time.Duration, look func(*bbolt.Tx) error) (err error) {
	// A damaged file can lead a read beyond its end, which is a fault of the
	// memory map; bbolt also panics over some damage. Both are errors here.
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			err = fmt.Errorf("open store %s: the file is damaged: %v: restore a backup", path, r)
		}
	}(debug.SetPanicOnFault(true))
	db, err := guarded(path, &bbolt.Options{ReadOnly: true, Timeout: timeout, NoStatistics: true})
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.Begin(false)
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	if info, err := os.Stat(path); err != nil {
		return fmt.Errorf("open store: %w", err)
	} else if info.Size() < tx.Size() {
		return fmt.Errorf("open store %s: the file is cut off: it has %d of %d bytes: restore a backup", path, info.Size(), tx.Size())
	}
	if _, err := readMeta(tx); err != nil && !errors.Is(err, errEmpty) {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	return look(tx)
}

// guarded opens the file and explains why it could not.
func guarded(path string, options *bbolt.Options) (db *bbolt.DB, err error) {
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			err = fmt.Errorf("the file is damaged: %v: restore a backup", r)
		}
	}(debug.SetPanicOnFault(true))
	db, err = bbolt.Open(path, fileMode, options)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, inUse(path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("it is no hubgate store, or damaged (%w): choose another path, or restore a backup", err)
	}
	return db, err
}

// ErrInUse means that another process has the file open.
var ErrInUse = errors.New("the store is in use")

// inUse names the owner of the file as far as it can be known.
func inUse(path string) error {
	b, err := os.ReadFile(ownerPath(path))
	pid, name, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
	if _, bad := strconv.Atoi(pid); err != nil || !ok || bad != nil {
		return fmt.Errorf("%w by another process", ErrInUse)
	}
	return fmt.Errorf("%w by %s (pid %s)", ErrInUse, name, pid)
}

// The owner's name lies beside the file. It is only a hint: the lock decides.
func ownerPath(path string) string { return path + ".owner" }

func writeOwner(path, name string) error {
	line := fmt.Sprintf("%d %s\n", os.Getpid(), cmp.Or(name, "another process"))
	return os.WriteFile(ownerPath(path), []byte(line), fileMode)
}

func removeOwner(path string) { _ = os.Remove(ownerPath(path)) } // at worst a stale hint stays

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
