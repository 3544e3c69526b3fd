package main

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/hubgate/hubgate/authz"
)

// socketMode lets the owner in and nobody else: whoever opens the socket may do
// everything.
const socketMode = 0o600

// listenSocket binds the administrators' socket. One that a dead process left
// is replaced; one in use is refused, and says who uses it.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if pid, ok := socketOwner(path); ok {
		return nil, fmt.Errorf("admin.socket: %s is in use by process %d: stop it, or set admin.socket to another path", path, pid)
	}
	l, err := authz.Listen(ctx, "unix://"+path, socketMode)
	if err != nil {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	return l, nil
}

// socketOwner is the process that listens on a Unix socket, if one does.
func socketOwner(path string) (pid int32, ok bool) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 0, false
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		var peer *unix.Ucred
		if peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid, ok = peer.Pid, true
		}
	})
	return pid, ok && err == nil
}
