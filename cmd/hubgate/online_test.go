package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestCheckOnline tries each sink and the store, and says which failed.
func TestCheckOnline(t *testing.T) {
	t.Parallel()
	var pings atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hook" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		pings.Add(1)
	}))
	t.Cleanup(hook.Close)
	s := newSite(t)
	sinks := "events:\n  log: {}\n  webhook:\n    - {name: good, url: " + hook.URL + "/hook}\n"
	writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub+sinks))
	out := hubgate(t, "config", "check", "--online", s.config).ok(t)
	if !strings.Contains(out, "does not exist yet") || !strings.Contains(out, "webhook:good  took an event (reason ping)") || pings.Load() != 1 {
		t.Errorf("printed\n%s", out)
	}
	// Without the flag nothing is sent.
	hubgate(t, "config", "check", s.config).ok(t)
	if n := pings.Load(); n != 1 {
		t.Errorf("%d pings", n)
	}
	sinks += "    - {name: bad, url: " + hook.URL + "/nowhere}\n  mqtt: [{name: gone, url: \"mqtt://127.0.0.1:1\"}]\n"
	writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub+sinks))
	s.serve() // the store is in use then, which is no failure
	result := hubgate(t, "config", "check", "--online", s.config)
	if result.code != exitError || !strings.HasSuffix(result.err, "2 trials failed of 4\n") {
		t.Errorf("exit code %d, %q", result.code, result.err)
	}
	for _, want := range []string{"in use by hubgate serve", "mqtt:gone", "connection refused", "webhook:bad", "401 Unauthorized"} {
		if !strings.Contains(result.out, want) {
			t.Errorf("it does not say %q:\n%s", want, result.out)
		}
	}
}
