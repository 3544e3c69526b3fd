package admin

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/guard"
)

// TestTokensByAPI makes, uses, rotates and revokes a token over the network.
func TestTokensByAPI(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, guard.Config{})
	boss := "X-Auth-Token: " + n.token("boss", access.Admin, uuid.Nil)
	project := uuid.NewString()
	change := func(method, path, body string, status int) (made Token) {
		t.Helper()
		response, text := n.ask(method, path, body, boss)
		if response.status != status {
			t.Fatalf("%s %s: %d %s", method, path, response.status, text)
		}
		if text != "" && status < 300 {
			if err := json.Unmarshal([]byte(text), &made); err != nil {
				t.Fatal(err)
			}
		}
		return made
	}
	is := func(secret string, status int, want string) {
		t.Helper()
		if response, text := n.ask("GET", "/v1/whoami", "", "Authorization: Bearer "+secret); response.status != status || !strings.Contains(text, want) {
			t.Errorf("%d %s", response.status, text)
		}
	}
	made := change("POST", "/v1/tokens", `{"name":"shop","role":"viewer","project_id":"`+project+`"}`, 201)
	if id, err := uuid.Parse(made.Secret); err != nil || id.Version() != 4 || made.ProjectID != project {
		t.Errorf("made %+v", made)
	}
	is(made.Secret, 200, `"name":"shop","role":"viewer","project_id":"`+project+`"`)
	change("POST", "/v1/tokens", `{"name":"shop","role":"admin"}`, 409)
	if _, text := n.ask("GET", "/v1/tokens", "", boss); strings.Contains(text, "secret") || !strings.Contains(text, made.ID) {
		t.Errorf("the list: %s", text)
	}
	rotated := change("POST", "/v1/tokens/"+made.ID+"/rotate", "", 200)
	if rotated.Secret == made.Secret || rotated.RotatedAt == nil || rotated.Role != "viewer" {
		t.Errorf("rotated %+v", rotated)
	}
	is(made.Secret, 401, "unauthorized")
	is(rotated.Secret, 200, "shop")
	change("DELETE", "/v1/tokens/"+made.ID, "", 204)
	is(rotated.Secret, 401, "unauthorized")
	change("DELETE", "/v1/tokens/"+made.ID, "", 404)
	change("POST", "/v1/tokens/"+made.ID+"/rotate", "", 404)
	change("DELETE", "/v1/tokens/boss", "", 400)
}
