package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// importClaims puts names on a hub's list and returns the answer's lines.
func (r *rig) importClaims(hub, kind, body string) (int, []string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+"/v1/hubs/"+hub+"/claims", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Content-Type", kind)
	status, text := r.send(request, body)
	return status, strings.Split(strings.TrimSpace(text), "\n")
}

func TestClaimList(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.ownHub()
	claims := func() (list Claims) {
		t.Helper()
		r.get("/v1/hubs/own/claims?limit=1000", &list)
		return list
	}
	if list := claims(); list.Total != 0 || len(list.Claims) != 0 {
		t.Errorf("a new hub has %+v", list)
	}
	// Bad lines are told by number, and keep no other.
	status, lines := r.importClaims("own", "application/x-ndjson",
		`{"name":"SN-1"}`+"\n\n"+`{"nmae":"SN-2"}`+"\n"+`{"name":"a/b"}`+"\n"+`{"name":"SN-1"}`+"\n"+`{"name":"SN-2"}`)
	want := []string{`"line":3,"error":"invalid"`, `"line":4,"error":"invalid"`, `"through":6,"counts":{"created":2,"updated":0,"unchanged":1,"refused":2`, `"done":true`}
	if status != 200 || len(lines) != len(want) {
		t.Fatalf("%d %q", status, lines)
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d is %s, want %s", i, line, want[i])
		}
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "SN-%d\r\n", i)
	}
	if status, lines := r.importClaims("own", "text/plain; charset=utf-8", many.String()); status != 200 || !strings.Contains(lines[len(lines)-1], `"created":998,"updated":0,"unchanged":2,"refused":0`) {
		t.Errorf("%d %q", status, lines)
	}
	if list := claims(); list.Total != 1000 {
		t.Errorf("%d claims", list.Total)
	}
	if status, text := r.do("POST", "/v1/hubs/own/claims/remove", `{"names":["SN-1","SN-1","nobody"]}`); status != 200 || !strings.Contains(text, `"removed":1`) {
		t.Error(status, text)
	}
	for body, code := range map[string]string{`{"names":[]}`: "invalid", `{}`: "invalid", `{"names":[` + strings.Repeat(`"x",`, 1000) + `"x"]}`: "invalid"} {
		if status, text := r.do("POST", "/v1/hubs/own/claims/remove", body); status != 400 || codeOf(text) != code {
			t.Error(status, text)
		}
	}
	if status, text := r.do("DELETE", "/v1/hubs/own/claims", ""); status != 204 {
		t.Error(status, text)
	}
	if list := claims(); list.Total != 0 || len(list.Claims) != 0 {
		t.Errorf("a list that was cleared has %+v", list)
	}
	if status, _ := r.importClaims("own", "application/json", `{"name":"SN-1"}`); status != 415 {
		t.Errorf("JSON: %d", status)
	}
	if status, _ := r.importClaims("nowhere", "text/plain", "SN-1"); status != 404 {
		t.Errorf("no hub: %d", status)
	}
	if status, text := r.do("GET", "/v1/hubs/own/claims?cursor=x", ""); status != 400 {
		t.Error(status, text)
	}
}
