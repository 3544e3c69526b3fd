package authz

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// unixScheme marks the address of a Unix socket: unix:///path.
const unixScheme = "unix://"

// Listen binds host:port, or a Unix socket given as unix:///path, which gets
// that mode: 0600 if mode is 0. The socket appears under its path with its mode
// already set, in place of one that nobody listens on any more, and goes away
// when the listener is closed. A socket in use, or a path that is no socket, is
// an error.
func Listen(ctx context.Context, address string, mode fs.FileMode) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, unixScheme)
	if !ok {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on %q: %w", address, err)
		}
		return l, nil
	}
	if mode == 0 {
		mode = 0o600
	}
	l, err := listenUnix(ctx, path, mode)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", address, err)
	}
	return l, nil
}

func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the path of the socket has to be absolute")
	}
	if err := checkStale(ctx, path); err != nil {
		return nil, err
	}
	// Bound in a folder that nobody else may enter, the socket is closed to
	// others until its mode is right; the umask belongs to the whole process.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".hubgate-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	private := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	info, err := publish(private, path, mode)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &unixListener{UnixListener: l, path: path, info: info}, nil
}

// publish gives the socket its mode and its place.
func publish(private, path string, mode fs.FileMode) (fs.FileInfo, error) {
	if err := os.Chmod(private, mode); err != nil {
		return nil, err
	}
	info, err := os.Lstat(private)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(private, path)
}

// checkStale reports why the path cannot be replaced, if it is taken.
func checkStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("the path is taken by something that is no socket")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("another process listens there")
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil
	default:
		return fmt.Errorf("cannot tell whether another process listens there: %w", err)
	}
}

// unixListener is a listener under the path it was moved to.
type unixListener struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close removes the socket unless another one has taken its place.
func (l *unixListener) Close() error {
	if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.info) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// limitedListener closes connections beyond its limit at once: a client that
// is kept waiting would only find out by a time-out.
type limitedListener struct {
	net.Listener
	limit   int64
	open    atomic.Int64
	metrics *metrics
}

// Accept returns the next connection within the limit.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > l.limit {
			l.open.Add(-1)
			l.metrics.refused.Inc()
			_ = conn.Close()
			continue
		}
		l.metrics.open.Inc()
		return &limitedConn{Conn: conn, release: sync.OnceFunc(func() {
			l.open.Add(-1)
			l.metrics.open.Dec()
		})}, nil
	}
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close closes the connection and makes room for another.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
