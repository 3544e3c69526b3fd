package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	tokenOne = "11111111-1111-4111-8111-111111111111"
	tokenTwo = "22222222-2222-4222-8222-222222222222"
)

// elsewhere is an address that answers as hubgate does and remembers who asked.
type elsewhere struct {
	*httptest.Server
	mu     sync.Mutex
	tokens []string
}

func newElsewhere(t *testing.T, secured bool) *elsewhere {
	t.Helper()
	e := new(elsewhere)
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.tokens = append(e.tokens, r.Header.Get("Authorization"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"hubs":[]}`))
	}))
	e.Config.ErrorLog = log.New(io.Discard, "", 0) // who does not trust it says so
	if secured {
		e.StartTLS()
	} else {
		e.Start()
	}
	t.Cleanup(e.Close)
	return e
}

// asked returns the tokens that came since the last call.
func (e *elsewhere) asked() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := strings.Join(e.tokens, " ")
	e.tokens = nil
	return all
}

// TestWhichHubgate holds who is asked, and with which token: flags, then the
// environment, then the current context, then the socket here.
func TestWhichHubgate(t *testing.T) {
	t.Parallel()
	a, b := newElsewhere(t, false), newElsewhere(t, false)
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	for path, token := range map[string]string{one: tokenOne, two: tokenTwo} {
		if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := newPerson(t)
	if got := p.hubgate("hub", "list"); got.code != exitUnavailable || !strings.Contains(got.err, "nobody answers at ") {
		t.Errorf("without anything: %+v", got)
	}
	p.hubgateIn(tokenOne+"\n", "context", "add", "a", "--url", a.URL, "--token-stdin").ok(t)
	p.hubgate("context", "add", "b", "--url", b.URL, "--token-file", two).ok(t)

	const none = ""
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		a, b string // what was sent there
	}{
		{"current context", nil, nil, "Bearer " + tokenOne, none},
		{"--context", nil, []string{"--context", "b"}, none, "Bearer " + tokenTwo},
		{"environment", []string{"HUBGATE_URL=" + b.URL, "HUBGATE_TOKEN=" + tokenTwo}, nil, none, "Bearer " + tokenTwo},
		{"environment, token file", []string{"HUBGATE_URL=" + b.URL, "HUBGATE_TOKEN_FILE=" + two}, nil, none, "Bearer " + tokenTwo},
		{"--context before environment", []string{"HUBGATE_URL=" + b.URL, "HUBGATE_TOKEN=" + tokenTwo}, []string{"--context", "a"}, "Bearer " + tokenOne, none},
		{"--url before environment", []string{"HUBGATE_URL=" + a.URL, "HUBGATE_TOKEN=" + tokenOne}, []string{"--url", b.URL, "--token-file", two}, none, "Bearer " + tokenTwo},
		{"--url with the environment's token", []string{"HUBGATE_TOKEN=" + tokenTwo}, []string{"--url", b.URL + "/"}, none, "Bearer " + tokenTwo},
		{"a context never gets the environment's token", []string{"HUBGATE_TOKEN=" + tokenTwo}, nil, "Bearer " + tokenOne, none},
		{"an address never gets a context's token", []string{"HUBGATE_URL=" + b.URL}, nil, none, " "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := p.with(tt.env...).hubgate(append([]string{"hub", "list"}, tt.args...)...)
			if out.code != exitOK {
				t.Errorf("%+v", out)
			}
			if gotA, gotB := a.asked(), b.asked(); gotA != tt.a || gotB != strings.TrimSpace(tt.b) {
				t.Errorf("a got %q, b got %q; want %q and %q", gotA, gotB, tt.a, tt.b)
			}
		})
	}
}

// TestTokenStaysSecret: a token goes to nobody who could be another than its
// hubgate, and is never shown.
func TestTokenStaysSecret(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	secured := newElsewhere(t, true)
	moved := httptest.NewServer(http.RedirectHandler(secured.URL+"/v1/hubs", http.StatusTemporaryRedirect))
	t.Cleanup(moved.Close)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secured.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	q := p.with("HUBGATE_TOKEN=" + tokenOne)
	for _, tt := range []struct {
		name string
		args []string
		code int
		err  string
	}{
		{"plain HTTP", []string{"--url", "http://192.0.2.1:9192"}, exitError,
			"hubgate: http://192.0.2.1:9192: the token would travel unencrypted, for all on the way to read: use https, or say --plain-http\n"},
		{"unknown CA", []string{"--url", secured.URL}, exitUnavailable, "pass the CA that signed it with --ca-file"},
		{"redirection", []string{"--url", moved.URL}, exitError, "answered 307 Temporary Redirect, as no hubgate does"},
		{"no hubgate", []string{"--url", "http://127.0.0.1:1"}, exitUnavailable, "hubgate: http://127.0.0.1:1 did not answer: connection refused\n"},
		{"password in the address", []string{"--url", "http://me:secret@127.0.0.1:1"}, exitError, "http://me:xxxxx@127.0.0.1:1"},
		{"no address", []string{"--url", "hubgate:9192"}, exitError, `"hubgate:9192" is no address of a hubgate: write https://HOST:9192`},
		{"both", []string{"--url", secured.URL, "--config", "x"}, exitUsage, "leave one of the two out"},
		{"for the socket", []string{"--config", "x", "--token-file", "y"}, exitUsage, "for a hubgate elsewhere"},
		{"no such context", []string{"--context", "x"}, exitError, "hubgate: there is no context \"x\": see `hubgate context list`\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := q.hubgate(append([]string{"hub", "list"}, tt.args...)...)
			if got.code != tt.code || !strings.Contains(got.err, tt.err) || strings.Contains(got.err, "11111111") || strings.Contains(got.err, "secret") {
				t.Errorf("%+v", got)
			}
		})
	}
	if got := secured.asked(); got != "" {
		t.Errorf("the token was sent: %q", got)
	}
	q.hubgate("hub", "list", "--url", secured.URL, "--ca-file", ca).ok(t)
	if got := secured.asked(); got != "Bearer "+tokenOne {
		t.Errorf("sent %q", got)
	}
	if got := p.with("HUBGATE_TOKEN=hunter2", "HUBGATE_URL="+secured.URL).hubgate("hub", "list"); got.code != exitError || strings.Contains(got.err, "hunter2") {
		t.Errorf("%+v", got)
	}
}

func TestContexts(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	golden(t, "context-list-empty.txt", p.hubgate("context", "list").ok(t))
	p.hubgate("context", "add", "prod", "--url", "https://hubgate.example.com:9192").ok(t)
	if got := p.hubgateIn("no token\n", "context", "add", "lab", "--url", "http://127.0.0.1:9192", "--token-stdin"); got.code != exitError || strings.Contains(got.err, "no token\n") {
		t.Errorf("%+v", got)
	}
	p.hubgateIn(tokenOne, "context", "add", "lab", "--url", "http://127.0.0.1:9192", "--token-stdin", "--use").ok(t)
	info, err := os.Stat(p.configFile())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	golden(t, "context-list.txt", p.hubgate("context", "list").ok(t))
	golden(t, "context-list.yaml", p.hubgate("context", "list", "-o", "yaml").ok(t))
	var list struct{ Contexts []shownContext }
	out := p.hubgate("context", "list", "-o", "json").ok(t)
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Contexts) != 2 || strings.Contains(out, tokenOne) {
		t.Errorf("%s (%v)", out, err)
	}
	if out := p.hubgate("__complete", "context", "use", "").ok2(t); !strings.HasPrefix(out, "prod\nlab\n") {
		t.Errorf("completed %s", out)
	}
	p.hubgate("context", "use", "prod").ok(t)
	p.hubgate("context", "use", "bogus").fails(t, exitError, "hubgate: there is no context \"bogus\": see `hubgate context list`\n")
	p.hubgate("context", "use", "--none").ok(t)
	p.hubgate("context", "remove", "prod").ok(t)
	p.hubgate("context", "remove", "prod").fails(t, exitError, "hubgate: there is no context \"prod\": see `hubgate context list`\n")
	if err := os.WriteFile(p.configFile(), []byte("contexts: [{token: "+tokenOne+", nonsense: 1}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := p.hubgate("context", "list"); got.code != exitError || strings.Contains(got.err, "1111") {
		t.Errorf("%+v", got)
	}
}
