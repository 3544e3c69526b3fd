package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"github.com/hubgate/hubgate/internal/process"
)

// server is a process that answers checks.
type server struct {
	name    string
	address string
	metrics string // URL
	process *process.Process
}

// startTimeout bounds a server's start.
const startTimeout = time.Minute

// launch starts a program on the server's processors. Go sets GOMAXPROCS by
// them.
func launch(ctx context.Context, spec process.Spec) (*process.Process, error) {
	var (
		p   *process.Process
		err error
	)
	// A child has the affinity of the thread that starts it.
	pinned(serverCPUs(), func() {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		p, err = process.Start(ctx, spec)
	})
	return p, err
}

// startNoop starts one of the servers of this program, which is called again
// for that.
func startNoop(ctx context.Context, kind string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ports, err := process.FreePorts(2)
	if err != nil {
		return nil, err
	}
	at, metrics := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	p, err := launch(ctx, process.Spec{
		Name: kind, Path: self, Args: []string{"-serve", kind, at, metrics}, Ready: process.Accepts(at),
	})
	if err != nil {
		return nil, err
	}
	return &server{name: kind, address: at, metrics: "http://" + metrics + "/metrics", process: p}, nil
}

// serve is what startNoop's process does.
func serve(ctx context.Context, kind, at, metrics string) error {
	var lc net.ListenConfig
	m, err := lc.Listen(ctx, "tcp", metrics)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(m, promhttp.Handler()) }() //nolint:gosec // only this program asks
	l, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return err
	}
	switch kind {
	case "stock":
		return serveStock(ctx, l)
	case "raw":
		return serveRaw(ctx, l)
	}
	return fmt.Errorf("no server %q", kind)
}

// startHubgate starts hubgate as an operator does, with one hub that trusts the
// vendor.
func startHubgate(ctx context.Context, binary, dir string, v *vendor, store string) (*server, error) {
	ports, err := process.FreePorts(3)
	if err != nil {
		return nil, err
	}
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), v.rootPEM(), 0o600); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`domain: %s
store: %s
authz: {listen: %s}
link: {listen: %s}
metrics: {listen: %s}
admin: {listen: "off", socket: %s}
hubs:
  - {name: %s, auto_provisioning: true, trust_anchors: [ca.pem]}
`, domain, store, at(0), at(1), at(2), filepath.Join(dir, "admin.sock"), hubName)
	file := filepath.Join(dir, "hubgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "hubgate.log"))
	if err != nil {
		return nil, err
	}
	p, err := launch(ctx, process.Spec{
		Name: "hubgate", Path: binary, Args: []string{"serve", "--config", file}, Log: log,
		Ready: func(ctx context.Context) error {
			_, err := get(ctx, "http://"+at(2)+"/readyz")
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return &server{name: "hubgate", address: at(0), metrics: "http://" + at(2) + "/metrics", process: p}, nil
}

// mallocs is how many objects the process has allocated so far.
func (s *server) mallocs(ctx context.Context) (float64, error) {
	text, err := get(ctx, s.metrics)
	if err != nil {
		return 0, err
	}
	const name = "\ngo_memstats_mallocs_total "
	_, after, ok := strings.Cut(text, name)
	value, _, _ := strings.Cut(after, "\n")
	if !ok {
		return 0, fmt.Errorf("%s does not tell%s", s.metrics, name)
	}
	return strconv.ParseFloat(value, 64)
}

// get reads a page.
func get(ctx context.Context, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(text), err
}

// cpuTime is what the process has used so far, user and system.
func (s *server) cpuTime() (time.Duration, error) { return cpuTime(s.process.Pid()) }

// cpuTime reads /proc/PID/stat (proc(5)), in steps of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything.
	_, after, ok := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if !ok || len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is not as it should be")
	}
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Linux runs Go
	return time.Duration(user+system) * tick, errors.Join(errUser, errSystem)
}

// serverCPUs are the processors of the servers: all but the last, which is the
// generator's. Where there is only one they share it.
func serverCPUs() []int {
	n := runtime.NumCPU()
	cpus := make([]int, 0, n)
	for i := range max(1, n-1) {
		cpus = append(cpus, i)
	}
	return cpus
}

// pinned runs f on a thread that keeps to the processors, as do the processes
// that f starts. The thread lives on: what it started would die with it.
func pinned(cpus []int, f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if unix.SchedGetaffinity(0, &before) == nil && pin(cpus) == nil {
		defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	}
	f()
}

// pin keeps this thread to the processors.
func pin(cpus []int) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	return unix.SchedSetaffinity(0, &set)
}
