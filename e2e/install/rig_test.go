package install

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy"
	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// patience bounds each step: many servers share few cores.
const patience = time.Minute

// steady is how long devices connect between two acts.
func steady() time.Duration {
	if os.Getenv("HUBGATE_SOAK") != "" {
		return 30 * time.Second
	}
	return 1500 * time.Millisecond
}

var directory string

func TestMain(m *testing.M) {
	var err error
	if directory, err = os.MkdirTemp("", "hg"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(directory)
	os.Exit(code)
}

// current is this source; next is the version after it: records have a raised
// schema number and a field that this one does not know.
var (
	current = sync.OnceValues(func() (string, error) { return build("hubgate") })
	next    = sync.OnceValues(buildNext)
)

func build(name string, flags ...string) (string, error) {
	path := filepath.Join(directory, name)
	args := slices.Concat([]string{"build", "-o", path}, flags, []string{"github.com/hubgate/hubgate/cmd/hubgate"})
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// mark is the unknown field on the wire: number 1000, a varint, 7.
const mark = "\xc0\x3e\x07"

func buildNext() (string, error) {
	source, err := filepath.Abs("../../provision/record/record.go")
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	changed := strings.NewReplacer(
		fmt.Sprintf("const Schema = %d\n", schema), fmt.Sprintf("const Schema = %d\n", schema+1),
		"SetUnknown(h.Unknown)", "SetUnknown(marked(h.Unknown))", "SetUnknown(d.Unknown)", "SetUnknown(marked(d.Unknown))",
	).Replace(string(text)) + fmt.Sprintf("\nfunc marked(b []byte) []byte {\n\tif bytes.Contains(b, []byte(%[1]q)) {\n\t\treturn b\n\t}\n\treturn append(bytes.Clone(b), %[1]q...)\n}\n", mark)
	if strings.Count(changed, "marked(") != 3 {
		return "", errors.New("record.go has another form than this test knows")
	}
	file, overlay := filepath.Join(directory, "record.go"), filepath.Join(directory, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: file}})
	if err := errors.Join(err, os.WriteFile(file, []byte(changed), 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", err
	}
	return build("hubgate-next", "-overlay", overlay)
}

// site is two replicas of hubgate on a cluster, behind an Envoy.
type site struct {
	dir      string
	vendor   *pki.Authority
	cluster  *redistest.Cluster
	replicas [2]*process.Process
	https    string
}

func newSite(t *testing.T, waitReplicas int) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "hg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &site{dir: dir, cluster: redistest.StartCluster(t, 3)}
	s.cluster.AddReplicas(t)
	if s.vendor, err = pki.NewRoot("Vendor"); err != nil {
		t.Fatal(err)
	}
	ports, err := process.FreePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	s.https = fmt.Sprintf("127.0.0.1:%d", ports[2])
	files := map[string]string{"ca.pem": string(pki.EncodeCertificates(s.vendor.Certificate))}
	for i := range s.replicas {
		files[fmt.Sprintf("%d.yaml", i)] = fmt.Sprintf(`store: %[1]s
redis: {wait_replicas: %[2]d}
authz: {listen: "unix://%[3]s/%[4]d.authz"}
link: {listen: "unix://%[3]s/%[4]d.link"}
admin: {socket: "%[3]s/%[4]d.sock", listen: "off"}
metrics: {listen: "127.0.0.1:%[5]d"}
hubs: [{name: factory, auto_provisioning: true, trust_anchors: [ca.pem]}]
`, s.cluster.URL(), waitReplicas, dir, i, ports[i])
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// serve starts a replica, of that binary, and waits until it is ready.
func (s *site) serve(t *testing.T, i int, binary string) {
	t.Helper()
	p, err := start(t, process.Spec{
		Name: fmt.Sprintf("hubgate %d", i), Path: binary, Dir: s.dir, Args: []string{"serve", "-c", fmt.Sprintf("%d.yaml", i), "--drain-delay", "1s"},
		Ready: func(ctx context.Context) error {
			return exec.CommandContext(ctx, binary, "hub", "get", "factory", "--socket", fmt.Sprintf("%s/%d.sock", s.dir, i)).Run()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.replicas[i] = p
}

// restart ends a replica in good order and starts it anew.
func (s *site) restart(t *testing.T, i int, binary string) {
	t.Helper()
	if err := s.replicas[i].Stop(); err != nil {
		t.Errorf("replica %d ended with %v", i, err)
	}
	s.serve(t, i, binary)
}

func start(t *testing.T, spec process.Spec) (*process.Process, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := process.Start(ctx, spec)
	if err == nil {
		t.Cleanup(func() {
			p.Kill()
			if text := p.Output(); t.Failed() {
				t.Logf("the end of what %s wrote:\n%s", spec.Name, text[max(0, len(text)-4<<10):])
			}
		})
	}
	return p, err
}

// front starts the Envoy that asks both replicas.
func (s *site) front(t *testing.T) {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(backend.Close)
	server, err := s.vendor.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := server.WriteFiles(s.dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	config, err := envoy.Bootstrap(envoy.Options{
		HTTPS:        &envoy.HTTPS{Listen: s.https, Backends: []string{backend.Listener.Addr().String()}},
		Certificates: []envoy.KeyPair{{Certificate: cert, Key: key}}, NodeID: "install",
		Hubgate: envoy.Hubgate{Addresses: []string{"unix://" + s.dir + "/0.authz", "unix://" + s.dir + "/1.authz"}, CheckTimeout: 10 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := envoybin.Path(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, process.Spec{
		Name: "Envoy", Path: binary, Ready: process.Accepts(s.https),
		Args: []string{"-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"},
	}); err != nil {
		t.Fatal(err)
	}
}

// connect is one request of a device: its status and, if it is refused, why.
func (s *site) connect(ctx context.Context, device *pki.Identity) (int, string, error) {
	pair := device.TLS()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.https+"/", nil)
	if err != nil {
		return 0, "", err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// traffic are devices that connect for the first time, one after the other.
type traffic struct {
	mu       sync.Mutex
	admitted []string
	faults   int
	denied   []string
	end      func()
}

// devices connect until the end is asked for. One that meets a fault tries
// again, as devices do.
func (s *site) devices(t *testing.T) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	var lines sync.WaitGroup
	traffic := &traffic{}
	for line := range 2 {
		lines.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				s.first(t, traffic, fmt.Sprintf("SN-%d-%d", line, n))
				time.Sleep(20 * time.Millisecond) // the rate, not a wait for something
			}
		})
	}
	traffic.end = func() {
		cancel()
		lines.Wait()
	}
	t.Cleanup(traffic.end)
	return traffic
}

func (s *site) first(t *testing.T, traffic *traffic, name string) {
	device, err := s.vendor.Leaf(name)
	if err != nil {
		t.Error(err)
		return
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		status, body, err := s.connect(ctx, device)
		cancel()
		traffic.mu.Lock()
		switch {
		case err == nil && status == http.StatusOK:
			traffic.admitted = append(traffic.admitted, name)
		case err == nil && status < 500:
			traffic.denied = append(traffic.denied, fmt.Sprintf("%s: %d %s", name, status, body))
		default:
			traffic.faults++
		}
		traffic.mu.Unlock()
		if err == nil && status < 500 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s did not get in: %d %s %v", name, status, body, err)
			return
		}
	}
}

// command runs one of hubgate's commands at a replica.
func (s *site) command(t *testing.T, i int, args ...string) string {
	t.Helper()
	binary, err := current()
	if err != nil {
		t.Fatal(err)
	}
	var failure bytes.Buffer
	c := exec.CommandContext(t.Context(), binary, append(args, "--socket", fmt.Sprintf("%s/%d.sock", s.dir, i))...)
	c.Stderr = &failure
	out, err := c.Output()
	if err != nil {
		t.Fatalf("hubgate %v: %v\n%s", args, err, failure.String())
	}
	return string(out)
}

// listed are the names of the hub's devices.
func (s *site) listed(t *testing.T) []string {
	t.Helper()
	var list struct{ Devices []struct{ Name string } }
	if err := json.Unmarshal([]byte(s.command(t, 0, "device", "list", "factory", "--limit", "0", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list.Devices {
		names = append(names, d.Name)
	}
	return names
}

// announced are the names of devices whose creation an event tells, with
// repeats.
func (s *site) announced(t *testing.T) []string {
	t.Helper()
	var names []string
	for decoder := json.NewDecoder(strings.NewReader(s.command(t, 0, "event", "tail", "--since", "start", "--follow=false", "-o", "json"))); decoder.More(); {
		var e provision.Event
		if err := decoder.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Reason == string(provision.DeviceProvisioned) {
			names = append(names, e.ObjectName)
		}
	}
	return names
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < patience; time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, patience, err)
}
