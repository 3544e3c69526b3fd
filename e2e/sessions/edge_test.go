package sessions

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hubgate/hubgate/envoy"
	"github.com/hubgate/hubgate/envoy/module/modulebin"
	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
)

// library is what Envoy loads, built once.
var library = sync.OnceValues(func() (string, error) { return modulebin.Path(context.Background()) })

// edge is the real Envoy, as the generator configures it. It can be started
// again at the same addresses.
type edge struct {
	https, mqtt                string
	insecureHTTP, insecureMQTT string // "": none
	servers                    *x509.CertPool
	file                       string // its configuration
	process                    *process.Process
}

// edgeConfig says what an Envoy is between.
type edgeConfig struct {
	authz, link     string // no link: without the library
	broker, backend string
	insecure        bool // listens without TLS, too
}

func startEdge(t testing.TB, c edgeConfig, args ...string) *edge {
	t.Helper()
	ca := must(pki.NewRoot("Server CA"))(t)
	identity := must(ca.Server(domain, "*."+domain, "127.0.0.1"))(t)
	certificate, key, err := identity.WriteFiles(t.TempDir(), "server")
	if err != nil {
		t.Fatal(err)
	}
	addresses := freeAddresses(t, 2)
	e := &edge{https: addresses[0], mqtt: addresses[1], servers: x509.NewCertPool()}
	e.servers.AddCert(ca.Certificate)
	o := envoy.Options{
		Domain:       domain,
		HTTPS:        &envoy.HTTPS{Listen: e.https, Backends: []string{c.backend}},
		MQTT:         &envoy.MQTT{Listen: e.mqtt, Brokers: []string{c.broker}},
		Certificates: []envoy.KeyPair{{Certificate: certificate, Key: key}},
		Hubgate:      envoy.Hubgate{Addresses: []string{c.authz}, CheckTimeout: 20 * time.Second},
		NodeID:       "edge",
		// Two cores, many tests: each step may have to wait for its turn.
		HandshakeTimeout: time.Minute,
	}
	if c.link != "" {
		o.Module = &envoy.Module{Library: must(library())(t), Links: []string{c.link}, ConnectTimeout: time.Minute}
	}
	if c.insecure {
		addresses := freeAddresses(t, 2)
		e.insecureHTTP, e.insecureMQTT = addresses[0], addresses[1]
		o.HTTPS.Insecure, o.MQTT.Insecure, o.AccessLog = e.insecureHTTP, e.insecureMQTT, true
	}
	e.file = write(t, "envoy.yaml", must(envoy.Bootstrap(o))(t))
	if len(args) == 0 {
		args = []string{"--disable-hot-restart"}
	}
	e.start(t, args...)
	return e
}

// start starts a process of this Envoy, beside the one that there may be.
func (e *edge) start(t testing.TB, args ...string) {
	t.Helper()
	binary := must(envoybin.Path(t.Context(), io.Discard))(t)
	e.process = start(t, process.Spec{
		Name: "Envoy", Path: binary,
		Args: append([]string{"-c", e.file, "--concurrency", "2", "--log-level", "warn"}, args...),
		Ready: func(ctx context.Context) error {
			for _, address := range []string{e.https, e.mqtt, e.insecureHTTP, e.insecureMQTT} {
				if address == "" {
					continue
				}
				if err := process.Accepts(address)(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// rss is how much memory the process holds, in bytes.
func (e *edge) rss(t testing.TB) int {
	t.Helper()
	text := must(os.ReadFile(fmt.Sprintf("/proc/%d/status", e.process.Pid())))(t)
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// settled is rss once it does not change any more.
func (e *edge) settled(t testing.TB) int {
	t.Helper()
	for last := -1; ; time.Sleep(500 * time.Millisecond) {
		now := e.rss(t)
		if now == last {
			return now
		}
		last = now
	}
}

// cpu is how long the process has computed, in user mode and in the kernel, by
// its processor clock: ticks are too coarse.
func (e *edge) cpu(t testing.TB) time.Duration {
	t.Helper()
	const scheduler = 2 // CPUCLOCK_SCHED
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(^e.process.Pid())<<3|scheduler, &spent); err != nil {
		t.Fatal(err)
	}
	return time.Duration(spent.Nano())
}

// start starts a process that ends with the test.
func start(t testing.TB, spec process.Spec) *process.Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := must(process.Start(ctx, spec))(t)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			out := p.Output()
			t.Logf("the end of what %s wrote:\n%s", spec.Name, out[max(0, len(out)-4<<10):])
		}
	})
	return p
}

// ownTopics is an ACL that believes what user names say, and keeps each to the
// topics under it; allTopics lets everybody do everything.
const (
	ownTopics = "pattern readwrite %u/#\n"
	allTopics = "topic readwrite #\npattern readwrite #\n"
)

// startBroker starts a mosquitto that goes by an ACL.
func startBroker(t testing.TB, rules string) string {
	t.Helper()
	address, _ := startMosquitto(t, "error", "allow_anonymous true\nacl_file "+write(t, "acl", []byte(rules)))
	return address
}

// startMosquitto starts a mosquitto with these settings and its own, which logs
// what is of that type.
func startMosquitto(t testing.TB, logs, settings string) (string, *process.Process) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			t.Fatal("mosquitto is missing; install it with: apt-get install mosquitto")
		}
	}
	self := must(user.Current())(t)
	address := freeAddresses(t, 1)[0]
	// Started by root, it would change to a user that cannot read the files.
	config := fmt.Sprintf("listener %s 127.0.0.1\n%s\nuser %s\npersistence false\nset_tcp_nodelay true\nlog_dest stderr\nlog_type %s\n",
		address[strings.LastIndex(address, ":")+1:], settings, self.Username, logs)
	broker := start(t, process.Spec{
		Name: "mosquitto", Path: path, Args: []string{"-c", write(t, "mosquitto.conf", []byte(config))}, Ready: process.Accepts(address),
	})
	return address, broker
}

// startBackend starts an HTTP server: /stream never ends by itself, an upgrade
// becomes an echo.
func startBackend(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.Copy(conn, buffered)
		case r.URL.Path == "/stream":
			for c := http.NewResponseController(w); r.Context().Err() == nil; time.Sleep(50 * time.Millisecond) {
				if _, err := io.WriteString(w, "."); err != nil || c.Flush() != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// write writes a file into a directory of the test's own and gives its path.
func write(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wire is the way of the link to hubgate, which can be cut.
type wire struct {
	address string
	mu      sync.Mutex
	down    bool
	conns   map[net.Conn]struct{}
}

func startWire(t testing.TB, to string) *wire {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	w := &wire{address: l.Addr().String(), conns: make(map[net.Conn]struct{})}
	var group sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		w.cut(true)
		group.Wait()
	})
	group.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { w.join(near, to) })
		}
	})
	return w
}

func (w *wire) join(near net.Conn, to string) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	w.mu.Lock()
	if w.down {
		w.mu.Unlock()
		return
	}
	w.conns[near], w.conns[far] = struct{}{}, struct{}{}
	w.mu.Unlock()
	var copying sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_, _ = near.Close(), far.Close()
	}
	copying.Go(func() { pass(near, far) })
	pass(far, near)
	copying.Wait()
	w.mu.Lock()
	delete(w.conns, near)
	delete(w.conns, far)
	w.mu.Unlock()
}

// cut ends what there is; while down, nothing comes through.
func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for c := range w.conns {
		_ = c.Close()
	}
}
