package charts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
)

// TestPods starts what the chart renders: the command, the environment and the
// files of each container, in the root directory that its image has, and then
// what helm test runs. Names of services are those of the chart, and this host.
func TestPods(t *testing.T) {
	t.Parallel()
	ports, err := process.FreePorts(6)
	if err != nil {
		t.Fatal(err)
	}
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("x-device-name"))
	}))
	t.Cleanup(backend.Close)
	c := newCluster(t)
	text, err := render(t, fmt.Sprintf(`
domain: iot.example.com
mtls: {mode: existingSecret, existingSecret: hubgate-tls, existingClientSecret: envoy-tls}
ports: {authz: %d, link: %d, metrics: %d}
gateway:
  enabled: true
  tls: {existingSecret: device-tls}
  https: {backends: ["%s"], port: %[5]d, containerPort: %[5]d}
  mqtt: {brokers: ["%[6]s"], port: %[7]d, containerPort: %[7]d}
  adminPort: %[8]d
  drain: {delaySeconds: 1, deadlineSeconds: 20}
tests: {serverName: factory.iot.example.com, deviceSecret: test-device}
hubs:
  - {name: factory, autoProvisioning: true, trustAnchors: [{secret: {name: vendor, key: ca.crt}}]}
`, ports[0], ports[1], ports[2], backend.Listener.Addr(), ports[3], broker(t), ports[4], ports[5]))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	c.objects = parse(t, text)

	server := find(c.objects, "Deployment", "site-hubgate").at("spec", "template", "spec")
	ready := func(ctx context.Context) error {
		_, err := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/readyz", ports[2]))
		return err
	}
	c.start(t, "hubgate", server, server.list("containers")[0], ready)
	gateway := find(c.objects, "Deployment", "site-hubgate-gateway").at("spec", "template", "spec")
	if out, err := c.run(t, "envoy", gateway, gateway.list("initContainers")[0]); err != nil {
		t.Fatalf("the init container: %v\n%s", err, out)
	}
	envoy := gateway.list("containers")[0]
	running := c.start(t, "envoy", gateway, envoy, process.Accepts(fmt.Sprintf("127.0.0.1:%d", ports[4])))

	probe := find(c.objects, "Pod", "site-hubgate-probe").at("spec")
	out, err := c.run(t, "hubgate", probe, probe.list("containers")[0])
	if err != nil {
		t.Fatalf("helm test: %v\n%s", err, out)
	}
	for _, want := range []string{
		"ready\n", "serving\n", "hubgate refuses a stranger: chain_untrusted\n", "hubgate refuses a stranger: TLS alert access_denied\n",
		"the device is admitted; the backend says 200 OK\n", "the device is admitted; the broker's CONNACK says 0\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("helm test does not say %q:\n%s", want, out)
		}
	}
	t.Logf("helm test says\n%s", out)

	// A command in the pod, as kubectl exec runs it.
	list := object{"command": []any{"hubgate"}, "args": []any{"device", "list", "factory"}}
	for _, key := range []string{"volumeMounts", "env"} {
		list[key] = server.list("containers")[0][key]
	}
	if out, err := c.run(t, "hubgate", server, list); err != nil || !strings.Contains(out, "SN-helm-test") {
		t.Errorf("device list: %v\n%s", err, out)
	}

	// What runs before the gateway is stopped.
	stop := object{"command": envoy.at("lifecycle", "preStop", "exec")["command"], "volumeMounts": envoy["volumeMounts"]}
	if out, err := c.run(t, "envoy", gateway, stop); err != nil || !strings.Contains(out, "drained") {
		t.Errorf("preStop: %v\n%s", err, out)
	}
	if err := process.Accepts(fmt.Sprintf("127.0.0.1:%d", ports[4]))(t.Context()); err == nil {
		t.Error("the drained gateway still takes connections")
	}
	if err := running.Stop(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
}

// cluster is where pods find their volumes.
type cluster struct {
	dir     string // a directory for each volume's source
	objects []object
}

// newCluster makes the Secrets that the values name.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir()}
	ca, vendor := c.authority(t, "CA of Envoys"), c.authority(t, "Vendor")
	const headless = "site-hubgate-headless.iot.svc.cluster.local"
	server, err := ca.Server(headless)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Leaf("envoy")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := ca.Server("*.iot.example.com")
	if err != nil {
		t.Fatal(err)
	}
	device, err := vendor.Leaf("SN-helm-test")
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]struct {
		identity *pki.Identity
		ca       *pki.Authority
	}{"hubgate-tls": {server, ca}, "envoy-tls": {client, ca}, "device-tls": {gateway, ca}, "test-device": {device, vendor}, "vendor": {device, vendor}} {
		dir := filepath.Join(c.dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		cert, key, err := s.identity.WriteFiles(dir, "tls")
		if err := errors.Join(err, os.Rename(cert, dir+"/tls.crt"), os.Rename(key, dir+"/tls.key"),
			os.WriteFile(dir+"/ca.crt", pki.EncodeCertificates(s.ca.Certificate), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cluster) authority(t *testing.T, name string) *pki.Authority {
	t.Helper()
	a, err := pki.NewRoot(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// volume is the directory of a pod's volume, with its files.
func (c *cluster) volume(t *testing.T, pod object, v object) string {
	t.Helper()
	if name := v.at("secret").str("secretName"); name != "" {
		return filepath.Join(c.dir, name)
	}
	name := v.str("name")
	if m := v.at("configMap").str("name"); m != "" {
		name = m
	}
	app := pod.list("containers")[0].str("name")
	dir := filepath.Join(c.dir, "volumes", app+"-"+name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if v["configMap"] != nil {
		for file, text := range find(c.objects, "ConfigMap", name).at("data") {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text.(string)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// enter is the program, and its arguments, that becomes the container's process: it
// has mounts of its own, and the image as its root.
func (c *cluster) enter(t *testing.T, image string, pod, container object) (string, []string) {
	t.Helper()
	root := t.TempDir()
	script := []string{"set -e", "mount --make-rprivate /"}
	bind := func(from, to string) {
		if err := os.MkdirAll(root+to, 0o755); err != nil {
			t.Fatal(err)
		}
		script = append(script, fmt.Sprintf("mount --rbind '%s' '%s'", from, root+to))
	}
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin:/opt/envoy"}
	if image == "hubgate" {
		dir, err := hubgateImage()
		if err != nil {
			t.Fatal(err)
		}
		script = append(script, fmt.Sprintf("cp -r '%s'/. '%s'", dir, root))
	} else {
		for _, dir := range []string{"/usr", "/lib", "/lib64", "/bin", "/dev"} {
			if _, err := os.Stat(dir); err == nil {
				bind(dir, dir)
			}
		}
		envoy, err := envoybin.Path(t.Context(), t.Output())
		if err != nil {
			t.Fatal(err)
		}
		bind(filepath.Dir(envoy), "/opt/envoy")
		bind(library(t), "/opt/hubgate")
	}
	hosts := "127.0.0.1 localhost"
	for _, o := range c.objects {
		if o.str("kind") == "Service" {
			hosts += " " + o.at("metadata").str("name") + ".iot.svc.cluster.local"
		}
	}
	if err := errors.Join(os.MkdirAll(root+"/etc", 0o755), os.WriteFile(root+"/etc/hosts", []byte(hosts+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, m := range container.list("volumeMounts") {
		for _, v := range pod.list("volumes") {
			if v.str("name") == m.str("name") {
				bind(c.volume(t, pod, v), m.str("mountPath"))
			}
		}
	}
	for _, e := range container.list("env") {
		env = append(env, e.str("name")+"="+e.str("value"))
	}
	script = append(script, `PATH=$PATH:/usr/sbin:/sbin; exec env -i "${@:2:$1}" "$(command -v chroot)" '`+root+`' "${@:$1+2}"`)
	args := []string{"-m", "bash", "-c", strings.Join(script, "\n"), "bash", fmt.Sprint(len(env))}
	if os.Getuid() != 0 {
		args = slices.Insert(args, 0, "-Ur")
	}
	args = slices.Concat(args, env, container.strs("command"), container.strs("args"))
	return "unshare", args
}

func (c *cluster) start(t *testing.T, image string, pod, container object, ready func(context.Context) error) *process.Process {
	t.Helper()
	path, args := c.enter(t, image, pod, container)
	return start(t, process.Spec{Name: container.str("name"), Path: path, Args: args, Ready: ready})
}

func (c *cluster) run(t *testing.T, image string, pod, container object) (string, error) {
	t.Helper()
	path, args := c.enter(t, image, pod, container)
	return run(t, path, args...)
}

// broker is an MQTT broker that lets everybody in.
func broker(t *testing.T) string {
	t.Helper()
	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
	listener := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := errors.Join(server.AddHook(new(auth.AllowHook), nil), server.AddListener(listener), server.Serve()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return listener.Address()
}
