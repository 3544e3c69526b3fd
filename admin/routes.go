package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
)

// table is every route of the API, in the order of the OpenAPI document.
func (s *Server) table() []route {
	return slices.Concat(
		s.metaRoutes(),
		s.hubRoutes(),
		s.trustRoutes(),
		s.revocationRoutes(),
		s.deviceRoutes(),
		s.transferRoutes(),
		s.claimRoutes(),
		s.sessionRoutes(),
		s.explainRoutes(),
		s.eventRoutes(),
		s.tokenRoutes(),
		s.backupRoutes(),
	)
}

func (s *Server) mux() http.Handler {
	mux := http.NewServeMux()
	allowed := make(map[string][]string) // methods by path
	for _, e := range s.table() {
		mux.HandleFunc(e.method+" "+e.path, s.answer(e))
		allowed[e.path] = append(allowed[e.path], e.method)
	}
	for path, methods := range allowed {
		if _, ok := allowed[path[:strings.LastIndex(path, "/")]+"/{device}"]; ok && !strings.HasSuffix(path, "}") {
			continue // other methods here are those of a device of that name
		}
		allow := strings.Join(methods, ", ")
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			s.fail(w, r, &requestError{http.StatusMethodNotAllowed, "method_not_allowed", "use " + allow + " here"})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, &requestError{http.StatusNotFound, "not_found", "there is no " + r.URL.Path})
	})
	return mux
}

// requestError is a failure that is the caller's, or nobody's; its text is made
// for the caller.
type requestError struct {
	status int
	code   string
	text   string
}

func (e *requestError) Error() string { return e.text }

func invalid(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, "invalid", fmt.Sprintf(format, args...)}
}

// failures is the one table from errors to answers. What is in none of its
// rows is our own failure. Errors with a text show their own.
var failures = []struct {
	err    error
	status int
	code   string
	text   string
}{
	{provision.ErrNotFound, http.StatusNotFound, "not_found", ""},
	{access.ErrDenied, http.StatusForbidden, "denied", ""},
	{errDraining, http.StatusServiceUnavailable, "stopping", "hubgate is stopping: try again"},
	{provision.ErrExists, http.StatusConflict, "exists", ""},
	{provision.ErrTooManyTokens, http.StatusConflict, "too_many", ""},
	{provision.ErrHubChanged, http.StatusConflict, "conflict", "the hub changed meanwhile: try again"},
	{provision.ErrStoreChanged, http.StatusServiceUnavailable, "store_changed", "the store is not the one hubgate started with: nothing is changed in it; restart hubgate if that is meant"},
	{provision.ErrUnavailable, http.StatusServiceUnavailable, "store_unavailable", "the store does not answer: see hubgate's log"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "timeout", "it took too long: try again, and see hubgate's log"},
	{errInternal, http.StatusInternalServerError, "internal", "hubgate failed: see its log"},
}

var errInternal = errors.New("internal")

// failure is the answer to an error.
func failure(err error) (status int, code, text string) {
	var own *requestError
	var refusal *fleet.Refusal
	var large *http.MaxBytesError
	var busy *access.Busy
	switch {
	case errors.As(err, &own):
		return own.status, own.code, own.text
	case errors.As(err, &busy):
		status = http.StatusServiceUnavailable
		if busy.Own {
			status = http.StatusTooManyRequests
		}
		return status, busy.Code, busy.Error()
	case errors.As(err, &refusal):
		status = http.StatusBadRequest
		if errors.Is(refusal, fleet.ErrConflict) {
			status = http.StatusConflict
		}
		return status, string(refusal.Code), refusal.Message
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the request's body is larger than %d bytes", large.Limit)
	}
	row := failures[len(failures)-1]
	for _, f := range failures {
		if errors.Is(err, f.err) {
			row = f
			break
		}
	}
	if row.text == "" {
		return row.status, row.code, err.Error()
	}
	return row.status, row.code, row.text
}

// fail answers with an error. Failures that are ours are logged in full; the
// caller gets a fixed sentence.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, code, text := failure(err)
	var own *requestError
	var busy *access.Busy
	switch {
	case errors.As(err, &busy):
		w.Header().Set("Retry-After", "1")
	case status >= http.StatusInternalServerError && !errors.As(err, &own) && r.Context().Err() == nil:
		s.log.ErrorContext(r.Context(), "administration failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	sendError(w, status, code, text)
}

// Failure is every answer that is no success.
type Failure struct {
	// Error is a code for programs.
	Error string `json:"error"`
	// Message is for people: what is wrong, and what to do.
	Message string `json:"message"`
}

func sendError(w http.ResponseWriter, status int, code, text string) {
	sendJSON(w, status, Failure{code, text})
}

func sendJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // the caller hung up, or the value is a mistake that tests find
}

// decode reads a JSON body of exactly the fields that are known.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(&into) // a null would leave what into points to alone
	if err == nil && into == nil {
		err = errors.New("it is null")
	}
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return invalid("the body is not the JSON that belongs here: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// decodeChange is decode for an edit, in which a field that is absent stays:
// null is refused where it has no meaning, and else told.
func decodeChange(r *http.Request, into any, nullable ...string) (nulls []string, err error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	if err := decode(r, into); err != nil {
		return nil, err
	}
	return findNulls("", text, nullable)
}

// findNulls tells which of an object's fields are null, and refuses those that
// may not be.
func findNulls(path string, text []byte, nullable []string) (nulls []string, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		return nil, invalid("the body is not the JSON that belongs here: it is no object")
	}
	for name, value := range fields {
		switch value[0] {
		case '{':
			if _, err := findNulls(path+name+".", value, nil); err != nil {
				return nil, err
			}
		case 'n':
			if !slices.Contains(nullable, name) {
				return nil, invalid("%s: null is no value; leave it out, and it stays as it is", path+name)
			}
			nulls = append(nulls, name)
		}
	}
	return nulls, nil
}
