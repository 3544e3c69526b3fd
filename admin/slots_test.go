package admin

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/guard"
)

// TestOneTokenCannotTakeAll: event streams, transfers and costly lists are bounded
// by token, so that others get theirs.
func TestOneTokenCannotTakeAll(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{})
	if status, text := n.do("POST", "/v1/hubs", `{"name":"own"}`); status != 201 {
		t.Fatal(status, text)
	}
	greedy, other := n.token("greedy", access.Operator, uuid.Nil), n.token("other", access.Operator, uuid.Nil)
	// begin begins a request that lasts until the test ends, and returns its status.
	begin := func(secret, method, path string, body io.Reader) (int, string) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		request, err := http.NewRequestWithContext(ctx, method, "http://"+n.address+path, body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+secret)
		if body != nil {
			request.Header.Set("Content-Type", ndjson)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return response.StatusCode, response.Header.Get("Retry-After")
	}
	for what, do := range map[string]struct {
		most int
		do   func(secret string) (int, string)
	}{
		"event streams": {16, func(secret string) (int, string) { return begin(secret, "GET", "/v1/events", nil) }},
		"imports": {2, func(secret string) (int, string) {
			body, line := io.Pipe()
			t.Cleanup(func() { _ = line.Close() })
			return begin(secret, "POST", "/v1/hubs/own/devices/import", body)
		}},
	} {
		for i := range do.most {
			if status, _ := do.do(greedy); status != 200 {
				t.Fatalf("%s: number %d: %d", what, i+1, status)
			}
		}
		if status, after := do.do(greedy); status != 429 || after == "" {
			t.Errorf("%s: one too many: %d, Retry-After %q", what, status, after)
		}
		if status, _ := do.do(other); status != 200 {
			t.Errorf("%s of another: %d", what, status)
		}
	}
	// Lists end by themselves, so slots are taken for them.
	p, err := n.keys.Find(t.Context(), greedy)
	if err != nil {
		t.Fatal(err)
	}
	var done func()
	for range 4 {
		if done, err = n.server.fleet.Costly(p); err != nil {
			t.Fatal(err)
		}
	}
	for path, status := range map[string]int{
		"/v1/hubs/own/devices?connected=true": 429, "/v1/hubs/own/devices/export": 200, "/v1/hubs/own/devices": 200,
	} {
		answer, text := n.ask("GET", path, "", "X-Auth-Token: "+greedy)
		if answer.status != status || status == 429 && (codeOf(text) != "too_many_lists" || answer.header.Get("Retry-After") == "") {
			t.Errorf("%s: %d %s", path, answer.status, text)
		}
		if answer, text := n.ask("GET", path, "", "X-Auth-Token: "+other); answer.status != 200 {
			t.Errorf("%s of another: %d %s", path, answer.status, text)
		}
	}
	done()
	for range 2 {
		if _, err := n.server.exports.Take(p); err != nil {
			t.Fatal(err)
		}
	}
	if answer, text := n.ask("GET", "/v1/hubs/own/devices/export", "", "X-Auth-Token: "+greedy); answer.status != 429 || codeOf(text) != "too_many_exports" {
		t.Errorf("one export too many: %d %s", answer.status, text)
	}
	if answer, text := n.ask("GET", "/v1/hubs/own/devices?connected=true", "", "X-Auth-Token: "+greedy); answer.status != 200 {
		t.Errorf("when one is done: %d %s", answer.status, text)
	}
}
