// Package redistest starts real Redis servers for tests: a standalone server,
// a replica, a sentinel, a cluster. An imitation of Redis would agree with our
// idea of Redis; the bugs are where the real one does not.
//
// Every server has a directory and free loopback ports of its own, and is gone
// when the test ends.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/internal/process"
)

const (
	// startTimeout is generous: the machine runs many servers at once.
	startTimeout = 20 * time.Second
	// startTries bounds how often a port that was taken meanwhile is replaced.
	startTries = 5
)

// Server is a redis-server process. It keeps its data when it is stopped and
// started again, unless its arguments say otherwise.
type Server struct {
	t    testing.TB
	dir  string
	port int
	args []string

	mu   sync.Mutex
	proc *process.Process // nil while stopped
}

// Start starts a standalone server. The arguments are redis-server's and come
// after (so they override) those that make it listen and persist, for example
// "--appendonly", "no".
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, 1, func([]int) []string { return args })
}

// StartReplica starts a replica of the server and waits until it has caught up.
func StartReplica(t testing.TB, of *Server) *Server {
	t.Helper()
	s := Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(of.port))
	s.await("the replica's link", func(ctx context.Context, c *redis.Client) error {
		role, err := c.Do(ctx, "ROLE").Slice()
		if err != nil {
			return err
		}
		if len(role) < 4 || role[3] != "connected" {
			return fmt.Errorf("role is %v", role)
		}
		return nil
	})
	return s
}

// StartSentinel starts a sentinel that watches the server under that name.
func StartSentinel(t testing.TB, master string, of *Server) *Server {
	t.Helper()
	return start(t, 1, func([]int) []string {
		return []string{"--sentinel", "monitor", master, "127.0.0.1", strconv.Itoa(of.port), "1"}
	}, "sentinel")
}

// start starts a server with nports ports, of which args gets all.
func start(t testing.TB, nports int, args func(ports []int) []string, mode ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatalf("redis-server is not on PATH; install it with: apt-get install redis-server")
	}
	// Not t.TempDir: its paths are too long for a unix socket.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir}
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(dir)
	})
	var errs error
	for range startTries {
		ports, err := process.FreePorts(nports)
		if err != nil {
			t.Fatal(err)
		}
		s.port = ports[0]
		s.args = append(s.arguments(mode), args(ports)...)
		err = s.start()
		if err == nil {
			return s
		}
		errs = errors.Join(errs, err)
	}
	t.Fatal(errs)
	return nil
}

func (s *Server) arguments(mode []string) []string {
	listen := []string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir}
	if len(mode) > 0 {
		// A sentinel insists on a configuration file that it can rewrite.
		file := filepath.Join(s.dir, mode[0]+".conf")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			s.t.Fatal(err)
		}
		return append([]string{file, "--" + mode[0]}, listen...)
	}
	return append(listen, "--unixsocket", s.socket(), "--save", "", "--appendonly", "yes", "--appendfsync", "no",
		"--repl-diskless-sync-delay", "0")
}

func (s *Server) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	p, err := process.Start(ctx, process.Spec{
		Name: "redis-server",
		Path: "redis-server",
		Args: s.args,
		Ready: func(ctx context.Context) error {
			c := s.Client()
			defer func() { _ = c.Close() }()
			return c.Ping(ctx).Err()
		},
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	return nil
}

func (s *Server) socket() string { return filepath.Join(s.dir, "s") }

// Addr is the server's TCP address.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is the server's redis:// URL.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// SocketURL is the unix:// URL of the same server.
func (s *Server) SocketURL() string { return "unix://" + s.socket() }

// Client returns a plain client of this one server. The caller closes it.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr(), DisableIdentity: true})
}

// Do runs one command and fails the test if that fails.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	c := s.Client()
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	v, err := c.Do(ctx, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

// Stop ends the server in good order.
func (s *Server) Stop() {
	s.t.Helper()
	if p := s.take(); p != nil {
		if err := p.Stop(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	if p := s.take(); p != nil {
		p.Kill()
	}
}

func (s *Server) take() *process.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.proc
	s.proc = nil
	return p
}

// Start starts a stopped server again, on the same port and data.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Pause freezes the server: connections stay open and nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		s.t.Fatal("the server is stopped")
	}
	if err := s.proc.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// await polls the server until check is content.
func (s *Server) await(what string, check func(context.Context, *redis.Client) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := s.Client()
	defer func() { _ = c.Close() }()
	for {
		err := check(ctx, c)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("%s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
