// Package console is hubgate's web page: what an administrator does with the
// native API, by hand. It is static (HTML, CSS and JavaScript modules as they
// are in static/, embedded; nothing is built) and talks to /v1/ of the server it
// came from with the token that its user pastes, so that it can do nothing that
// the token could not.
//
// What devices and vendors choose (names, descriptions, certificate subjects)
// is shown as text only. The headers below hold the page to that: no script but
// its own files, and no HTML from strings at all (Trusted Types).
package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// files are those of static/.
//
//go:embed static
var files embed.FS

// policy lets the page load its own files, talk to its own server, and nothing
// else (W3C Content Security Policy Level 3, Trusted Types).
const policy = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// file is one of the page's files, ready to be sent.
type file struct {
	content, contentType, etag string
}

// Handler serves the page at / and its files under /console/; every other path
// is not found. It needs no authentication: the files are the same for all, and
// hold no data.
func Handler() http.Handler {
	served := make(map[string]file)
	// The files are compiled in and types are known by the names in static/:
	// what could fail here fails in the first test.
	entries, _ := fs.ReadDir(files, "static")
	for _, e := range entries {
		content, _ := fs.ReadFile(files, path.Join("static", e.Name()))
		sum := sha256.Sum256(content)
		f := file{string(content), contentType(e.Name()), `"` + hex.EncodeToString(sum[:8]) + `"`}
		if e.Name() == "index.html" {
			served["/"] = f
		} else {
			served["/console/"+e.Name()] = f
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET here", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// Asked for each time, sent when changed: an upgrade shows at once, and
		// no page runs with another version's script.
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.etag)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(f.content))
	})
}

// contentType does not depend on what this machine knows of types.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return "application/octet-stream"
}
