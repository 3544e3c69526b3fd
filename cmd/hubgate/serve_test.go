package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestServe(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	chain := s.factory.device(t, "SN-0001")
	for _, want := range []string{"device_provisioned", "device_known"} {
		if got := v.connect(chain); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if code, text := v.get("/readyz"); code != 200 || text != "ready\n" {
		t.Errorf("/readyz: %d %s", code, text)
	}
	if code, text := v.get("/livez"); code != 200 || text != "alive\n" {
		t.Errorf("/livez: %d %s", code, text)
	}
	_, metrics := v.get("/metrics")
	for _, name := range []string{
		`hubgate_build_info{`, `hubgate_devices_provisioned_total{hub="factory"} 1`, "hubgate_config_last_reload_successful 1",
		"hubgate_config_last_reload_success_timestamp_seconds", "go_goroutines", "process_open_fds", "hubgate_store_up 1",
	} {
		if !strings.Contains(metrics, name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
	if code := v.end(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, v.log)
	}
}

// TestDrain: after the signal, readiness and health are negative, checks go on
// for the delay, and then the process ends well.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve("--drain-delay", "1s")
	conn, err := grpc.NewClient(v.authz, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	health := func() healthpb.HealthCheckResponse_ServingStatus {
		answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetStatus()
	}
	if got := health(); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %s before the drain", got)
	}
	v.stop()
	v.logged("msg=draining")
	eventually(t, func() bool { return health() == healthpb.HealthCheckResponse_NOT_SERVING }, v.log.String)
	if code, text := v.get("/readyz"); code != 503 || text != "not ready: draining\n" {
		t.Errorf("/readyz: %d %s", code, text)
	}
	if got := v.connect(s.factory.device(t, "SN-0001")); got != "device_provisioned" {
		t.Errorf("a check during the delay: %s", got)
	}
	if code := v.end(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, v.log)
	}
	if code, _ := v.get("/livez"); code != 0 {
		t.Errorf("it still answers: %d", code)
	}
}

// TestSignals drives the real binary: the first signal drains, the second ends
// it at once.
func TestSignals(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "hubgate")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := newSite(t)
	start := func(delay string) (*exec.Cmd, *lockedBuffer) {
		t.Helper()
		log := new(lockedBuffer)
		c := exec.Command(binary, "serve", "-c", s.config, "--drain-delay", delay)
		c.Stderr = log
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill() })
		eventually(t, func() bool { return strings.Contains(log.String(), "msg=ready") }, log.String)
		return c, log
	}
	c, log := start("0")
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after one SIGTERM: %v\n%s", err, log)
	}

	c, log = start("1h")
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return strings.Contains(log.String(), "msg=draining") }, log.String)
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a second signal ended it as if it had drained")
		}
	case <-time.After(10 * time.Second):
		t.Error("a second signal did not end it")
	}
	// What a killed process left behind is no obstacle.
	c, log = start("0")
	_ = c.Process.Signal(syscall.SIGTERM)
	if err := c.Wait(); err != nil {
		t.Errorf("after a restart: %v\n%s", err, log)
	}
}

// TestJSONLog: every line is for machines.
func TestJSONLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx, stop := context.WithCancel(context.Background())
	var log lockedBuffer
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"serve", "-c", s.config, "--log-format", "json", "--drain-delay", "0"}, strings.NewReader(""), new(bytes.Buffer), &log)
	}()
	eventually(t, func() bool { return strings.Contains(log.String(), `"msg":"ready"`) }, log.String)
	stop()
	if code := <-done; code != exitOK {
		t.Errorf("serve ended with %d", code)
	}
	for line := range strings.Lines(log.String()) {
		if !strings.HasPrefix(line, `{"time":`) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

// TestPortInUse names the key to change.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	other := newSite(t)
	writeFile(t, other.dir, "hubgate.yaml", []byte(strings.Replace(factoryHub, "127.0.0.1:0", v.authz, 1)))
	if result := other.hubgate("serve"); result.code != exitError || !strings.Contains(result.err, "authz.listen: ") || !strings.Contains(result.err, "address already in use") {
		t.Errorf("%+v", result)
	}
}
