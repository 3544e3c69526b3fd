package admin

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hubgate/hubgate/admin/access"
)

// route is one method on one path. The table of them (Server.table) is all
// there is to say about the API: it makes the mux, the check of roles and query
// parameters, and the OpenAPI document (openapi.json).
type route struct {
	method, path string
	// id is the operation's in the OpenAPI document, summary one line there.
	id, summary string
	// role is what the caller needs at least, 0: nothing, not even a token.
	// everywhere refuses principals of one project.
	role       access.Role
	everywhere bool
	query      []parameter
	// body and answer are examples; their types are the schemas. Without a
	// body, nil; without an answer, nil and 204.
	body, answer any
	// largest bounds the body, in bytes; 0: maxBody.
	largest int64
	// status is that of success, 0: 200, or 204 without an answer.
	status int
	// Exactly one of serve and stream answers. A stream writes the response
	// itself and bounds itself in size and time.
	serve  endpoint
	stream http.HandlerFunc
	// bodyType and answerType are media types other than application/json.
	bodyType, answerType string
}

// endpoint answers one request: a value to send as JSON, nil for none, or an
// error for the table of failures.
type endpoint func(r *http.Request) (any, error)

// parameter is one of a query.
type parameter struct {
	name, text string
	// What it may be: one of values; a whole number from least to most, if most
	// is set; a text otherwise.
	values      []string
	least, most int
}

var (
	cursorParameter = parameter{name: "cursor", text: "Where the page begins: the answer before said it as next."}
	limitParameter  = parameter{name: "limit", text: "The most entries of a page; 100 if it is not given.", least: 1, most: maxPage}
	trueOrFalse     = []string{"true", "false"}
)

// check says what is wrong with a value.
func (p parameter) check(value string) error {
	switch {
	case p.most > 0:
		if n, err := strconv.Atoi(value); err != nil || n < p.least || n > p.most {
			return invalid("%s: %q is no number from %d to %d", p.name, value, p.least, p.most)
		}
	case len(p.values) == 2:
		if !slices.Contains(p.values, value) {
			return invalid("%s: %q is neither %s nor %s", p.name, value, p.values[0], p.values[1])
		}
	case len(p.values) > 0:
		if !slices.Contains(p.values, value) {
			return invalid("%s: %q is none of %s", p.name, value, strings.Join(p.values, ", "))
		}
	}
	return nil
}

// check refuses who may not ask this, and a query that does not belong here.
func (e route) check(r *http.Request) error {
	if e.role != 0 {
		p, _ := access.From(r.Context())
		need := p.Need
		if e.everywhere {
			need = p.NeedEverywhere
		}
		if err := need(e.role); err != nil {
			return err
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("the query cannot be read: %v", err)
	}
	for name, values := range query {
		i := slices.IndexFunc(e.query, func(p parameter) bool { return p.name == name })
		if i < 0 {
			return invalid("unknown parameter %q%s", name, e.known())
		}
		if len(values) > 1 {
			return invalid("parameter %s is given twice", name)
		}
		// An empty value is as good as none.
		if values[0] != "" {
			if err := e.query[i].check(values[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e route) known() string {
	if len(e.query) == 0 {
		return ": there is none here"
	}
	names := make([]string, len(e.query))
	for i, p := range e.query {
		names[i] = p.name
	}
	return ": known are " + strings.Join(names, ", ")
}

// success is the status of an answer without an error.
func (e route) success() int {
	switch {
	case e.status != 0:
		return e.status
	case e.answer == nil && e.answerType == "":
		return http.StatusNoContent
	}
	return http.StatusOK
}

// answer checks the request, bounds it in size and time, and sends what the
// endpoint says.
func (s *Server) answer(e route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := e.check(r); err != nil {
			s.fail(w, r, err)
			return
		}
		if e.stream != nil {
			e.stream(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(e.largest, maxBody))
		value, err := e.serve(r.WithContext(ctx))
		switch {
		case err != nil:
			s.fail(w, r, err)
		case value == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			sendJSON(w, e.success(), value)
		}
	}
}
