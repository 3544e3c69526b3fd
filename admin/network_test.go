package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/guard"
)

// network is a rig that strangers reach, too.
type network struct {
	*rig
	address string
}

func newNetwork(t *testing.T, c guard.Config) *network {
	t.Helper()
	r := newRig(t, nil)
	c.Keyring = r.keys
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g, err := guard.New(c)
	if err != nil {
		t.Fatal(err)
	}
	g.SetHosts([]string{"hubgate.example.com"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- r.server.ServeNetwork(ctx, l, g, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return &network{r, l.Addr().String()}
}

// token makes a token and returns its secret.
func (n *network) token(name string, role access.Role, project uuid.UUID) string {
	n.t.Helper()
	_, secret, err := n.tokens.Create(n.t.Context(), access.Local(), name, role, project)
	if err != nil {
		n.t.Fatal(err)
	}
	return secret
}

// reply is a response without its body.
type reply struct {
	status int
	header http.Header
}

// ask sends a request with these headers ("Name: value").
func (n *network) ask(method, path, body string, headers ...string) (reply, string) {
	n.t.Helper()
	request, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.address+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
		if name == "Host" {
			request.Host = value
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	n.hold(request, body, response, string(text))
	return reply{response.StatusCode, response.Header}, string(text)
}

func codeOf(text string) string {
	var f Failure
	if json.Unmarshal([]byte(text), &f) != nil || f.Message == "" {
		return "not a failure: " + text
	}
	return f.Error
}

// state is all that bad requests must not change. What connects meanwhile is
// nobody.
func (r *rig) state() string {
	r.t.Helper()
	var all strings.Builder
	for _, path := range []string{"/v1/hubs", "/v1/tokens", "/v1/hubs/a/devices", "/v1/hubs/own/devices", "/v1/hubs/own/anchors", "/v1/hubs/own/intermediates"} {
		status, text := r.do("GET", path, "")
		fmt.Fprintln(&all, path, status, text)
	}
	return all.String()
}

// TestStrangers holds what is said to who has no token or a wrong one, asks by a
// name that is not ours, or is a page from elsewhere.
func TestStrangers(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{Failures: 1000})
	secret := n.token("boss", access.Admin, uuid.Nil)
	good := "Authorization: Bearer " + secret
	if status, text := n.do("POST", "/v1/hubs", `{"name":"own"}`); status != 201 {
		t.Fatal(status, text)
	}
	before := n.state()
	for name, tt := range map[string]struct {
		path    string
		headers []string
		status  int
		code    string
	}{
		"no token":            {headers: nil, status: 401, code: "unauthorized"},
		"another's secret":    {headers: []string{"X-Auth-Token: " + uuid.NewString()}, status: 401, code: "unauthorized"},
		"a token's ID":        {headers: []string{"X-Auth-Token: boss"}, status: 401, code: "unauthorized"},
		"no UUID":             {headers: []string{"X-Auth-Token: " + strings.Repeat("x", 8000)}, status: 401, code: "unauthorized"},
		"a secret in braces":  {headers: []string{"X-Auth-Token: {" + secret + "}"}, status: 401, code: "unauthorized"},
		"basic":               {headers: []string{"Authorization: Basic " + secret}, status: 401, code: "unauthorized"},
		"in the query":        {path: "?token=" + secret, status: 401, code: "unauthorized"},
		"wrong one first":     {headers: []string{"X-Auth-Token: " + uuid.NewString(), good}, status: 401, code: "unauthorized"},
		"rebound name":        {headers: []string{good, "Host: evil.example"}, status: 403, code: "host_not_allowed"},
		"rebound, with port":  {headers: []string{good, "Host: evil.example:9192"}, status: 403, code: "host_not_allowed"},
		"name that begins so": {headers: []string{good, "Host: hubgate.example.com.evil.example"}, status: 403, code: "host_not_allowed"},
		"foreign page":        {headers: []string{good, "Origin: https://evil.example"}, status: 403, code: "cross_origin"},
		"page of a file":      {headers: []string{good, "Origin: null"}, status: 403, code: "cross_origin"},
		"another port":        {headers: []string{good, "Origin: http://127.0.0.1:1"}, status: 403, code: "cross_origin"},
		"without Origin":      {headers: []string{good, "Sec-Fetch-Site: cross-site"}, status: 403, code: "cross_origin"},
		"sibling page":        {headers: []string{good, "Sec-Fetch-Site: same-site"}, status: 403, code: "cross_origin"},
		"a form":              {headers: []string{good, "Content-Type: application/x-www-form-urlencoded"}, status: 415, code: "unsupported_media_type"},
		"plain text":          {headers: []string{good, "Content-Type: text/plain"}, status: 415, code: "unsupported_media_type"},
		"no type":             {headers: []string{good, "Content-Type: "}, status: 415, code: "unsupported_media_type"},
		"mixed type":          {headers: []string{good, "Content-Type: text/plain; application/json"}, status: 415, code: "unsupported_media_type"},
	} {
		response, text := n.ask("POST", "/v1/hubs"+tt.path, `{"name":"stolen"}`, tt.headers...)
		if response.status != tt.status || codeOf(text) != tt.code {
			t.Errorf("%s: %d %s", name, response.status, text)
		}
		if tt.status == 401 && response.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
		for header := range response.header {
			if strings.HasPrefix(header, "Access-Control-") {
				t.Errorf("%s: answered with %s", name, header)
			}
		}
	}
	// A preflight gets no leave either.
	response, text := n.ask("OPTIONS", "/v1/hubs", "", "Origin: https://evil.example", "Access-Control-Request-Method: POST")
	if response.status != 403 || response.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight: %d %s", response.status, text)
	}
	if after := n.state(); after != before {
		t.Errorf("changed from\n%sto\n%s", before, after)
	}

	for name, headers := range map[string][]string{
		"bearer":         {good},
		"in capitals":    {"Authorization: BEARER " + strings.ToUpper(secret)},
		"as Scaleway":    {"X-Auth-Token: " + secret},
		"own name":       {good, "Host: HubGate.example.com."},
		"own, with port": {good, "Host: hubgate.example.com:9192"},
		"localhost":      {good, "Host: localhost:9192"},
		"an address":     {good, "Host: [2001:db8::1]:9192"},
		"own page":       {good, "Origin: http://" + n.address, "Sec-Fetch-Site: same-origin"},
		"behind TLS":     {good, "Host: hubgate.example.com", "Origin: https://hubgate.example.com"},
		"typed by hand":  {good, "Sec-Fetch-Site: none"},
	} {
		response, text := n.ask("GET", "/v1/whoami", "", headers...)
		if response.status != 200 || !strings.Contains(text, `"name":"boss"`) {
			t.Errorf("%s: %d %s", name, response.status, text)
		}
		if response.header.Get("X-Content-Type-Options") != "nosniff" || response.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", name, response.header)
		}
	}
	// The document is no secret.
	if response, text := n.ask("GET", "/v1/openapi.json", ""); response.status != 200 || !strings.Contains(text, `"openapi": "3.1.0"`) {
		t.Errorf("the document: %d", response.status)
	}
	if response, _ := n.ask("GET", "/v1/openapi.json", "", "Host: evil.example"); response.status != 403 {
		t.Errorf("the document by another name: %d", response.status)
	}
}

var variable = regexp.MustCompile(`\{\w+\}`)

// TestRoles asks every route as everybody.
func TestRoles(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{Failures: 1000, Rate: 1000})
	project := uuid.New()
	if status, text := n.do("POST", "/v1/hubs", `{"name":"own","project_id":"`+project.String()+`"}`); status != 201 {
		t.Fatal(status, text)
	}
	people := []struct {
		name    string
		role    access.Role
		project uuid.UUID
	}{
		{"viewer", access.Viewer, uuid.Nil}, {"operator", access.Operator, uuid.Nil},
		{"mine-viewer", access.Viewer, project}, {"mine-admin", access.Admin, project},
		{"other-admin", access.Admin, uuid.New()},
	}
	secrets := make(map[string]string)
	for _, p := range people {
		secrets[p.name] = n.token(p.name, p.role, p.project)
	}
	before := n.state()
	for _, r := range n.server.table() {
		// Nothing that exists but the hub, so that whoever may do it changes
		// nothing either. An ID is a good name of a token, too.
		path := strings.ReplaceAll(r.path, "{hub}", "own")
		path = variable.ReplaceAllString(path, uuid.NewString())
		body := ""
		if r.body != nil || r.bodyType != "" {
			body = `{"bad`
		}
		kind := ""
		if r.bodyType != "" {
			kind = r.bodyType
		} else if body != "" {
			kind = "application/json"
		}
		for _, p := range append(people, people[0]) {
			if r.method == "DELETE" && r.path == "/v1/hubs/{hub}" && p.role == access.Admin {
				continue // these may
			}
			if r.id == "streamEvents" {
				path = r.path + "?follow=false"
			}
			response, text := n.ask(r.method, path, body, "X-Auth-Token: "+secrets[p.name], "Content-Type: "+kind)
			switch denied := response.status == 403; {
			case r.role == 0:
				if response.status != 200 {
					t.Errorf("%s %s as %s: %d %s", r.method, path, p.name, response.status, text)
				}
			case denied != (p.role < r.role || r.everywhere && p.project != uuid.Nil):
				t.Errorf("%s %s as %s: %d %s", r.method, path, p.name, response.status, text)
			case denied && codeOf(text) != "denied":
				t.Errorf("%s %s as %s: %s", r.method, path, p.name, text)
			case p.name == "other-admin" && !denied && strings.Contains(r.path, "{hub}") && response.status != 404 && response.status != 400:
				t.Errorf("%s %s as %s: %d %s", r.method, path, p.name, response.status, text)
			case p.name == "other-admin" && r.method == "GET" && strings.Contains(text, project.String()):
				t.Errorf("%s %s as %s tells of another's hub: %s", r.method, path, p.name, text)
			case response.status >= 500:
				t.Errorf("%s %s as %s: %d %s", r.method, path, p.name, response.status, text)
			}
		}
		if response, text := n.ask(r.method, path, body, "Content-Type: "+kind); r.role != 0 && (response.status != 401 || codeOf(text) != "unauthorized") {
			t.Errorf("%s %s as nobody: %d %s", r.method, path, response.status, text)
		}
	}
	if after := n.state(); after != before {
		t.Errorf("changed from\n%sto\n%s", before, after)
	}
}

// TestForeignProject holds that a hub of another project does not exist.
func TestForeignProject(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{})
	mine, other := uuid.New(), uuid.New()
	if status, text := n.do("POST", "/v1/hubs", `{"name":"own","project_id":"`+mine.String()+`"}`); status != 201 {
		t.Fatal(status, text)
	}
	n.do("POST", "/v1/hubs/own/devices", `{"name":"SN-1"}`)
	secret := "X-Auth-Token: " + n.token("other", access.Admin, other)
	before := n.state()
	for _, tt := range []struct{ method, path, body string }{
		{"GET", "/v1/hubs/own", ""},
		{"PATCH", "/v1/hubs/own", `{"enabled":false}`},
		{"DELETE", "/v1/hubs/own?with_devices=true", ""},
		{"GET", "/v1/hubs/own/devices", ""},
		{"POST", "/v1/hubs/own/devices", `{"name":"SN-2"}`},
		{"GET", "/v1/hubs/own/devices/SN-1", ""},
		{"PATCH", "/v1/hubs/own/devices/SN-1", `{"enabled":false}`},
		{"DELETE", "/v1/hubs/own/devices/SN-1", ""},
		{"POST", "/v1/hubs/own/devices/SN-1/disable", ""},
		{"POST", "/v1/hubs/own/devices/SN-1/end-sessions", ""},
		{"GET", "/v1/sessions?hub=own", ""},
		{"GET", "/v1/events?hub=own", ""},
		{"GET", "/v1/hubs/own/devices/export", ""},
		{"POST", "/v1/explain", `{"hub":"own"}`},
	} {
		if response, text := n.ask(tt.method, tt.path, tt.body, secret); response.status != 404 || codeOf(text) != "not_found" || strings.Contains(text, mine.String()) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, response.status, text)
		}
	}
	if response, text := n.ask("POST", "/v1/hubs", `{"name":"theirs","project_id":"`+mine.String()+`"}`, secret); response.status < 400 {
		t.Errorf("a hub in another's project: %d %s", response.status, text)
	}
	if response, text := n.ask("GET", "/v1/hubs", "", secret); response.status != 200 || !strings.Contains(text, `"hubs":[]`) {
		t.Errorf("hubs of others: %d %s", response.status, text)
	}
	if after := n.state(); after != before {
		t.Errorf("changed from\n%sto\n%s", before, after)
	}
}

// TestRates holds the limits at their edges.
func TestRates(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{Rate: 1, Failures: 3})
	busy, calm := "X-Auth-Token: "+n.token("busy", access.Viewer, uuid.Nil), "X-Auth-Token: "+n.token("calm", access.Viewer, uuid.Nil)
	refused := func(response reply, text string) bool {
		return response.status == 429 && codeOf(text) == "too_many_requests" && response.header.Get("Retry-After") != ""
	}
	limited := 0
	for range 60 { // ten at once, and one a second
		switch response, text := n.ask("GET", "/v1/whoami", "", busy); {
		case refused(response, text):
			limited++
		case response.status != 200:
			t.Fatalf("%d %s", response.status, text)
		}
	}
	if limited == 0 {
		t.Error("60 requests at once were answered")
	}
	if response, text := n.ask("GET", "/v1/whoami", "", calm); response.status != 200 {
		t.Errorf("another token: %d %s", response.status, text)
	}
	limited = 0
	for range 30 {
		if refused(n.ask("GET", "/v1/whoami", "", "X-Auth-Token: "+uuid.NewString())) {
			limited++
		}
	}
	if limited == 0 {
		t.Error("30 failures at once were answered")
	}
	if response, text := n.ask("GET", "/v1/whoami", "", calm); response.status != 200 {
		t.Errorf("a good token from an address that failed: %d %s", response.status, text)
	}
}

// TestRevokedStream holds that a stream ends with its token.
func TestRevokedStream(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{Recheck: 20 * time.Millisecond})
	token, secret, err := n.tokens.Create(t.Context(), access.Local(), "short", access.Viewer, uuid.Nil)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.address+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+secret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewReader(response.Body)
	if line, err := lines.ReadString('\n'); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.StatusCode, line, err)
	}
	if err := n.tokens.Revoke(t.Context(), access.Local(), token.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Logf("the stream ended with %v", err)
	}
	if response, text := n.ask("GET", "/v1/whoami", "", "Authorization: Bearer "+secret); response.status != 401 {
		t.Errorf("%d %s", response.status, text)
	}
}

// TestPanic holds that a mistake of ours is answered and told, and ends nothing.
func TestPanic(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r := newRig(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.IoT = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a mistake") })
	})
	if status, text := r.do("GET", "/iot/v1/x", ""); status != 500 || codeOf(text) != "internal" {
		t.Errorf("%d %s", status, text)
	}
	if status, text := r.do("GET", "/v1/whoami", ""); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	r.stop()
	if !strings.Contains(log.String(), "a mistake") || !strings.Contains(log.String(), "network_test.go") {
		t.Errorf("the log: %s", log.String())
	}
}
