package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// declaredHubs are how many hubs the file that is reloaded declares beside the
// one that the devices are of.
const declaredHubs = 100

// reloadEvery is how often it is.
const reloadEvery = 250 * time.Millisecond

// reloads measures how long checks take while the configuration changes and is
// reloaded, beside how long they take in peace. Each is looked at: none may fail.
func reloads(ctx context.Context, w *world, r *result) error {
	requests, err := w.httpChecks()
	if err != nil {
		return err
	}
	s, err := w.startHubgate(ctx, hubgateSpec{name: "reload", store: "bolt:hubgate.db", declared: declaredHubs})
	if err != nil {
		return err
	}
	defer s.process.Kill()
	l, err := openLoad(ctx, s, requests, verdict(true))
	if err != nil {
		return err
	}
	defer l.close()
	for _, c := range l.conns {
		c.Sample = 1
	}
	if err := l.warm(ctx, w.inFlight); err != nil { // its devices come to be known
		return err
	}
	open := func() (sample, error) {
		took, err := l.open(ctx, openRate, w.long)
		m := make(sample)
		if err == nil {
			percentiles(m, took)
		}
		return m, err
	}
	sides := []*side{
		{name: "reloading", measure: func() (sample, error) {
			before, err := s.reloaded()
			if err != nil {
				return nil, err
			}
			reloading, end := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() { ended <- s.reload(reloading) }()
			m, err := open()
			end()
			if err := errors.Join(err, <-ended); err != nil {
				return nil, err
			}
			after, err := s.reloaded()
			m["reloads"] = float64(after - before)
			return m, err
		}},
		{name: "in peace", measure: open},
	}
	if err := measureInTurns(sides, w.rounds); err != nil {
		return err
	}
	r.What = fmt.Sprintf("%s; it declares %d hubs", r.What, declaredHubs+1)
	r.Columns, r.Rows = []string{"p50 µs", "p99 µs", "p99.9 µs", "reloads"}, rowsOf(sides)
	r.Targets = []target{ratio("p50 µs", sides[0], sides[1]).atMost(1.1), ratio("p99 µs", sides[0], sides[1]).atMost(1.1)}
	return nil
}

// reload changes hubgate's configuration and has it read, until the context
// ends: the hubs that it declares besides provision devices, then they do not.
func (s *server) reload(ctx context.Context) error {
	text, err := os.ReadFile(s.config)
	if err != nil {
		return err
	}
	open, closed := []byte("auto_provisioning: true, trust_anchors: [other"), []byte("auto_provisioning: false, trust_anchors: [other")
	for {
		text = swap(text, open, closed)
		fresh := s.config + ".new"
		if err := os.WriteFile(fresh, text, 0o600); err != nil { //nolint:gosec // beside what this program wrote
			return err
		}
		if err := os.Rename(fresh, s.config); err != nil {
			return err
		}
		if err := s.process.Signal(unix.SIGHUP); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reloadEvery):
		}
	}
}

// swap replaces one by the other, whichever there is.
func swap(text, one, other []byte) []byte {
	if bytes.Contains(text, one) {
		return bytes.ReplaceAll(text, one, other)
	}
	return bytes.ReplaceAll(text, other, one)
}

// reloaded is how often hubgate has reloaded its configuration.
func (s *server) reloaded() (int, error) {
	log, err := os.ReadFile(s.log)
	if err == nil && strings.Contains(string(log), "configuration not reloaded") {
		err = errors.New("a reload failed: see " + s.log)
	}
	return strings.Count(string(log), "configuration reloaded"), err
}
