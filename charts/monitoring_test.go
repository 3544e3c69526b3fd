package charts

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
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy"
	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
)

// TestAlerts lets promtool run the unit tests of the rules: each alert fires
// and clears, and has a runbook.
func TestAlerts(t *testing.T) {
	t.Parallel()
	if out := must(t, "promtool", "test", "rules", "testdata/alerts.yaml"); !strings.Contains(out, "SUCCESS") {
		t.Error(out)
	}
	must(t, "promtool", "check", "rules", "hubgate/files/alerts.yaml")
	tests, err := os.ReadFile("testdata/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules(t) {
		name := rule.str("alert")
		if !strings.Contains(string(tests), "\n        alertname: "+name+"\n        exp_alerts:\n          - exp_labels") ||
			!strings.Contains(string(tests), "\n        alertname: "+name+"\n        exp_alerts: []") {
			t.Errorf("%s has no test that it fires and clears", name)
		}
		runbook := "../docs/runbooks/" + filepath.Base(rule.at("annotations").str("runbook_url"))
		if text, err := os.ReadFile(runbook); err != nil || !strings.Contains(strings.SplitN(string(text), "\n", 2)[0], name) {
			t.Errorf("%s has no runbook %s: %v", name, runbook, err)
		}
	}
}

func rules(t *testing.T) []object {
	t.Helper()
	text, err := os.ReadFile("hubgate/files/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text))[0].list("groups")[0].list("rules")
}

// queries are the expressions of the alerts and of the dashboard.
func queries(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, rule := range rules(t) {
		list = append(list, rule.str("expr"))
	}
	text, err := os.ReadFile("hubgate/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard object
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	taken := make(map[string]string)
	for _, panel := range dashboard.list("panels") {
		for _, target := range panel.list("targets") {
			list = append(list, strings.NewReplacer("$__rate_interval", "5m", "$job", "hubgate").Replace(target.str("expr")))
		}
		at := panel.at("gridPos")
		for x := at["x"].(float64); x < at["x"].(float64)+at["w"].(float64); x++ {
			for y := at["y"].(float64); y < at["y"].(float64)+at["h"].(float64); y++ {
				place := fmt.Sprint(x, " ", y)
				if other := taken[place]; other != "" || x >= 24 {
					t.Fatalf("the panels %q and %q overlap", panel.str("title"), other)
				}
				taken[place] = panel.str("title")
			}
		}
	}
	return list
}

var metricName = regexp.MustCompile(`hubgate_[a-z_]+`)

// TestMetrics starts hubgate, with a sink and a hub, lets a real Prometheus
// scrape it, and asks it every query of the alerts and the dashboard. Each
// metric that they use has to be one that the binary exports.
func TestMetrics(t *testing.T) {
	t.Parallel()
	binary, err := hubgate()
	if err != nil {
		t.Fatal(err)
	}
	ports, err := process.FreePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	root, err := pki.NewRoot("Root")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("ca.pem", string(pki.EncodeCertificates(root.Certificate)))
	metrics := fmt.Sprintf("127.0.0.1:%d", ports[0])
	config := write("hubgate.yaml", fmt.Sprintf("authz: {listen: 'unix://%[1]s/a'}\nlink: {listen: 'unix://%[1]s/l'}\nmetrics: {listen: '%[2]s'}\n"+
		"admin: {listen: 'off'}\nevents: {log: {severity: info}}\nhubs: [{name: factory, auto_provisioning: true, trust_anchors: [ca.pem]}]\n", dir, metrics))
	ready := func(address string) func(context.Context) error {
		return func(ctx context.Context) error { _, err := get(ctx, address); return err }
	}
	start(t, process.Spec{Name: "hubgate", Path: binary, Args: []string{"serve", "-c", config}, Dir: dir, Ready: ready("http://" + metrics + "/readyz")})

	load(t, dir, root, fmt.Sprintf("127.0.0.1:%d", ports[2]))

	prometheus := fmt.Sprintf("127.0.0.1:%d", ports[1])
	rules, err := filepath.Abs("hubgate/files/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := write("prometheus.yml", fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: ['%s']\n"+
		"scrape_configs: [{job_name: hubgate, static_configs: [{targets: ['%s']}]}]\n", rules, metrics))
	must(t, "promtool", "check", "config", file)
	start(t, process.Spec{
		Name: "Prometheus", Path: "prometheus", Dir: dir, Ready: ready("http://" + prometheus + "/-/ready"),
		Args: []string{"--config.file", file, "--storage.tsdb.path", dir + "/data", "--web.listen-address", prometheus},
	})

	exported := ""
	for deadline := time.Now().Add(time.Minute); !strings.Contains(exported, "\nhubgate_sessions{"); time.Sleep(50 * time.Millisecond) {
		if exported, err = get(t.Context(), "http://"+metrics+"/metrics"); err != nil || time.Now().After(deadline) {
			t.Fatalf("no open connection is counted: %v", err)
		}
	}
	known := make(map[string]bool)
	for _, line := range strings.Split(exported, "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "TYPE" {
			known[f[2]] = true
			if f[3] == "histogram" {
				known[f[2]+"_bucket"], known[f[2]+"_count"], known[f[2]+"_sum"] = true, true, true
			}
		}
	}
	for _, q := range queries(t) {
		for _, name := range metricName.FindAllString(q, -1) {
			if !known[name] {
				t.Errorf("%s is not exported, but used in %s", name, q)
			}
		}
		if _, err := get(t.Context(), "http://"+prometheus+"/api/v1/query?query="+url.QueryEscape(q)); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		answer, err := get(t.Context(), "http://"+prometheus+"/api/v1/query?query="+url.QueryEscape(`up{job="hubgate"} == 1 and on() hubgate_store_up == 1`))
		if err == nil && strings.Contains(answer, `"instance":"`+metrics) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Prometheus has not scraped hubgate: %v %s", err, answer)
		}
	}
	alerts, err := get(t.Context(), "http://"+prometheus+"/api/v1/rules")
	if err != nil || !strings.Contains(alerts, `"health":"ok"`) || strings.Contains(alerts, `"health":"err"`) {
		t.Errorf("rules: %v %s", err, alerts)
	}
}

func start(t *testing.T, spec process.Spec) *process.Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := process.Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func get(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status + ": " + string(bytes.TrimSpace(body)))
	}
	return string(body), err
}

// load puts an Envoy with the library before the hubgate in dir, and lets
// devices connect: one stays, one is refused.
func load(t *testing.T, dir string, root *pki.Authority, address string) {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(backend.Close)
	server, err := root.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := server.WriteFiles(dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	config, err := envoy.Bootstrap(envoy.Options{
		HTTPS:        &envoy.HTTPS{Listen: address, Backends: []string{backend.Listener.Addr().String()}},
		Certificates: []envoy.KeyPair{{Certificate: cert, Key: key}},
		Hubgate:      envoy.Hubgate{Addresses: []string{"unix://" + dir + "/a"}, CheckTimeout: 20 * time.Second},
		Module:       &envoy.Module{Library: library(t) + "/libhubgate.so", Links: []string{"unix://" + dir + "/l"}},
		NodeID:       "charts",
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := envoybin.Path(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	start(t, process.Spec{Name: "Envoy", Path: binary, Args: []string{"-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"}, Ready: process.Accepts(address)})
	stranger, err := pki.NewRoot("Stranger")
	if err != nil {
		t.Fatal(err)
	}
	for ca, want := range map[*pki.Authority]int{root: http.StatusOK, stranger: http.StatusForbidden} {
		device, err := ca.Leaf("SN-1")
		if err != nil {
			t.Fatal(err)
		}
		pair := device.TLS()
		transport := &http.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify:   true,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		}}
		t.Cleanup(transport.CloseIdleConnections)
		response, err := (&http.Client{Transport: transport}).Get("https://" + address)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("a device of %s got %s", ca.Certificate.Subject.CommonName, response.Status)
		}
	}
}
