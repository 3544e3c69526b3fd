package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

// built is the binary, once hubgate has made it.
var built string

// hubgate builds the real binary, once, with the race detector if the tests
// have it.
var hubgate = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hubgate-e2e-")
	if err != nil {
		return "", err
	}
	built = filepath.Join(dir, "hubgate")
	args := []string{"build", "-o", built}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if text, err := exec.Command("go", append(args, "github.com/hubgate/hubgate/cmd/hubgate")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return built, nil
})

// installation is a hubgate as an operator runs it: a directory with a
// configuration file, and the binary.
type installation struct {
	dir     string
	binary  string
	store   string // URL
	checks  string // more of the section authz
	metrics string
	running *process.Process
}

func install(t *testing.T, store string) *installation {
	t.Helper()
	// Not t.TempDir: its paths are too long for a socket.
	dir, err := os.MkdirTemp("", "hubgate-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &installation{dir: dir, binary: must(hubgate())(t), store: store, metrics: freeAddresses(t, 1)[0]}
}

func (i *installation) file(name string) string { return filepath.Join(i.dir, name) }

// replace replaces a file as editors do: a reader sees the old one or the new one.
func (i *installation) replace(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(i.file("new"), content, 0o600), os.Rename(i.file("new"), i.file(name))); err != nil {
		t.Fatal(err)
	}
}

// authz is where Envoy asks.
func (i *installation) authz() string { return "unix://" + i.file("authz.sock") }

// configure declares a hub, named factory, that trusts the vendor, and in YAML
// what more it has, what more hubs there are, and what more is set.
func (i *installation) configure(t *testing.T, v *vendor, autoProvisioning bool, more ...string) {
	t.Helper()
	text := fmt.Sprintf(`domain: %s
store: %s
authz: {listen: "%s"%s}
link: {listen: "unix://%s"}
metrics: {listen: "%s"}
admin: {listen: "off"}
log: {format: json}
hubs:
  - name: factory
    auto_provisioning: %t
    trust_anchors: [factory-ca.pem]
%s`, domain, i.store, i.authz(), i.checks, i.file("link.sock"), i.metrics, autoProvisioning, strings.Join(more, ""))
	i.replace(t, "factory-ca.pem", pki.EncodeCertificates(v.root.Certificate))
	i.replace(t, "hubgate.yaml", []byte(text))
}

// serve starts `hubgate serve` and returns when it is ready.
func (i *installation) serve(t *testing.T) {
	t.Helper()
	i.running = start(t, process.Spec{
		Name: "hubgate", Path: i.binary, Args: []string{"serve", "--config", "hubgate.yaml", "--drain-delay", "0s"}, Dir: i.dir,
		Ready: func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.metrics+"/readyz", nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != http.StatusOK {
				return errors.New(response.Status)
			}
			return nil
		},
	})
}

// metric is the sum of a metric's series.
func (i *installation) metric(t *testing.T, name string) float64 {
	t.Helper()
	response, err := http.Get("http://" + i.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	sum := 0.0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), name) {
			continue
		}
		value, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += value
	}
	return sum
}

// command runs one of hubgate's commands against what is served, and returns
// what it says and its exit code.
func (i *installation) command(t *testing.T, args ...string) (string, int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), i.binary, append(args, "--config", "hubgate.yaml")...)
	c.Dir = i.dir
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return out.String(), c.ProcessState.ExitCode()
}

// devices are the names of the hub's devices, as the command lists them.
func (i *installation) devices(t *testing.T) []string {
	t.Helper()
	text, code := i.command(t, "device", "list", "factory", "-o", "json")
	var list struct{ Devices []struct{ Name string } }
	if err := json.Unmarshal([]byte(text), &list); err != nil || code != 0 {
		t.Fatalf("device list: exit code %d, %v: %s", code, err, text)
	}
	var names []string
	for _, d := range list.Devices {
		names = append(names, d.Name)
	}
	return names
}

// events are the names of devices whose creation an event tells, in order.
func (i *installation) events(t *testing.T) []string {
	t.Helper()
	text, code := i.command(t, "event", "tail", "--since", "start", "--follow=false", "-o", "json")
	if code != 0 {
		t.Fatalf("event tail: exit code %d: %s", code, text)
	}
	var names []string
	for decoder := json.NewDecoder(strings.NewReader(text)); decoder.More(); {
		var e provision.Event
		if err := decoder.Decode(&e); err != nil {
			t.Fatalf("event tail: %v: %s", err, text)
		}
		if e.Reason == string(provision.DeviceProvisioned) {
			names = append(names, e.ObjectName)
		}
	}
	slices.Sort(names)
	return names
}

// admitted connects over both protocols, HTTPS first, and has to get in.
func (f *front) admitted(t *testing.T, d dial) {
	t.Helper()
	a, err := f.get(t.Context(), d)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("https: %v, %+v; want 200", err, a)
	}
	if _, err := f.converse(t.Context(), d); err != nil {
		t.Fatalf("mqtt: %v", err)
	}
}

// answers is how the device's HTTPS request ends: its status and reason, ""
// if it was admitted.
func (f *front) answers(t *testing.T, d dial) (int, provision.Reason) {
	t.Helper()
	a, err := f.get(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return a.status, provision.Reason(a.refusal.Reason)
}

// TestServe runs the binary on its embedded store: it follows its
// configuration, says what a chain lacks, and survives kill -9.
func TestServe(t *testing.T) {
	t.Parallel()
	v := newVendor(t)
	i := install(t, "bolt:hubgate.db")
	i.configure(t, v, true)
	i.serve(t)
	f := startFront(t, i.authz(), startUpstreams(t))
	device := func(name string) dial { return as(v.device(t, name)) }

	// What is missing is named: in the log, and by explain.
	missing := v.line.Certificate.Subject.CommonName
	if _, err := f.converse(t.Context(), device("SN-1")); !errors.Is(err, errDenied) {
		t.Errorf("without its intermediate the device got %v", err)
	}
	eventually(t, "the log names the missing issuer", func() error {
		for line := range strings.Lines(i.running.Output()) {
			if strings.Contains(line, string(provision.ChainIncomplete)) && strings.Contains(line, missing) {
				return nil
			}
		}
		return errors.New(i.running.Output())
	})
	leaf := write(t, "leaf.pem", pki.EncodeCertificates(v.device(t, "SN-1").Certificate))
	if text, code := i.command(t, "explain", "--cert", leaf); code != 3 || !strings.Contains(text, missing) || !strings.Contains(text, string(provision.ChainIncomplete)) {
		t.Errorf("explain: exit code %d: %s", code, text)
	}

	f.admitted(t, device("SN-1"))
	f.admitted(t, device("SN-1"))

	// The toggle follows the file, without a signal.
	i.configure(t, v, false)
	tries := 0
	eventually(t, "the toggle is off", func() error {
		tries++
		if status, reason := f.answers(t, device(fmt.Sprintf("SN-try-%d", tries))); status != http.StatusForbidden || reason != provision.DeviceUnknown {
			return fmt.Errorf("%d %s", status, reason)
		}
		return nil
	})
	f.admitted(t, device("SN-1"))

	// Nobody gets in while there is no hubgate; killed, it remembers.
	before := i.devices(t)
	i.running.Kill()
	if status, reason := f.answers(t, device("SN-1")); status != http.StatusServiceUnavailable || reason != "" {
		t.Errorf("without a hubgate: %d %s", status, reason)
	}
	if _, err := f.converse(t.Context(), device("SN-1")); err == nil {
		t.Error("without a hubgate a device got in over MQTT")
	}
	i.configure(t, v, true)
	i.serve(t)
	eventually(t, "Envoy finds hubgate again", func() error {
		if status, reason := f.answers(t, device("SN-1")); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, reason)
		}
		return nil
	})
	f.admitted(t, device("SN-1"))
	if after := i.devices(t); !slices.Equal(after, before) {
		t.Errorf("devices %v, before the kill %v", after, before)
	}
	f.admitted(t, device("SN-3"))
	if n := len(i.events(t)); n != len(i.devices(t)) {
		t.Errorf("%d events for %d devices", n, len(i.devices(t)))
	}
}

// TestOutage takes the store away: devices it had confirmed stay admitted,
// nothing is created, and when it is back, everything works without a restart.
func TestOutage(t *testing.T) {
	t.Parallel()
	v := newVendor(t)
	redis := redistest.Start(t)
	i := install(t, redis.URL())
	other := newVendor(t)
	if err := os.WriteFile(i.file("strict-ca.pem"), pki.EncodeCertificates(other.root.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	i.configure(t, v, true, `  - {name: strict, auto_provisioning: true, trust_anchors: [strict-ca.pem], policy: {outage: refuse}}
`)
	i.serve(t)
	f := startFront(t, i.authz(), startUpstreams(t))
	strict := as(other.device(t, "SN-strict"))
	f.admitted(t, strict)
	known, unseen, ghost := as(v.device(t, "SN-known")), as(v.device(t, "SN-unseen")), as(v.device(t, "SN-ghost"))
	f.admitted(t, known)

	redis.Stop()
	eventually(t, "what was proven to be current is too old", func() error {
		if age := i.metric(t, "hubgate_store_proof_age_seconds"); age < 2 {
			return fmt.Errorf("%v s old", age)
		}
		return nil
	})
	for range 3 {
		f.admitted(t, known)
		for _, d := range []dial{unseen, ghost, strict} {
			a, err := f.get(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			if a.status != http.StatusServiceUnavailable || a.refusal.Reason != string(provision.StoreUnavailable) || a.header.Get("Retry-After") == "" {
				t.Errorf("a device that the store has to tell of got %d %+v, Retry-After %q", a.status, a.refusal, a.header.Get("Retry-After"))
			}
			if _, err := f.converse(t.Context(), d); err == nil {
				t.Error("a device that the store has to tell of got in over MQTT")
			}
		}
	}
	if n := i.metric(t, "hubgate_outage_admissions_total"); n < 3 {
		t.Errorf("%v devices were admitted from memory by the metrics, want 3 at least", n)
	}

	pid := i.running.Pid()
	redis.Start()
	eventually(t, "the unseen device is created", func() error {
		if status, reason := f.answers(t, unseen); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, reason)
		}
		return nil
	})
	f.admitted(t, unseen)
	f.admitted(t, known)
	want := []string{"SN-known", "SN-unseen"}
	if got := i.devices(t); !slices.Equal(got, want) {
		t.Errorf("devices %v, want %v", got, want)
	}
	want = []string{"SN-known", "SN-strict", "SN-unseen"}
	if got := i.events(t); !slices.Equal(got, want) {
		t.Errorf("events of %v, want %v", got, want)
	}
	select {
	case <-i.running.Done():
		t.Errorf("hubgate (process %d) ended", pid)
	default:
	}
}
