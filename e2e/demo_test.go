package e2e

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/modulebin"
	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/process"
)

// TestDemo runs the demo as a newcomer does and reads its table.
func TestDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--once")
	select {
	case <-d.Done():
	case <-time.After(startTimeout):
		t.Fatal("it does not end")
	}
	if err := d.Stop(); err != nil {
		t.Fatalf("%v\n%s", err, d.Output())
	}
	t.Log(d.Output())
	table := strings.Join(strings.Fields(d.Output()), " ") // without its alignment
	for _, row := range []string{
		"HTTPS sensor-0001 first connection created, status 200 device_provisioned",
		"HTTPS sensor-0001 second connection admitted, status 200 device_known",
		"MQTT sensor-0002 first connection created, broker was told its name device_provisioned",
		"MQTT sensor-0002 second connection admitted, broker was told its name device_known",
		"HTTPS sensor-0001 same name, from a foreign CA refused, status 403 chain_untrusted",
		"MQTT sensor-0005 first of a never-seen line created, broker was told its name device_provisioned",
		"MQTT sensor-0002 disabled while connected connection ended device_disabled",
		"MQTT sensor-0001 same name, from a foreign CA refused, TLS alert chain_untrusted",
		"HTTPS sensor-0004 certificate of last year refused, status 403 certificate_expired",
		"MQTT sensor-0004 certificate of last year refused, TLS alert certificate_expired",
		"HTTPS pump-0001 unknown, hub creates none refused, status 403 device_unknown",
		"MQTT pump-0001 unknown, hub creates none refused, TLS alert device_unknown",
		"sensor-0001 factory Auto-provisioned by 127.0.0.11",
		"sensor-0002 factory Auto-provisioned by 127.0.0.12",
		"factory/sensor-0001 device was auto-provisioned from 127.0.0.11",
		"factory/sensor-0002 device was auto-provisioned from 127.0.0.12",
	} {
		if !strings.Contains(table, row) {
			t.Errorf("no row %q", row)
		}
	}
	if strings.Contains(table, "UNEXPECTED") {
		t.Error("a row is not as it should be")
	}
	d.leavesNothing(t)
}

// TestDemoStaysUp follows the demo's suggestions, then ends it as Ctrl-C does.
func TestDemoStaysUp(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"curl", "mosquitto_pub"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing; install it with: apt-get install curl mosquitto-clients", program)
		}
	}
	d := startDemo(t)
	const invitation = "in another terminal:\n\n"
	eventually(t, "the demo shows what to try", func() error {
		if out := d.Output(); !strings.Contains(out, invitation) || !strings.HasSuffix(out, "envoy.log\n") {
			return errors.New(out)
		}
		return nil
	})
	_, text, _ := strings.Cut(d.Output(), invitation)
	commands, _, _ := strings.Cut(text, "\n\n")
	var lines []string
	for line := range strings.Lines(commands) {
		lines = append(lines, strings.TrimSpace(line))
	}
	cd := lines[0]
	for i, want := range []string{ // by line after cd; the first follows events until it is stopped
		"", "hello sensor-0003, you are device", "received CONNACK (0)", "sensor-0003", "", "is disabled", "device_disabled",
	} {
		if want == "" {
			continue
		}
		out, _ := exec.CommandContext(t.Context(), "sh", "-c", cd+" && "+lines[i+1]).CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("%s\nsaid %q, want %q in it", lines[i+1], out, want)
		}
	}
	if err := d.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.Done():
	case <-time.After(startTimeout):
		t.Fatal("Ctrl-C does not end it")
	}
	if err := d.Stop(); err != nil {
		t.Errorf("%v\n%s", err, d.Output())
	}
	d.leavesNothing(t)
}

// demo is a running demo with a temporary directory of its own.
type demo struct {
	*process.Process
	temp string
}

func startDemo(t *testing.T, args ...string) demo {
	t.Helper()
	binary := must(hubgate())(t)
	// What a first demo downloads and builds takes its time, however long.
	must(envoybin.Path(t.Context(), t.Output()))(t)
	library := must(modulebin.Path(t.Context()))(t)
	// Not t.TempDir: its paths are too long for a socket.
	temp := must(os.MkdirTemp("", "demo"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	return demo{temp: temp, Process: start(t, process.Spec{
		Name: "hubgate demo", Path: binary, Args: append([]string{"demo"}, args...), Env: []string{"TMPDIR=" + temp, modulebin.Variable + "=" + library},
	})}
}

func (d demo) leavesNothing(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(d.temp); err != nil || len(left) != 0 {
		t.Errorf("the demo left %v, %v", left, err)
	}
}
