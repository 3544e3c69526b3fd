package main

import (
	"context"
	"crypto/x509"
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

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
)

// server is a process that answers checks.
type server struct {
	name    string
	address string
	metrics string // URL
	process *process.Process
	// Of hubgate:
	link   string // for Envoy's library
	config string // file
	log    string // file
}

// startTimeout bounds a server's start.
const startTimeout = time.Minute

// launch starts a program on those processors. Go sets GOMAXPROCS by them.
func launch(ctx context.Context, cpus []int, spec process.Spec) (*process.Process, error) {
	var (
		p   *process.Process
		err error
	)
	// A child has the affinity of the thread that starts it.
	pinned(cpus, func() {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		p, err = process.Start(ctx, spec)
	})
	return p, err
}

// start is launch for what ends with the world.
func (w *world) start(ctx context.Context, cpus []int, spec process.Spec) (*process.Process, error) {
	p, err := launch(ctx, cpus, spec)
	if err == nil {
		w.processes = append(w.processes, p)
	}
	return p, err
}

// startNoop starts one of the servers of this program, which is called again
// for that.
func (w *world) startNoop(ctx context.Context, kind string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	at, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	p, err := w.start(ctx, serverCPUs(), process.Spec{
		Name: kind, Path: self, Args: []string{"-serve", kind, at[0], at[1]}, Ready: process.Accepts(at[0]),
	})
	if err != nil {
		return nil, err
	}
	return &server{name: kind, address: at[0], metrics: "http://" + at[1] + "/metrics", process: p}, nil
}

// serve is what startNoop's process does.
func serve(ctx context.Context, kind, at, metrics string) error {
	switch kind {
	case "bare-read":
		return readHubs(ctx, at)
	case "bare-work":
		return doWork(ctx, at, metrics)
	}
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
		return serveRaw(ctx, l, nil)
	}
	if file, ok := strings.CutPrefix(kind, workKind); ok {
		k, err := readWork(file)
		if err != nil {
			return err
		}
		return serveRaw(ctx, l, k.next)
	}
	return fmt.Errorf("no server %q", kind)
}

// hubgateSpec says which hubgate to start.
type hubgateSpec struct {
	name     string // of its directory, too
	store    string
	declared int // hubs in its file, beside the one that trusts the vendor
	// intermediates are what the hub knows from the start.
	intermediates []*x509.Certificate
}

// startHubgate starts hubgate as an operator does, with one hub that trusts the
// vendor.
func (w *world) startHubgate(ctx context.Context, spec hubgateSpec) (*server, error) {
	at, err := freeAddresses(3)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(w.dir, spec.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), w.own.rootPEM(), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "line.pem"), pki.EncodeCertificates(spec.intermediates...), 0o600); err != nil {
		return nil, err
	}
	intermediates := ""
	if len(spec.intermediates) > 0 {
		intermediates = ", intermediates: [line.pem]"
	}
	text := fmt.Sprintf(`domain: %s
store: %s
authz: {listen: %s}
link: {listen: %s}
metrics: {listen: %s}
admin: {listen: "off", socket: admin.sock}
hubs:
  - {name: %s, auto_provisioning: true, trust_anchors: [ca.pem]%s}
`, domain, spec.store, at[0], at[1], at[2], hubName, intermediates)
	for i := range spec.declared {
		ca, err := pki.NewRoot(fmt.Sprintf("Other %d", i))
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("other-%d", i)
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), pki.EncodeCertificates(ca.Certificate), 0o600); err != nil {
			return nil, err
		}
		text += fmt.Sprintf("  - {name: %s, auto_provisioning: true, trust_anchors: [%s.pem]}\n", name, name)
	}
	file := filepath.Join(dir, "hubgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "hubgate.log"))
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, func() { _ = log.Close() })
	p, err := w.start(ctx, serverCPUs(), process.Spec{
		Name: "hubgate", Path: w.hubgate, Args: []string{"serve", "--config", file}, Dir: dir, Log: log,
		Ready: func(ctx context.Context) error {
			_, err := get(ctx, "http://"+at[2]+"/readyz")
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return &server{
		name: "hubgate", address: at[0], metrics: "http://" + at[2] + "/metrics", process: p,
		link: at[1], config: file, log: log.Name(),
	}, nil
}

func freeAddresses(n int) ([]string, error) {
	ports, err := process.FreePorts(n)
	at := make([]string, len(ports))
	for i, port := range ports {
		at[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return at, err
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

// cpu is what the process has computed so far.
func (s *server) cpu() (time.Duration, error) { return cpuTime(s.process.Pid()) }

// cpuTime reads a process's processor clock, of user mode and the kernel: the
// ticks of /proc are too coarse for short rounds.
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED; the rest is how Linux names another process's clock
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|scheduler, &spent); err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(spent.Nano()), nil
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

// generatorCPU is the processor of the generator, and of what belongs to none
// of those that are compared: the broker, the backend.
func generatorCPU() []int { return []int{runtime.NumCPU() - 1} }

// keepOff keeps this program off the servers' processors: each of its threads,
// and so those that they start.
func keepOff() error {
	runtime.GOMAXPROCS(2) // one may wait in the kernel
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := pin(id, generatorCPU()); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// pinned runs f on a thread that keeps to the processors, as do the processes
// that f starts. The thread lives on: what it started would die with it.
func pinned(cpus []int, f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if unix.SchedGetaffinity(0, &before) == nil && pin(0, cpus) == nil {
		defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	}
	f()
}

// pin keeps a thread, this one if it is 0, to the processors.
func pin(thread int, cpus []int) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	return unix.SchedSetaffinity(thread, &set)
}
