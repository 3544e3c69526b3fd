package brokerauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/hubgate/hubgate/provision"
)

// world is what a Server is told: a gate and sessions in memory, which can fail.
type world struct {
	*facts
	mu    sync.Mutex
	err   error
	asked func() // called with each look at the hub
}

func (w *world) CurrentHub(_ context.Context, id provision.HubID) (*provision.Hub, error) {
	if w.asked != nil {
		w.asked()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if id != w.hub.ID {
		return nil, w.err
	}
	return &w.hub, w.err
}

func (w *world) CurrentDevice(_ context.Context, _ provision.HubID, name string) (*provision.Device, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name != w.device.Name {
		return nil, w.err
	}
	return &w.device, w.err
}

func (w *world) DeviceSessions(context.Context, provision.HubID, provision.DeviceID) ([]provision.Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sessions, w.err
}

const (
	servicePassword = "correct horse battery staple"
	serviceName     = "backend"
)

// rig is a Server in front of a world with one device, SN-1, that may publish
// below up and subscribe below down, and one service that may use up.
type rig struct {
	*world
	server  *Server
	handler http.Handler
	log     bytes.Buffer
	metrics *prometheus.Registry
}

func newRig(t *testing.T, edit ...func(*Config)) *rig {
	t.Helper()
	r := &rig{world: &world{facts: connected(t, "SN-1")}, metrics: prometheus.NewRegistry()}
	r.device.Filters = &provision.Filters{Publish: provision.Filter{Topics: []string{"up/#"}}, Subscribe: provision.Filter{Topics: []string{"down/#"}}}
	c := Config{
		Gate: r.world, Sessions: r.world, Registerer: r.metrics,
		Services: []Service{{Username: serviceName, Password: sha256.Sum256([]byte(servicePassword)), Topics: []string{"up/#"}}},
		Logger:   slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	for _, e := range edit {
		e(&c)
	}
	var err error
	if r.server, err = New(c); err != nil {
		t.Fatal(err)
	}
	r.handler = r.server.Handler()
	return r
}

func (r *rig) username() string { return r.hub.ID.String() + "/SN-1" }

// exchange is a question as a broker writes it, with USER for the device's user
// name, and the answer.
type exchange struct {
	path, kind, hook, body string
	status                 int
	answer                 string
}

func (r *rig) post(e exchange) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, e.path, strings.NewReader(strings.ReplaceAll(e.body, "USER", r.username())))
	if e.kind != "" {
		request.Header.Set("Content-Type", e.kind)
	}
	if e.hook != "" {
		request.Header.Set("Vernemq-Hook", e.hook)
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, request)
	return w
}

func (r *rig) expect(t *testing.T, e exchange) {
	t.Helper()
	w := r.post(e)
	if got := strings.TrimSpace(w.Body.String()); w.Code != e.status || got != e.answer {
		t.Errorf("%s %s %s\n%d %s\nwant\n%d %s", e.path, e.hook, e.body, w.Code, got, e.status, e.answer)
	}
}

const (
	asJSON = "application/json"
	asForm = "application/x-www-form-urlencoded"
)

// What the brokers send: mosquitto-go-auth's http.go, EMQX's emqx_authn_http and
// emqx_authz_http with the bodies of docs/broker-auth.md, VerneMQ's
// vmq_webhooks_plugin.
func TestDialects(t *testing.T) {
	t.Parallel()
	const (
		yes, no = `{"ok":true,"error":""}`, `{"ok":false,"error":"`
		allow   = `{"result":"allow","is_superuser":false}`
		deny    = `{"result":"deny","is_superuser":false}`
		ok      = `{"result":"ok"}`
		refused = `{"result":{"error":"not_allowed"}}`
	)
	for name, exchanges := range map[string][]exchange{
		"mosquitto, json": {
			{"/mosquitto/user", asJSON, "", `{"clientid":"c","password":"","username":"USER"}`, 200, yes},
			{"/mosquitto/user", asJSON, "", `{"clientid":"c","password":"x","username":"USERx"}`, 403, no + `device_unknown"}`},
			{"/mosquitto/user", asJSON, "", `{"clientid":"c","password":"x","username":"admin"}`, 403, no + `identity_unknown"}`},
			{"/mosquitto/user", asJSON, "", `{"clientid":"c","password":"","username":""}`, 403, no + `identity_unknown"}`},
			{"/mosquitto/user", asJSON, "", `{"clientid":"c","password":"x","username":"0b7d5c1e-7f0e-4d53-9d4e-0d9a4b0f7c11/SN-1"}`, 403, no + `hub_unknown"}`},
			{"/mosquitto/superuser", asJSON, "", `{"username":"USER"}`, 403, no + `nobody_is_superuser"}`},
			{"/mosquitto/superuser", asJSON, "", `{"username":"backend"}`, 403, no + `nobody_is_superuser"}`},
			{"/mosquitto/acl", asJSON, "", `{"acc":2,"clientid":"c","topic":"up/a","username":"USER"}`, 200, yes},
			{"/mosquitto/acl", asJSON, "", `{"acc":2,"clientid":"c","topic":"down/a","username":"USER"}`, 403, no + `topic_not_allowed"}`},
			{"/mosquitto/acl", asJSON, "", `{"acc":1,"clientid":"c","topic":"down/a","username":"USER"}`, 200, yes},
			{"/mosquitto/acl", asJSON, "", `{"acc":1,"clientid":"c","topic":"up/a","username":"USER"}`, 403, no + `topic_not_allowed"}`},
			{"/mosquitto/acl", asJSON, "", `{"acc":3,"clientid":"c","topic":"up/a","username":"USER"}`, 403, no + `topic_not_allowed"}`},
			{"/mosquitto/acl", asJSON, "", `{"acc":4,"clientid":"c","topic":"down/#","username":"USER"}`, 200, yes},
			{"/mosquitto/acl", asJSON, "", `{"acc":4,"clientid":"c","topic":"$share/g/down/#","username":"USER"}`, 200, yes},
			{"/mosquitto/acl", asJSON, "", `{"acc":4,"clientid":"c","topic":"#","username":"USER"}`, 403, no + `topic_not_allowed"}`},
			{"/mosquitto/acl", asJSON, "", `{"acc":8,"clientid":"c","topic":"#","username":"USER"}`, 200, yes},
			{"/mosquitto/acl", asJSON, "", `{"acc":2,"clientid":"c","topic":"up/a","username":"USERx"}`, 403, no + `device_unknown"}`},
		},
		"mosquitto, form": {
			{"/mosquitto/user", asForm, "", `clientid=c&password=&username=USER`, 200, yes},
			{"/mosquitto/superuser", asForm, "", `username=USER`, 403, no + `nobody_is_superuser"}`},
			{"/mosquitto/acl", asForm, "", `acc=2&clientid=c&topic=up%2Fa&username=USER`, 200, yes},
			{"/mosquitto/acl", asForm + "; charset=utf-8", "", `acc=4&clientid=c&topic=%23&username=USER`, 403, no + `topic_not_allowed"}`},
		},
		"mosquitto, text": {
			{"/mosquitto/user?response_mode=text", asForm, "", `clientid=c&password=&username=USER`, 200, "ok"},
			{"/mosquitto/user?response_mode=text", asForm, "", `clientid=c&password=&username=nobody`, 403, no + `identity_unknown"}`},
			{"/mosquitto/acl?response_mode=text", asJSON, "", `{"acc":2,"clientid":"c","topic":"up/a","username":"USER"}`, 200, "ok"},
		},
		"emqx": {
			{"/emqx/authn", asJSON, "", `{"username":"USER","password":"","clientid":"c"}`, 200, allow},
			{"/emqx/authn", asJSON, "", `{"username":"undefined","password":"undefined","clientid":"c"}`, 200, deny},
			{"/emqx/authz", asJSON, "", `{"username":"USER","clientid":"c","action":"publish","topic":"up/a"}`, 200, allow},
			{"/emqx/authz", asJSON, "", `{"username":"USER","clientid":"c","action":"publish","topic":"$delayed/1/up/a"}`, 200, deny},
			{"/emqx/authz", asJSON, "", `{"username":"USER","clientid":"c","action":"subscribe","topic":"down/#"}`, 200, allow},
			{"/emqx/authz", asJSON, "", `{"username":"USER","clientid":"c","action":"subscribe","topic":"#"}`, 200, deny},
			{"/emqx/authz", asJSON, "", `{"username":"USERx","clientid":"c","action":"publish","topic":"up/a"}`, 200, deny},
		},
		"vernemq": {
			{"/vernemq", asJSON, "auth_on_register", `{"peer_addr":"127.0.0.1","peer_port":8888,"mountpoint":"","client_id":"c","username":"USER","password":null,"clean_session":true}`, 200, ok},
			{"/vernemq", asJSON, "auth_on_register", `{"peer_addr":"127.0.0.1","peer_port":8888,"mountpoint":"","client_id":"c","username":null,"password":null,"clean_session":true}`, 200, refused},
			{"/vernemq", asJSON, "auth_on_publish", `{"username":"USER","mountpoint":"","client_id":"c","qos":1,"topic":"up/a","payload":"aGVsbG8=","retain":false}`, 200, ok},
			{"/vernemq", asJSON, "auth_on_publish", `{"username":"USER","mountpoint":"","client_id":"c","qos":1,"topic":"down/a","retain":false}`, 200, refused},
			{"/vernemq", asJSON, "auth_on_subscribe", `{"username":"USER","mountpoint":"","client_id":"c","topics":[{"topic":"down/a","qos":1}]}`, 200, ok},
			{"/vernemq", asJSON, "auth_on_subscribe", `{"username":"USER","mountpoint":"","client_id":"c","topics":[{"topic":"down/a","qos":1},{"topic":"#","qos":2}]}`, 200,
				`{"result":"ok","topics":[{"topic":"down/a","qos":1},{"topic":"#","qos":128}]}`},
			{"/vernemq", asJSON, "auth_on_subscribe", `{"username":"USERx","mountpoint":"","client_id":"c","topics":[{"topic":"down/a","qos":1}]}`, 200,
				`{"result":"ok","topics":[{"topic":"down/a","qos":128}]}`},
		},
		"vernemq, MQTT 5": {
			{"/vernemq", asJSON, "auth_on_register_m5", `{"peer_addr":"127.0.0.1","peer_port":8888,"mountpoint":"","client_id":"c","username":"USER","password":null,"clean_start":true,"properties":{"user_property":[{"key":"azE=","val":"djE="}]}}`, 200, ok},
			{"/vernemq", asJSON, "auth_on_publish_m5", `{"username":"USER","mountpoint":"","client_id":"c","qos":1,"topic":"down/a","retain":false,"properties":{}}`, 200, refused},
			{"/vernemq", asJSON, "auth_on_subscribe_m5", `{"username":"USER","mountpoint":"","client_id":"c","topics":[{"topic":"#","qos":1,"no_local":false,"rap":true,"retain_handling":"send_retain"},{"topic":"down/+","qos":1,"no_local":true,"rap":false,"retain_handling":"dont_send"}],"properties":{"subscription_id":[1]}}`, 200,
				`{"modifiers":{"topics":[{"topic":"#","qos":135},{"topic":"down/+","qos":1,"no_local":true,"rap":false,"retain_handling":"dont_send"}]},"result":"ok"}`},
		},
		"services": {
			{"/mosquitto/user", asJSON, "", `{"clientid":"c","password":"correct horse battery staple","username":"backend"}`, 200, yes},
			{"/mosquitto/user", asJSON, "", `{"clientid":"c","password":"guessed","username":"backend"}`, 403, no + `password_wrong"}`},
			{"/mosquitto/user", asJSON, "", `{"clientid":"c","username":"backend"}`, 403, no + `password_wrong"}`},
			{"/mosquitto/acl", asJSON, "", `{"acc":2,"clientid":"c","topic":"up/a","username":"backend"}`, 200, yes},
			{"/mosquitto/acl", asJSON, "", `{"acc":4,"clientid":"c","topic":"up/#","username":"backend"}`, 200, yes},
			{"/mosquitto/acl", asJSON, "", `{"acc":4,"clientid":"c","topic":"#","username":"backend"}`, 403, no + `topic_not_allowed"}`},
			{"/emqx/authn", asJSON, "", `{"username":"backend","password":"correct horse battery staple","clientid":"c"}`, 200, allow},
			{"/vernemq", asJSON, "auth_on_register", `{"client_id":"c","username":"backend","password":"guessed"}`, 200, refused},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for _, e := range exchanges {
				r.expect(t, e)
			}
		})
	}
}

// malformed are questions that no broker asks; every one is refused as each
// broker understands it.
func malformed() []exchange {
	const (
		no   = `{"ok":false,"error":"request_malformed"}`
		deny = `{"result":"deny","is_superuser":false}`
		bad  = `{"result":{"error":"request_malformed"}}`
	)
	huge := `{"username":"USER","topic":"` + strings.Repeat("a", maxBody) + `"}`
	return []exchange{
		{"/mosquitto/user", asJSON, "", ``, 400, no},
		{"/mosquitto/user", asJSON, "", `[]`, 400, no},
		{"/mosquitto/user", asJSON, "", `{"username":7}`, 400, no},
		{"/mosquitto/user", asJSON, "", `{"username":"USER"}{}`, 400, no},
		{"/mosquitto/user", "", "", `{"username":"USER"}`, 400, no},
		{"/mosquitto/user", "text/plain", "", `{"username":"USER"}`, 400, no},
		{"/mosquitto/user", asForm, "", `username=USER&username=x`, 400, no},
		{"/mosquitto/user", asForm, "", `username=%zz`, 400, no},
		{"/mosquitto/user", asJSON, "", huge, 400, no},
		{"/mosquitto/user?response_mode=json", asJSON, "", `{"username":"USER"}`, 400, no},
		{"/mosquitto/user?response_mode=text&response_mode=text", asJSON, "", `{"username":"USER"}`, 400, no},
		{"/mosquitto/user", asJSON, "", `{"acc":2,"clientid":"c","topic":"up/a","username":"USER"}`, 400, no},
		{"/mosquitto/superuser", asJSON, "", `nonsense`, 400, no},
		{"/mosquitto/acl", asJSON, "", `{"acc":0,"topic":"up/a","username":"USER"}`, 400, no},
		{"/mosquitto/acl", asJSON, "", `{"acc":16,"topic":"up/a","username":"USER"}`, 400, no},
		{"/mosquitto/acl", asJSON, "", `{"topic":"up/a","username":"USER"}`, 400, no},
		{"/mosquitto/acl", asForm, "", `acc=two&topic=up/a&username=USER`, 400, no},
		{"/emqx/authn", asJSON, "", ``, 200, deny},
		{"/emqx/authn", asJSON, "", `{"username":"USER","action":"publish","topic":"up/a"}`, 200, deny},
		{"/emqx/authn", asJSON, "", huge, 200, deny},
		{"/emqx/authz", asJSON, "", `{"username":"USER","action":"all","topic":"up/a"}`, 200, deny},
		{"/emqx/authz", asJSON, "", `{"username":"USER","topic":"up/a"}`, 200, deny},
		{"/emqx/authz", asJSON, "", `{"username":"USER","action":"publish"}`, 200, deny},
		{"/emqx/authorize", asJSON, "", `{"username":"USER","action":"publish","topic":"up/a"}`, 200, deny},
		{"/vernemq", asJSON, "auth_on_register", ``, 400, bad},
		{"/vernemq", asJSON, "", `{"username":"USER"}`, 400, bad},
		{"/vernemq", asJSON, "on_register", `{"username":"USER"}`, 400, bad},
		{"/vernemq", asJSON, "auth_on_subscribe", `{"username":"USER","topics":[]}`, 400, bad},
		{"/vernemq", asJSON, "auth_on_subscribe", `{"username":"USER"}`, 400, bad},
		{"/vernemq", asJSON, "auth_on_subscribe", `{"username":"USER","topics":["a"]}`, 400, bad},
		{"/vernemq", asJSON, "auth_on_subscribe", `{"username":"USER","topics":[` + strings.Repeat(`{"topic":"down/a","qos":0},`, maxTopics) + `{"topic":"a"}]}`, 400, bad},
		{"/vernemq", asJSON, "auth_on_publish", huge, 400, bad},
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, e := range malformed() {
		r.expect(t, e)
	}
	// A question that is allowed is not, if it comes so.
	for name, change := range map[string]func(*http.Request){
		"with GET":    func(r *http.Request) { r.Method = http.MethodGet },
		"from a page": func(r *http.Request) { r.Header.Set("Origin", "http://localhost:9195") },
	} {
		for _, path := range []string{"/mosquitto/acl", "/emqx/authz", "/vernemq"} {
			body := `{"acc":2,"action":"publish","topic":"up/a","username":"` + r.username() + `"}`
			request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
			request.Header.Set("Content-Type", asJSON)
			request.Header.Set("Vernemq-Hook", "auth_on_publish")
			change(request)
			w := httptest.NewRecorder()
			r.handler.ServeHTTP(w, request)
			if w.Code == http.StatusOK && !strings.Contains(w.Body.String(), "deny") {
				t.Errorf("%s, %s: %d %s", path, name, w.Code, w.Body)
			}
		}
	}
	w := r.post(exchange{path: "/", body: "{}"})
	if w.Code != http.StatusNotFound {
		t.Errorf("no such path: %d", w.Code)
	}
}

// TestFaults: whatever fails, nobody gets in, and it is told as a fault.
func TestFaults(t *testing.T) {
	t.Parallel()
	questions := []exchange{
		{path: "/mosquitto/user", kind: asJSON, body: `{"username":"USER"}`},
		{path: "/mosquitto/acl", kind: asJSON, body: `{"username":"USER","topic":"up/a","acc":2}`},
		{path: "/emqx/authn", kind: asJSON, body: `{"username":"USER"}`},
		{path: "/emqx/authz", kind: asJSON, body: `{"username":"USER","topic":"up/a","action":"publish"}`},
		{path: "/vernemq", kind: asJSON, hook: "auth_on_register", body: `{"username":"USER"}`},
		{path: "/vernemq", kind: asJSON, hook: "auth_on_subscribe_m5", body: `{"username":"USER","topics":[{"topic":"down/a"},{"topic":"a"}]}`},
	}
	answers := func(reason string) []exchange {
		all := make([]exchange, len(questions))
		for i, e := range questions {
			switch e.status = 503; {
			case strings.HasPrefix(e.path, "/emqx"):
				e.status, e.answer = 200, `{"result":"deny","is_superuser":false}`
			case e.path == "/vernemq":
				e.answer = `{"result":{"error":"` + reason + `"}}`
			default:
				e.answer = `{"ok":false,"error":"` + reason + `"}`
			}
			all[i] = e
		}
		return all
	}
	for name, test := range map[string]struct {
		fail func(*rig)
		want string
	}{
		"store":      {func(r *rig) { r.err = fmt.Errorf("read: %w", provision.ErrUnavailable) }, "store_unavailable"},
		"other":      {func(r *rig) { r.err = errors.New("broken") }, "internal"},
		"panic":      {func(r *rig) { r.asked = func() { panic("broken") } }, "internal"},
		"overloaded": {func(r *rig) { r.server.slots <- struct{}{} }, "overloaded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *Config) { c.MaxInFlight = 1 })
			test.fail(r)
			for _, e := range answers(test.want) {
				r.expect(t, e)
			}
			if text := r.log.String(); strings.Count(text, "decision=error reason="+test.want) < len(questions) || !strings.Contains(text, "level=ERROR") {
				t.Errorf("the log says\n%s", text)
			}
			if got := testutil.ToFloat64(r.server.metrics.checks.WithLabelValues("mosquitto", "publish", "allow")); got != 0 {
				t.Errorf("%v were allowed", got)
			}
		})
	}
}

// TestConnectWaitsForItsSession: the broker may be faster than the news.
func TestConnectWaitsForItsSession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sessions := r.sessions
	r.sessions = nil
	looks := 0
	r.asked = func() {
		if looks++; looks == 3 {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sessions = sessions
		}
	}
	connect := exchange{"/mosquitto/user", asJSON, "", `{"username":"USER"}`, 200, `{"ok":true,"error":""}`}
	r.expect(t, connect)
	if looks != 3 {
		t.Errorf("%d looks", looks)
	}
	r.sessions = nil
	connect.status, connect.answer = 403, `{"ok":false,"error":"no_session"}`
	start := time.Now()
	r.expect(t, connect)
	if took := time.Since(start); took < sessionWait {
		t.Errorf("it was given up after %s", took)
	}
}

// TestLog: what a client says of itself is bounded, what it keeps for itself is
// not told, and neither are floods.
func TestLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.post(exchange{path: "/mosquitto/user", kind: asJSON, body: `{"username":"` + strings.Repeat("x", 60_000) + `","password":"hunter2","clientid":"a\nb"}`})
	r.post(exchange{path: "/mosquitto/user", kind: asForm, body: `username=backend&password=hunter2%zz`})
	r.post(exchange{path: "/mosquitto/user", kind: asJSON, body: `{"username":"backend","password":"hunter2"}`})
	text := r.log.String()
	if len(text) > 2000 || strings.Contains(text, "hunter2") || strings.Count(text, "\n") != 3 ||
		!strings.Contains(text, `client_id="a\nb"`) || !strings.Contains(text, "reason=password_wrong") {
		t.Errorf("the log says\n%.3000s", text)
	}
	for range 2000 {
		r.post(exchange{path: "/mosquitto/user", kind: asJSON, body: `{"username":"nobody"}`})
	}
	if n := strings.Count(r.log.String(), "identity_unknown"); n < maxLines/2 || n > 1500 {
		t.Errorf("%d lines of 2000", n)
	}
	r.log.Reset()
	r.post(exchange{path: "/mosquitto/user", kind: asJSON, body: `{"username":"USER"}`})
	if r.log.Len() > 0 {
		t.Errorf("what is allowed is logged: %s", r.log.String())
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.post(exchange{path: "/vernemq", kind: asJSON, hook: "auth_on_subscribe", body: `{"username":"USER","topics":[{"topic":"down/a"},{"topic":"#"},{"topic":"down/b"}]}`})
	r.post(exchange{path: "/emqx/authn", kind: asJSON, body: `?`})
	for _, want := range []struct {
		labels []string
		n      float64
	}{
		{[]string{"vernemq", "subscribe", "allow"}, 2},
		{[]string{"vernemq", "subscribe", "deny"}, 1},
		{[]string{"emqx", "unclear", "error"}, 1},
	} {
		if got := testutil.ToFloat64(r.server.metrics.checks.WithLabelValues(want.labels...)); got != want.n {
			t.Errorf("%v: %v, want %v", want.labels, got, want.n)
		}
	}
	// 3 brokers, 8 actions, 3 decisions: whatever is asked, there are no more.
	if n := testutil.CollectAndCount(r.server.metrics.checks); n != 72 {
		t.Errorf("%d series", n)
	}
}
