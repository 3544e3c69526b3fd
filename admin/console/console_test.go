package console

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// TestFiles: the page and every file it names are there, of the right type,
// with the headers that guard them, and are not sent twice.
func TestFiles(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(Handler())
	defer server.Close()
	seen := map[string]bool{}
	for queue := []string{"/"}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if seen[at] {
			continue
		}
		seen[at] = true
		response, text := get(t, http.MethodGet, server.URL+at, http.Header{}) //nolint:bodyclose // get reads and closes it
		h := response.Header
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", at, response.Status)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s: %q, want %q", at, name, h.Get(name), want)
			}
		}
		if kind := h.Get("Content-Type"); !strings.HasPrefix(kind, "text/") && kind != "image/svg+xml" {
			t.Errorf("%s: type %q", at, kind)
		}
		again, rest := get(t, http.MethodGet, server.URL+at, http.Header{"If-None-Match": {h.Get("ETag")}}) //nolint:bodyclose // get reads and closes it
		if again.StatusCode != http.StatusNotModified || rest != "" {
			t.Errorf("%s, known already: %s, %d bytes", at, again.Status, len(rest))
		}
		head, none := get(t, http.MethodHead, server.URL+at, http.Header{}) //nolint:bodyclose // it is closed
		if head.StatusCode != http.StatusOK || none != "" || head.Header.Get("ETag") != h.Get("ETag") {
			t.Errorf("HEAD %s: %s", at, head.Status)
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="(console/[^"]+)"|from "\./([^"]+)"`).FindAllStringSubmatch(text, -1) {
			queue = append(queue, "/"+m[1])
			if m[2] != "" {
				queue[len(queue)-1] = "/console/" + m[2]
			}
		}
	}
	entries, err := files.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if at := "/console/" + e.Name(); !seen[at] && e.Name() != "index.html" {
			t.Errorf("nothing refers to %s", at)
		}
	}
}

func TestOthersAreNotServed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(Handler())
	defer server.Close()
	for _, at := range []string{"/console", "/console/", "/console/index.html", "/index.html", "/static/main.js", "/console/nothing.js", "/v1/hubs"} {
		if response, _ := get(t, http.MethodGet, server.URL+at, http.Header{}); response.StatusCode != http.StatusNotFound { //nolint:bodyclose // it is closed
			t.Errorf("GET %s: %s", at, response.Status)
		}
	}
	response, _ := get(t, http.MethodPost, server.URL+"/", http.Header{}) //nolint:bodyclose // it is closed
	if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: %s, %q", response.Status, response.Header.Get("Allow"))
	}
}

// TestNoHTMLFromStrings: the page has no way to make HTML of what devices say,
// nor to speak to anybody but its server.
func TestNoHTMLFromStrings(t *testing.T) {
	t.Parallel()
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\(|new Function|localStorage|document\.cookie|https?://|style=|<script>`)
	entries, err := files.ReadDir("static")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := files.ReadFile(path.Join("static", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if found := forbidden.FindString(line); found != "" && !strings.Contains(line, `xmlns="http://www.w3.org/2000/svg"`) {
				t.Errorf("%s:%d: %s", e.Name(), i+1, found)
			}
		}
	}
}
