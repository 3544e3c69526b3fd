package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/admin/access"
)

// ownHub makes the hub own with a device, so that every route has something to
// act on.
func (r *rig) ownHub() {
	r.t.Helper()
	for path, body := range map[string]string{"/v1/hubs": `{"name":"own"}`} {
		if status, text := r.do("POST", path, body); status != 201 {
			r.t.Fatal(status, text)
		}
	}
	if status, text := r.do("POST", "/v1/hubs/own/devices", `{"name":"SN-1","description":"pump"}`); status != 201 {
		r.t.Fatal(status, text)
	}
}

// fill puts what is there into a route's path.
func fill(path string) string {
	return variable.ReplaceAllString(strings.NewReplacer("{hub}", "own", "{device}", "SN-1").Replace(path), strings.Repeat("0", 64))
}

// fields are the fields of a JSON object.
func fields(t *testing.T, example any) map[string]any {
	t.Helper()
	text, err := json.Marshal(example)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestBadBodies sends every route that takes JSON what is none, and what does
// not fit each field that the document names.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.ownHub()
	before := r.state()
	var schema struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
			}
		}
	}
	if err := json.Unmarshal(document, &schema); err != nil {
		t.Fatal(err)
	}
	wrong := []string{
		``, ` `, `{`, `[]`, `null`, `"text"`, `1`, `true`, `{}{}`, `{} trailing`, `{"name":}`, `{'name':'x'}`, "\xff\xfe",
		`{"nmae":"x"}`, `{"name":"x","__proto__":1}`, strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 20_000),
	}
	tried := 0
	for _, e := range r.server.table() {
		if e.body == nil || e.bodyType != "" {
			continue
		}
		path := fill(e.path)
		refuse := func(body string) {
			tried++
			status, text := r.do(e.method, path, body)
			// A body in order that asks for what is not there, or may not be, is
			// refused, too.
			if status < 400 || status >= 500 || codeOf(text) == "" {
				t.Errorf("%s %s %.200q: %d %s", e.method, path, body, status, text)
			}
		}
		for _, body := range wrong {
			refuse(body)
		}
		name := fmt.Sprintf("%T", e.body)
		properties := schema.Components.Schemas[strings.TrimPrefix(name, "admin.")].Properties
		if len(properties) == 0 {
			t.Errorf("%s %s: the document knows no fields of %s", e.method, path, name)
		}
		for _, field := range slices.Sorted(maps.Keys(properties)) {
			for _, value := range []any{
				42, -1, 1e308, 1.5, []any{}, []any{1}, map[string]any{"x": 1}, strings.Repeat("x", 200_000), "\x00", "a\nb", " ",
			} {
				all := fields(t, e.body)
				if list, ok := value.([]any); ok && len(list) == 0 && e.id == "setCRLSources" {
					continue // which removes them
				}
				if s, ok := value.(string); ok && isText(properties[field]) && !misfit(field, s) {
					continue
				}
				all[field] = value
				text, err := json.Marshal(all)
				if err != nil {
					t.Fatal(err)
				}
				refuse(string(text))
			}
		}
	}
	if tried < 300 {
		t.Errorf("only %d bodies were tried", tried)
	}
	if after := r.state(); after != before {
		t.Errorf("changed from\n%sto\n%s", before, after)
	}
}

func isText(property any) bool {
	p, _ := property.(map[string]any)
	return p["type"] == "string"
}

// misfit tells whether a text is one that the field cannot be. What people write
// for people, and what hostile devices may send as their names, is free.
func misfit(field, text string) bool {
	switch field {
	case "sni", "authority", "hub": // of a connection to explain: anything, as a device sends it
		return false
	case "chain": // none, if nothing is in it
		return text != " " && text != "a\nb"
	case "description", "disabled_reason", "reason":
		return text != " "
	case "events_topic_prefix":
		return len(text) > 1000
	}
	return true
}

// TestBadQueries gives every route parameters that it does not know, twice, or
// with values that do not fit.
func TestBadQueries(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.ownHub()
	before := r.state()
	for _, e := range r.server.table() {
		path := fill(e.path)
		queries := []string{"unknown=1", "%zz", ";", "__proto__=1"}
		for _, p := range e.query {
			queries = append(queries, p.name+"=1&"+p.name+"=1", strings.ToUpper(p.name)+"=1")
			switch {
			case p.most > 0:
				for _, v := range []string{"-1", "0", fmt.Sprint(p.most + 1), "x", "1e3", "9999999999999999999999", "1.5", "+1x"} {
					if v != "0" || p.least > 0 {
						queries = append(queries, p.name+"="+v)
					}
				}
			case len(p.values) > 0:
				queries = append(queries, p.name+"=neither", p.name+"=%00", p.name+"="+strings.Repeat("x", 10_000))
			}
			if p.name == "cursor" {
				queries = append(queries, "cursor=!", "cursor=AAAA", "cursor="+strings.Repeat("A", 10_000))
			}
		}
		for _, query := range queries {
			if e.id == "getDocument" && query == ";" {
				continue
			}
			status, text := r.do(e.method, path+"?"+query, "")
			if status != 400 || codeOf(text) != "invalid" {
				t.Errorf("%s %s?%.100s: %d %.200s", e.method, path, query, status, text)
			}
		}
	}
	if after := r.state(); after != before {
		t.Errorf("changed from\n%sto\n%s", before, after)
	}
}

// FuzzAPI sends any body to any route as an administrator: whatever it is, it is
// answered, and no failure is hubgate's.
func FuzzAPI(f *testing.F) {
	for i, e := range (&Server{}).table() {
		if text, err := json.Marshal(e.body); err == nil && e.body != nil {
			f.Add(uint8(i), "own", "SN-1", "", string(text))
		}
		f.Add(uint8(i), "own", "SN-1", "limit=1", "{}")
	}
	r := newRig(f, nil)
	r.ownHub()
	f.Fuzz(func(t *testing.T, index uint8, hub, device, query, body string) {
		table := r.server.table()
		e := table[int(index)%len(table)]
		if e.stream != nil {
			return // it sets deadlines, which a recorder has not
		}
		request := httptest.NewRequest(e.method, "/", strings.NewReader(body)).WithContext(access.With(t.Context(), access.Local()))
		request.SetPathValue("hub", hub)
		request.SetPathValue("device", device)
		request.URL.RawQuery = query
		answer := httptest.NewRecorder()
		r.server.answer(e)(answer, request)
		if answer.Code >= 500 && answer.Code != 501 {
			t.Errorf("%s %s %q %q ?%q %q: %d %s", e.method, e.path, hub, device, query, body, answer.Code, answer.Body)
		}
	})
}
