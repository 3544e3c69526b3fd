package redisstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/provision/storetest"
)

var _ storetest.Store = (*redisstore.Store)(nil)

// TestMain lets the test binary be one of several racing processes.
func TestMain(m *testing.M) {
	if job := os.Getenv("REDISSTORE_RACER"); job != "" {
		if err := runRacer(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// open opens a store that is closed at the end of the test.
func open(t testing.TB, c redisstore.Config) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// patient has a time-out that a machine busy with many tests does not reach.
func patient(url string) redisstore.Config {
	return redisstore.Config{URL: url, Timeout: 20 * time.Second}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	options := storetest.FromEnv()
	if options.Names == 0 {
		// TestRaceOfProcesses runs the race at its full size. Its processes take
		// the machine meanwhile, so the storms before a fence get longer.
		options.Names, options.Storm = 250, 250*time.Millisecond
	}
	for name, start := range map[string]func(t *testing.T) string{
		"standalone": func(t *testing.T) string { return redistest.Start(t).SocketURL() },
		"cluster":    func(t *testing.T) string { return redistest.StartCluster(t, 3).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := start(t)
			storetest.Run(t, func(t *testing.T) storetest.Fixture {
				clock := &storetest.Clock{}
				c := patient(url)
				c.Now = clock.Now
				return storetest.Fixture{
					Store:   open(t, c),
					Replica: func(t *testing.T) storetest.Store { return open(t, c) },
					Clock:   clock,
				}
			}, options)
		})
	}
}

// racer is the job of one racing process.
type racer struct {
	URL        string
	Hub        provision.Hub
	Names      int
	Goroutines int
	Process    int
}

func runRacer(job string) error {
	var r racer
	if err := json.Unmarshal([]byte(job), &r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, err := redisstore.Open(ctx, patient(r.URL))
	if err != nil {
		return err
	}
	created, err := storetest.Race(ctx, s, r.Hub, storetest.RaceNames(r.Names), r.Goroutines, r.Process)
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(created)
}

// TestRaceOfProcesses is the store's centre: first connections that race in
// three processes make exactly one device and one event each.
func TestRaceOfProcesses(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) string{
		"standalone": func(t *testing.T) string { return redistest.Start(t).URL() },
		"cluster":    func(t *testing.T) string { return redistest.StartCluster(t, 3).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const processes, goroutines, names = 3, 64, 1000
			url := start(t)
			s := open(t, patient(url))
			hub, err := storetest.CreateHub(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			var (
				mu  sync.Mutex
				all []string
				wg  sync.WaitGroup
			)
			for p := range processes {
				job, err := json.Marshal(racer{url, hub, names, (goroutines + p) / processes, p})
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					cmd := exec.CommandContext(t.Context(), os.Args[0])
					cmd.Env = append(os.Environ(), "REDISSTORE_RACER="+string(job))
					cmd.Stderr = os.Stderr
					out, err := cmd.Output()
					var created []string
					if err == nil {
						err = json.Unmarshal(out, &created)
					}
					if err != nil {
						t.Errorf("process %d: %v", p, err)
						return
					}
					t.Logf("process %d created %d", p, len(created))
					mu.Lock()
					defer mu.Unlock()
					all = append(all, created...)
				})
			}
			wg.Wait()
			if err := storetest.CheckRace(t.Context(), s, hub.ID, storetest.RaceNames(names), all); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	storetest.Trim(t, open(t, patient(redistest.Start(t).SocketURL())))
}
