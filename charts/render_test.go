package charts

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/pki"
)

// Each dimension of the matrix has some values files.
var (
	stores = map[string]string{
		"embedded": "",
		"redis": "store: {type: redis, redis: {addresses: [redis:6379], username: hub gate, existingSecret: redis, passwordKey: password}}\nreplicaCount: 2\n" +
			"admin: {enabled: true, insecure: true, region: fr-par, tokens: [{name: ci, role: operator, existingSecret: tokens, key: ci}]}\nevents: {log: {severity: info}}\n" +
			"brokerAuth: {enabled: true, insecure: true, services: [{username: backend, existingSecret: services, key: backend, topics: [up/#]}]}\nnetworkPolicy: {brokers: [{podSelector: {matchLabels: {app: mosquitto}}}]}\n",
		"sentinel": "store: {type: redis, redis: {mode: sentinel, addresses: [a:26379, b:26379], master: main, existingSecret: redis, sentinelUsername: watch, sentinelPasswordKey: sentinel}}\n" +
			"brokerAuth: {enabled: true, existingSecret: broker-tls}\n",
		"cluster": "store: {type: redis, redis: {mode: cluster, addresses: [a:6379, b:6379], waitReplicas: 1, tls: {enabled: true, existingSecret: redis-tls, clientCertificate: true}}}\n" +
			"autoscaling: {enabled: true}\n",
		"url": "store: {type: redis, redis: {url: \"rediss://hubgate@redis.example.com:6380/1\"}}\nreplicaCount: 3\n",
	}
	gateways = map[string]string{
		"none": "",
		"both": "domain: iot.example.com\ngateway: {enabled: true, tls: {existingSecret: device-tls}, https: {backends: [app:8080]}, mqtt: {brokers: [broker:1883]}, accessLog: true, autoscaling: {enabled: true},\n" +
			"  insecure: {http: {enabled: true}, mqtt: {enabled: true}, service: {type: LoadBalancer, loadBalancerSourceRanges: [10.0.0.0/8]}}}\n" +
			"tests: {serverName: factory.iot.example.com, deviceSecret: test-device}\n",
		"plain": "domain: iot.example.com\ngateway: {enabled: true, module: false, tls: {certManager: {enabled: true, issuerRef: {name: le}}}, https: {backends: [app:8080], onlyDomain: true}, mqtt: {enabled: false}}\n",
	}
	guards = map[string]string{
		"cert-manager": "",
		"issuer":       "mtls: {certManager: {issuerRef: {name: mesh, kind: ClusterIssuer}}}\n",
		"secrets":      "mtls: {mode: existingSecret, existingSecret: hubgate-tls, existingClientSecret: envoy-tls}\n",
		"off":          "mtls: {mode: \"off\", insecure: true}\n",
	}
	monitorings = map[string]string{
		"none": "",
		"all":  "serviceMonitor: {enabled: true, labels: {release: prometheus}}\nprometheusRule: {enabled: true, namespace: monitoring}\ndashboard: {enabled: true}\n",
	}
)

const hubValues = `hubs:
  - name: factory
    autoProvisioning: true
    trustAnchors:
      - pem: |
%s      - configMap: {name: vendor.cas, key: root.pem}
      - secret: {name: vendor-secret, key: root.pem}
    intermediates:
      - configMap: {name: vendor.cas, key: line.pem}
    crls:
      - url: http://ca.example.com/line-1.crl
      - configMap: {name: vendor.cas, key: line-2.crl}
      - secret: {name: vendor-crls, key: line-3.crl}
crl: {refresh: 10m, networks: [10.1.0.0/16]}
`

// render renders the chart with these values.
func render(t *testing.T, values ...string) (string, error) {
	t.Helper()
	args := []string{"template", "site", "hubgate", "--namespace", "iot"}
	dir, err := os.MkdirTemp("", "values") // a test's own has commas in its path, at which Helm splits
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for i, v := range values {
		file := filepath.Join(dir, fmt.Sprintf("values-%d.yaml", i))
		if err := os.WriteFile(file, []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--values", file)
	}
	return run(t, tool(t, "helm"), args...)
}

func TestLint(t *testing.T) {
	t.Parallel()
	if out := must(t, tool(t, "helm"), "lint", "--strict", "hubgate"); !strings.Contains(out, "0 chart(s) failed") {
		t.Error(out)
	}
}

// TestMatrix renders the chart in every combination, and gives what comes out
// to kubeconform, `hubgate config check`, `hubgate envoy config` and
// `envoy --mode validate`.
func TestMatrix(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	var all strings.Builder
	for _, store := range slices.Sorted(maps.Keys(stores)) {
		for _, gateway := range slices.Sorted(maps.Keys(gateways)) {
			for _, guard := range slices.Sorted(maps.Keys(guards)) {
				for _, monitoring := range slices.Sorted(maps.Keys(monitorings)) {
					t.Run(strings.Join([]string{store, gateway, guard, monitoring}, "/"), func(t *testing.T) {
						text, err := render(t, stores[store], gateways[gateway], guards[guard], monitorings[monitoring],
							fmt.Sprintf(hubValues, indented(p.root("inline"))))
						if err != nil {
							t.Fatalf("%v\n%s", err, text)
						}
						all.WriteString("\n---\n" + text)
						list := parse(t, text)
						p.configCheck(t, list)
						if gateway != "none" {
							p.envoyCheck(t, list, monitoring == "all" && store == "embedded")
						}
						hardened(t, list)
					})
				}
			}
		}
	}
	conform(t, all.String())
}

// vendors are what the values name: everything that the cluster would mount.
type vendors struct {
	dir   string
	roots map[string][]byte
}

func newPKI(t *testing.T) *vendors {
	t.Helper()
	p := &vendors{dir: t.TempDir(), roots: make(map[string][]byte)}
	for _, name := range []string{"inline", "configmap", "secret"} {
		root, err := pki.NewRoot("Root " + name)
		if err != nil {
			t.Fatal(err)
		}
		p.roots[name] = pki.EncodeCertificates(root.Certificate)
		if name != "configmap" {
			continue
		}
		line, err := root.Intermediate("Line")
		if err != nil {
			t.Fatal(err)
		}
		p.roots["line"] = pki.EncodeCertificates(line.Certificate)
	}
	ca, err := pki.NewRoot("CA of servers")
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server("hubgate")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := server.WriteFiles(p.dir, "tls")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Rename(cert, p.dir+"/tls.crt"), os.Rename(key, p.dir+"/tls.key"),
		os.WriteFile(p.dir+"/ca.crt", pki.EncodeCertificates(ca.Certificate), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *vendors) root(name string) string { return string(p.roots[name]) }

func indented(pem string) string {
	var b strings.Builder
	for line := range strings.Lines(pem) {
		b.WriteString("          " + line)
	}
	return b.String()
}

// lay lays the files out that hubgate's pod mounts, below dir.
func (p *vendors) lay(t *testing.T, list []object, dir string) {
	t.Helper()
	put := func(path string, text []byte) {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	pod := find(list, "Deployment", "site-hubgate").at("spec", "template", "spec")
	sources := make(map[string]object)
	for _, v := range pod.list("volumes") {
		sources[v.str("name")] = v
	}
	for _, m := range pod.list("containers")[0].list("volumeMounts") {
		v, path := sources[m.str("name")], m.str("mountPath")
		if m["subPath"] != nil {
			t.Errorf("%s is mounted by subPath, which does not follow changes", path)
		}
		switch name := v.at("configMap").str("name") + v.at("secret").str("secretName"); name {
		case "":
		case "vendor.cas":
			put(path+"/root.pem", p.roots["configmap"])
			put(path+"/line.pem", p.roots["line"])
		case "vendor-secret":
			put(path+"/root.pem", p.roots["secret"])
		case "tokens":
			put(path+"/ci", []byte("0f4c2a5e-7d1b-4c3e-9a8f-6b5d4c3e2f1a"))
		case "services":
			put(path+"/backend", []byte("a password of a service"))
		case "redis":
			put(path+"/password", []byte("hunter2"))
			put(path+"/sentinel", []byte("hunter3"))
		case "site-hubgate", "site-hubgate-cas":
			if v["configMap"] == nil {
				t.Fatalf("%s is no ConfigMap", name)
			}
			for key, text := range find(list, "ConfigMap", name).at("data") {
				text := strings.ReplaceAll(text.(string), "/etc/hubgate", dir+"/etc/hubgate")
				put(path+"/"+key, []byte(text))
			}
		default:
			for _, file := range []string{"tls.crt", "tls.key", "ca.crt"} {
				text, err := os.ReadFile(filepath.Join(p.dir, file))
				if err != nil {
					t.Fatal(err)
				}
				put(path+"/"+file, text)
			}
		}
	}
}

// configCheck gives the rendered configuration, and the files it names, to
// hubgate.
func (p *vendors) configCheck(t *testing.T, list []object) {
	t.Helper()
	binary, err := hubgate()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p.lay(t, list, dir)
	out := must(t, binary, "config", "check", dir+"/etc/hubgate/config/hubgate.yaml")
	if !strings.Contains(out, "factory: 3 trust anchors, 1 intermediate, auto-provisioning") {
		t.Errorf("config check says\n%s", out)
	}
}

// envoyCheck runs what the gateway's init container runs, and gives the result
// to Envoy. Envoy itself is slow to start; the flags are cheap.
func (p *vendors) envoyCheck(t *testing.T, list []object, validate bool) {
	t.Helper()
	binary, err := hubgate()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pod := find(list, "Deployment", "site-hubgate-gateway").at("spec", "template", "spec")
	args := pod.list("initContainers")[0].strs("args")
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "--output="):
			args[i] = "--output=" + dir + "/envoy.yaml"
		case strings.Contains(arg, "=/etc/envoy"):
			flag, path, _ := strings.Cut(arg, "=")
			args[i] = flag + "=" + filepath.Join(p.dir, filepath.Base(path))
		}
	}
	must(t, binary, args...)
	if !validate {
		return
	}
	envoy, err := envoybin.Path(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	must(t, "env", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH="+library(t), envoy, "--mode", "validate", "-c", dir+"/envoy.yaml", "--log-level", "error")
}

// TestCRLs: what a hub's revocation lists come from is in hubgate.yaml, and
// mounted.
func TestCRLs(t *testing.T) {
	t.Parallel()
	list := parse(t, rendered(t, fmt.Sprintf(hubValues, indented(newPKI(t).root("inline")))))
	config := parse(t, find(list, "ConfigMap", "site-hubgate").at("data").str("hubgate.yaml"))[0]
	want := []string{"http://ca.example.com/line-1.crl", "/etc/hubgate/cas/configmap/vendor.cas/line-2.crl", "/etc/hubgate/cas/secret/vendor-crls/line-3.crl"}
	if got := config.list("hubs")[0].strs("crls"); !slices.Equal(got, want) {
		t.Errorf("crls %q, want %q", got, want)
	}
	if crl := config.at("crl"); crl.str("refresh") != "10m" || !slices.Equal(crl.strs("networks"), []string{"10.1.0.0/16"}) {
		t.Errorf("crl: %v", crl)
	}
	var mounted []string
	for _, m := range find(list, "Deployment", "site-hubgate").at("spec", "template", "spec").list("containers")[0].list("volumeMounts") {
		mounted = append(mounted, m.str("mountPath"))
	}
	for _, path := range want[1:] {
		if !slices.Contains(mounted, filepath.Dir(path)) {
			t.Errorf("%s is not mounted: %q", path, mounted)
		}
	}
}

// TestInsecureListeners: those without TLS are there only if somebody says so, and
// never in the Service of the others.
func TestInsecureListeners(t *testing.T) {
	t.Parallel()
	if out := rendered(t, gatewayOn); strings.Contains(out, "insecure") {
		t.Errorf("nobody asked for it:\n%s", out)
	}
	out := rendered(t, gateways["both"])
	list := parse(t, out)
	var there []string
	for _, p := range find(list, "Service", "site-hubgate-gateway-insecure").at("spec").list("ports") {
		there = append(there, p.str("targetPort"))
	}
	if !slices.Equal(there, []string{"insecure-http", "insecure-mqtt"}) {
		t.Errorf("ports %q", there)
	}
	for _, p := range find(list, "Service", "site-hubgate-gateway").at("spec").list("ports") {
		if strings.HasPrefix(p.str("targetPort"), "insecure") {
			t.Errorf("it is beside those with TLS: %v", p)
		}
	}
	args := find(list, "Deployment", "site-hubgate-gateway").at("spec", "template", "spec").list("initContainers")[0].strs("args")
	for _, want := range []string{"--insecure-http=0.0.0.0:8080", "--insecure-mqtt=0.0.0.0:1883"} {
		if !slices.Contains(args, want) {
			t.Errorf("no %s in %q", want, args)
		}
	}
}

// rendered is render of values that have to be fit.
func rendered(t *testing.T, values ...string) string {
	t.Helper()
	out, err := render(t, values...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// hardened holds every pod to the restricted Pod Security Standard.
func hardened(t *testing.T, list []object) {
	t.Helper()
	pods := 0
	for _, o := range list {
		pod := o.at("spec", "template", "spec")
		if o.str("kind") == "Pod" {
			pod = o.at("spec")
		}
		if len(pod) == 0 {
			continue
		}
		pods++
		name := o.at("metadata").str("name")
		security := pod.at("securityContext")
		if security["runAsNonRoot"] != true || security.at("seccompProfile").str("type") != "RuntimeDefault" || pod["automountServiceAccountToken"] != false {
			t.Errorf("pod of %s: %v", name, security)
		}
		for _, c := range append(pod.list("containers"), pod.list("initContainers")...) {
			s := c.at("securityContext")
			if s["allowPrivilegeEscalation"] != false || s["readOnlyRootFilesystem"] != true || !slices.Equal(s.at("capabilities").strs("drop"), []string{"ALL"}) {
				t.Errorf("container %s of %s: %v", c.str("name"), name, s)
			}
		}
	}
	if pods < 2 {
		t.Errorf("%d pods were found", pods)
	}
}
