package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// startOn measures how long hubgate takes from its start until it is ready,
// with many hubs in its store, beside a program that reads the same hubs and
// ends.
func startOn(store string) func(context.Context, *world, *result) error {
	return func(ctx context.Context, w *world, r *result) error {
		url := "bolt:" + filepath.Join(w.dir, "start.db")
		if store == "redis" {
			var err error
			if url, err = w.startRedis(ctx, generatorCPU()); err != nil {
				return err
			}
		}
		if err := withStore(ctx, url, func(s registry) error {
			_, err := createHubs(ctx, s, w.hubs)
			return err
		}); err != nil {
			return err
		}
		seconds := func(f func() (cpu time.Duration, err error)) func() (sample, error) {
			return func() (sample, error) {
				began := time.Now()
				cpu, err := f()
				return sample{"seconds": time.Since(began).Seconds(), "CPU s": cpu.Seconds()}, err
			}
		}
		hubgate := &side{name: "hubgate", measure: seconds(func() (time.Duration, error) {
			s, err := w.startHubgate(ctx, hubgateSpec{name: "start-" + store, store: url})
			if err != nil {
				return 0, err
			}
			defer s.process.Kill()
			return s.cpu()
		})}
		bare := &side{name: "bare read", measure: seconds(func() (time.Duration, error) { return w.bareRead(ctx, url) })}
		if err := measureInTurns([]*side{hubgate, bare}, min(w.rounds, 3)); err != nil {
			return err
		}
		r.What = fmt.Sprintf("%s with %d hubs on %s", r.What, w.hubs, store)
		r.Columns, r.Rows = []string{"seconds", "CPU s"}, rowsOf([]*side{hubgate, bare})
		r.Targets = []target{ratio("seconds", hubgate, bare).atMost(3)}
		return nil
	}
}

// bareRead runs this program as the one that reads.
func (w *world) bareRead(ctx context.Context, url string) (cpu time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	c := exec.CommandContext(ctx, self, "-serve", "bare-read", url, "")
	pinned(serverCPUs(), func() {
		var out []byte
		if out, err = c.CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
			return
		}
		cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	})
	return cpu, err
}

// readHubs is what bareRead's process does.
func readHubs(ctx context.Context, url string) error {
	return withStore(ctx, url, func(s registry) error {
		var group errgroup.Group
		group.SetLimit(8)
		for p := range s.Partitions() {
			group.Go(func() error {
				_, err := s.Hubs(ctx, p)
				return err
			})
		}
		return group.Wait()
	})
}
