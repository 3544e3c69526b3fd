// Package process starts the real servers that the demo and the tests run
// against (Envoy, redis-server, mosquitto, hubgate itself) and makes sure that
// they end: on Stop, and when the process that started them dies.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	// outputLimit bounds what is kept of a process's output, in bytes.
	outputLimit = 256 << 10
	// stopGrace is how long a process has to end after SIGTERM.
	stopGrace = 10 * time.Second
	// readyPoll is the pause between two readiness checks.
	readyPoll = 20 * time.Millisecond
)

// Spec says what to start and when it counts as started.
type Spec struct {
	Name string   // for errors
	Path string   // binary; looked up on PATH when it has no slash
	Args []string // without the binary's own name
	Dir  string   // working directory
	Env  []string // added to this process's environment
	// Ready reports nil once the process serves. It is called until then,
	// until the process ends, or until the context of Start ends. Nil means
	// ready at once.
	Ready func(ctx context.Context) error
	// Log receives stdout and stderr as well; nil keeps only the tail.
	Log io.Writer
}

// Process is a started process. Its methods are safe for concurrent use.
type Process struct {
	name string
	cmd  *exec.Cmd
	out  *tail
	done chan struct{}
	err  error // set before done is closed
}

// Start starts the process and returns once it is ready. A process that is
// not ready in time has been killed by then, and the error carries the end of
// its output.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Dir = spec.Dir
	cmd.Env = append(os.Environ(), spec.Env...)
	// A group of its own keeps the terminal's Ctrl-C away from it; the death
	// signal ends it with us even if we are killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{name: spec.Name, cmd: cmd, out: &tail{}, done: make(chan struct{})}
	var w io.Writer = p.out
	if spec.Log != nil {
		w = io.MultiWriter(p.out, spec.Log)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := p.await(ctx, spec.Ready); err != nil {
		p.Kill()
		return nil, fmt.Errorf("%s did not start: %w\n%s", spec.Name, err, p.Output())
	}
	return p, nil
}

func (p *Process) await(ctx context.Context, ready func(context.Context) error) error {
	if ready == nil {
		return nil
	}
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %w", errors.Join(p.err, err))
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(readyPoll):
		}
	}
}

// Pid is the process ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is the last 256 KiB of what the process wrote.
func (p *Process) Output() string { return p.out.String() }

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to end, waits up to ten seconds, then kills it. It
// returns the process's own exit error.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(stopGrace):
		p.Kill()
		return fmt.Errorf("%s ignored SIGTERM for %s and was killed", p.name, stopGrace)
	}
}

// Kill ends the process with SIGKILL and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// The ports to choose from. Linux takes those of outgoing connections from
// 32768 on, so a busy test does not snatch a port between its choice and its
// use.
const (
	lowestPort  = 16384
	highestPort = 32767
	portTries   = 1000
)

// FreePorts returns n TCP ports of the loopback address that were free a
// moment ago and differ from each other.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		switch {
		case err == nil:
			defer func() { _ = l.Close() }()
			ports = append(ports, port)
		case tries >= portTries:
			return nil, fmt.Errorf("find a free port: %w", err)
		}
	}
	return ports, nil
}

// Accepts returns a readiness check: the address accepts TCP connections.
func Accepts(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		d := net.Dialer{Timeout: time.Second}
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// tail keeps the last outputLimit bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(b)
	if over := t.buf.Len() - outputLimit; over > 0 {
		t.buf.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
