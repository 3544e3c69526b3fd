package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/process"
)

// startTimeout is generous: many servers start at once.
const startTimeout = time.Minute

// backend is the HTTP application behind Envoy. It answers with what it saw.
type backend struct {
	address string

	mu    sync.Mutex
	calls map[string]int // by path
}

// seen is a request as it reached the backend.
type seen struct {
	Host   string
	Header http.Header
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{calls: make(map[string]int)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.calls[r.URL.Path]++
		b.mu.Unlock()
		_ = json.NewEncoder(w).Encode(seen{r.Host, r.Header})
	}))
	t.Cleanup(server.Close)
	b.address = server.Listener.Addr().String()
	return b
}

// count is how many requests for a path got through.
func (b *backend) count(path string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[path]
}

// startMosquitto gives the address of an MQTT broker that lets everybody in:
// who reaches it has passed hubgate.
func startMosquitto(t *testing.T) string {
	t.Helper()
	// Debian installs it where users' PATH does not lead.
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			t.Fatal("mosquitto is missing; install it with: apt-get install mosquitto")
		}
	}
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddresses(t, 1)[0]
	var port int
	if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	// Started by root, it would change to a user that cannot read the file.
	config := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nuser %s\nlog_dest stdout\nlog_type error\nlog_type warning\n", port, self.Username)
	start(t, process.Spec{
		Name: "mosquitto", Path: path, Args: []string{"-c", write(t, "mosquitto.conf", []byte(config))},
		Ready: process.Accepts(address),
	})
	return address
}

// start starts a process that ends with the test.
func start(t *testing.T, spec process.Spec) *process.Process {
	t.Helper()
	p, err := process.Start(timeout(t, startTimeout), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the end of what %s wrote:\n%s", spec.Name, last(p.Output(), 8<<10))
		}
	})
	return p
}

func last(s string, n int) string { return s[max(0, len(s)-n):] }

func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	ports, err := process.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	addresses := make([]string, n)
	for i, port := range ports {
		addresses[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return addresses
}

// write writes a file into a directory of the test's own and gives its path.
func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
