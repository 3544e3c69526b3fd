package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/bbolt"
)

// Backup writes a consistent copy of the store, as it is now, while it serves.
// It returns the number of bytes written. The file grows while a backup runs,
// by what is changed meanwhile.
func (s *Store) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		n, err = tx.WriteTo(writerWithContext{ctx, w})
		return err
	})
	if err != nil {
		return n, fmt.Errorf("back up %s: %w", s.path, err)
	}
	return n, nil
}

// writerWithContext fails once the context has ended.
type writerWithContext struct {
	ctx context.Context
	w   io.Writer
}

func (w writerWithContext) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// Restore puts a copy of the backup at the path, once it is verified, in one
// step that a crash cannot split. A file that is there is replaced only if
// force is set, and never while a process has it open.
func Restore(backup, path string, force bool) (report Report, err error) {
	old, err := lockExisting(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return Report{}, fmt.Errorf("restore to %s: %w", path, err)
	default:
		defer func() { err = errors.Join(err, old.Close()) }() // unlocks it
		if !force {
			return Report{}, fmt.Errorf("restore to %s: %w: move it away, or force it", path, fs.ErrExist)
		}
	}
	copied, err := copyBeside(backup, path)
	if err != nil {
		return Report{}, fmt.Errorf("restore %s: %w", backup, err)
	}
	defer func() { _ = os.Remove(copied) }() // gone already if all went well
	if report, err = Verify(copied); err != nil {
		return report, fmt.Errorf("backup %s is not in order: %w", backup, err)
	}
	// Without force nothing is replaced, not even what came just now.
	put := os.Link
	if force {
		put = os.Rename
	}
	if err := put(copied, path); err != nil {
		return report, fmt.Errorf("restore to %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return report, fmt.Errorf("restore to %s: %w", path, err)
	}
	return report, nil
}

// lockExisting opens the file and takes the lock that a store holds on it,
// whatever state the file is in.
func lockExisting(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = inUse(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// copyBeside makes a durable copy under a temporary name in path's directory.
func copyBeside(from, path string) (name string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".restore-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return "", errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), nil
}
