package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/hubgate/hubgate/internal/process"
)

// world is what the cases share: the vendors, and servers that are started when
// a case first needs them.
type world struct {
	options
	progress     io.Writer
	dir          string
	own, foreign *vendor
	servers      map[string]*server
	backend      string // addresses of what is behind Envoys
	broker       string
	edges        map[string]*edge
	processes    []*process.Process
	closers      []func()
}

func newWorld(ctx context.Context, o options, progress io.Writer) (*world, error) {
	dir, err := os.MkdirTemp("", "hubgate-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{options: o, progress: progress, dir: dir, servers: make(map[string]*server), edges: make(map[string]*edge)}
	if err := w.make(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) make(ctx context.Context) (err error) {
	if w.hubgate == "" {
		w.hubgate = filepath.Join(w.dir, "hubgate-under-test")
		build := exec.CommandContext(ctx, "go", "build", "-o", w.hubgate, "github.com/hubgate/hubgate/cmd/hubgate")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build hubgate: %w\n%s", err, text)
		}
	}
	if w.own, err = newVendor("Acme"); err != nil {
		return err
	}
	w.foreign, err = newVendor("Globex")
	return err
}

// close ends all that was started.
func (w *world) close() {
	for _, p := range w.processes {
		p.Kill()
	}
	for _, f := range w.closers {
		f()
	}
	_ = os.RemoveAll(w.dir)
}

// server gives the one of that name: hubgate, on the embedded store, or one of
// those that it is compared with.
func (w *world) server(ctx context.Context, name string) (*server, error) {
	s, ok := w.servers[name]
	if ok {
		return s, nil
	}
	var err error
	if name == "hubgate" {
		s, err = w.startHubgate(ctx, hubgateSpec{name: "hubgate", store: "bolt:hubgate.db"})
	} else {
		s, err = w.startNoop(ctx, name)
	}
	if err == nil {
		w.servers[name] = s
	}
	return s, err
}
