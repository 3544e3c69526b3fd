package iot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
)

// failure is an answer that says no, in the form that the SDK reads (its
// scw/errors.go): by the type it makes one of its error values, and what it
// has no value for becomes a ResponseError with status and message.
type failure struct {
	status int

	Type         string   `json:"type"`
	Message      string   `json:"message"`
	Resource     string   `json:"resource,omitempty"`
	ResourceID   string   `json:"resource_id,omitempty"`
	CurrentState string   `json:"current_state,omitempty"`
	Precondition string   `json:"precondition,omitempty"`
	HelpMessage  string   `json:"help_message,omitempty"`
	Method       string   `json:"method,omitempty"`
	Reason       string   `json:"reason,omitempty"`
	Details      []detail `json:"details,omitempty"`
}

// detail belongs to invalid_arguments (the first three) or permissions_denied.
type detail struct {
	Argument string `json:"argument_name,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Help     string `json:"help_message,omitempty"`
	Resource string `json:"resource,omitempty"`
	Action   string `json:"action,omitempty"`
}

func (f *failure) Error() string { return f.Message }

// reason is why an argument is invalid.
type reason string

const (
	required   reason = "required"
	format     reason = "format"
	constraint reason = "constraint"
)

// invalid says what is wrong with an argument, and what to write.
func invalid(argument string, why reason, help string, args ...any) *failure {
	help = fmt.Sprintf(help, args...)
	return &failure{
		status: http.StatusBadRequest, Type: "invalid_arguments", Message: argument + ": " + help,
		Details: []detail{{Argument: argument, Reason: string(why), Help: help}},
	}
}

func notFound(resource, id string) *failure {
	return &failure{
		status: http.StatusNotFound, Type: "not_found", Message: fmt.Sprintf("there is no %s %q", resource, id),
		Resource: resource, ResourceID: id,
	}
}

// conflict is for what the SDK has no error of its own for.
func conflict(resource, text string) *failure {
	return &failure{status: http.StatusConflict, Type: "conflict", Message: text, Resource: resource}
}

// The preconditions that the SDK knows.
const (
	stillInUse = "resource_still_in_use"
	mustBeSet  = "attribute_must_be_set"
)

func precondition(which, help string) *failure {
	return &failure{
		status: http.StatusPreconditionFailed, Type: "precondition_failed", Message: help,
		Precondition: which, HelpMessage: help,
	}
}

func denied(resource, action, text string) *failure {
	return &failure{
		status: http.StatusForbidden, Type: "permissions_denied", Message: text,
		Details: []detail{{Resource: resource, Action: action}},
	}
}

func notImplemented(text string) *failure {
	return &failure{status: http.StatusNotImplemented, Type: "not_implemented", Message: text}
}

// send writes the failure.
func (f *failure) send(w http.ResponseWriter) { sendJSON(w, f.status, f) }

func sendJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(value) // the caller hung up
}

// fields are the names that arguments have here and not in package fleet.
var fields = map[string]string{"certificate": "ca_cert_pem", "challenge": "challenge_cert_pem"}

// failures is the one table from errors to answers. What is in none of its
// rows is our own failure. Errors without a text here show their own.
var failures = []struct {
	err    error
	status int
	kind   string
	text   string
}{
	{provision.ErrExists, http.StatusConflict, "conflict", ""},
	{provision.ErrHubChanged, http.StatusConflict, "conflict", "the hub changed meanwhile: try again"},
	{provision.ErrStoreChanged, http.StatusServiceUnavailable, "store_changed", "the store is not the one hubgate started with: nothing is changed in it; restart hubgate if that is meant"},
	{provision.ErrUnavailable, http.StatusServiceUnavailable, "store_unavailable", "the store does not answer: see hubgate's log"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "timeout", "it took too long: try again, and see hubgate's log"},
	{errInternal, http.StatusInternalServerError, "internal", "hubgate failed: see its log"},
}

var errInternal = errors.New("internal")

// fail answers with an error. Failures that are ours are logged in full; the
// caller gets a fixed sentence.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := failureOf(r, err)
	var busy *access.Busy
	switch {
	case errors.As(err, &busy):
		w.Header().Set("Retry-After", "1")
	case f.status >= http.StatusInternalServerError && f.status != http.StatusNotImplemented && r.Context().Err() == nil:
		a.log.ErrorContext(r.Context(), "administration failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	f.send(w)
}

func failureOf(r *http.Request, err error) *failure {
	var (
		own     *failure
		refusal *fleet.Refusal
		large   *http.MaxBytesError
		busy    *access.Busy
	)
	resource, id := "hub", r.PathValue("hub")
	if device := r.PathValue("device"); device != "" {
		resource, id = "device", device
	}
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &refusal):
		return refused(refusal, resource)
	case errors.As(err, &busy):
		f := &failure{status: http.StatusServiceUnavailable, Type: busy.Code, Message: busy.Error()}
		if busy.Own {
			f.status = http.StatusTooManyRequests
		}
		return f
	case errors.As(err, &large):
		return &failure{status: http.StatusRequestEntityTooLarge, Type: "too_large", Message: fmt.Sprintf("the request's body is larger than %d bytes", large.Limit)}
	case errors.Is(err, access.ErrDenied):
		return denied(resource, strings.ToLower(r.Method), err.Error())
	case errors.Is(err, provision.ErrNotFound):
		return notFound(resource, id)
	}
	for _, row := range failures {
		if errors.Is(err, row.err) {
			f := &failure{status: row.status, Type: row.kind, Message: row.text, Resource: resource}
			if f.Message == "" {
				f.Message = err.Error()
			}
			return f
		}
	}
	last := failures[len(failures)-1]
	return &failure{status: last.status, Type: last.kind, Message: last.text}
}

// refused translates what the fleet does not do.
func refused(r *fleet.Refusal, resource string) *failure {
	switch {
	case errors.Is(r, fleet.ErrInvalid):
		field := cmp.Or(r.Field, "body")
		why, help := constraint, strings.TrimPrefix(r.Message, field+": ")
		if r.Code == fleet.ChallengeMissing {
			why = required
		}
		if name, ok := fields[field]; ok {
			field = name
		}
		return invalid(field, why, "%s", help)
	case r.Code == fleet.InUse:
		return precondition(stillInUse, r.Message)
	case r.Code == fleet.NoAnchor:
		return precondition(mustBeSet, r.Message)
	}
	return conflict(resource, r.Message)
}
