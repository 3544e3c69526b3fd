package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

// TestBrokerAuth: off unless it is asked for; then devices that Envoy let in and
// services are answered, also while it drains, and services are reloaded.
func TestBrokerAuth(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if v := s.serve(); strings.Contains(v.log.String(), "brokers' questions") || v.end() != exitOK {
		t.Errorf("without being asked for:\n%s", v.log)
	}
	config := func(password string) {
		t.Helper()
		writeFile(t, s.dir, "backend.password", []byte(password+"\n"))
		writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub+`broker_auth:
  listen: 127.0.0.1:0
  username: "{device_name}:{hub_id}"
  services: [{username: backend, password_file: backend.password}]
`))
	}
	config("the first password")
	if out := hubgate(t, "config", "check", s.config).ok(t); !strings.Contains(out, "127.0.0.1:0 (reached from this host only)") {
		t.Errorf("config check says\n%s", out)
	}
	v := s.serve("--drain-delay", "2s")
	id := provision.DeclaredHubID("factory").String()
	ask := func(username, password string) int {
		t.Helper()
		body := strings.NewReader(`{"clientid":"c","username":"` + username + `","password":"` + password + `"}`)
		answer, err := http.Post("http://"+v.address("brokers' questions")+"/mosquitto/user", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	if got := ask("SN-0001:"+id, ""); got != http.StatusForbidden {
		t.Errorf("a device before it connects: %d", got)
	}
	if got := reasonOf(v.check(s.factory.device(t, "SN-0001"), "5b1f0c8e2d7a49b3/7")); got != "device_provisioned" {
		t.Fatal(got)
	}
	if got := ask("SN-0001:"+id, ""); got != http.StatusOK {
		t.Errorf("a device that Envoy let in: %d", got)
	}
	if got := ask("backend", "the first password"); got != http.StatusOK {
		t.Errorf("a service: %d", got)
	}
	config("the second password")
	v.logged("configuration reloaded")
	if old, young := ask("backend", "the first password"), ask("backend", "the second password"); old != http.StatusForbidden || young != http.StatusOK {
		t.Errorf("a service whose password changed: %d, %d", old, young)
	}
	if _, metrics := v.get("/metrics"); !strings.Contains(metrics, `hubgate_broker_checks_total{action="connect",broker="mosquitto",decision="allow"} 3`) {
		t.Error("the answers are not counted")
	}
	v.stop()
	v.logged("msg=draining")
	if got := ask("SN-0001:"+id, ""); got != http.StatusOK {
		t.Errorf("while it drains: %d", got)
	}
	if code := v.end(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, v.log)
	}
}
