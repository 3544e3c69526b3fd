package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Exit codes. Scripts rely on them.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitRefused     = 3 // explain: the connection would be refused
	exitNotFound    = 4
	exitDenied      = 5
	exitConflict    = 6
	exitUnavailable = 7
	exitPartly      = 8 // import: some lines were refused
)

// exitCodes is what --help says of them.
const exitCodes = `Exit codes: 0 done, 1 it failed, 2 the command line is wrong, 3 explain: refused,
4 not found, 5 denied, 6 conflict, 7 hubgate or its store does not answer,
8 import: some lines were refused.`

var (
	// errRefused ends explain when the answer is no.
	errRefused = errors.New("refused")
	// errPartly ends an import that refused lines.
	errPartly = errors.New("some lines were refused")
)

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// unreachableError is a hubgate that does not answer.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }

func (e *unreachableError) Unwrap() error { return e.err }

// apiError is what the API refused.
type apiError struct {
	status  int
	Code    string `json:"error"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return e.Message }

// exits is the one table from the API's answers to exit codes. Others are
// exitError.
var exits = map[int]int{
	http.StatusUnauthorized:       exitDenied,
	http.StatusForbidden:          exitDenied,
	http.StatusNotFound:           exitNotFound,
	http.StatusConflict:           exitConflict,
	http.StatusTooManyRequests:    exitUnavailable,
	http.StatusBadGateway:         exitUnavailable,
	http.StatusServiceUnavailable: exitUnavailable,
	http.StatusGatewayTimeout:     exitUnavailable,
}

// hints say what to do about what the API refused, by its code.
var hints = map[string]string{
	"unauthorized":                   "a token is needed: pass --token-file, set HUBGATE_TOKEN, or give the context one (`hubgate context add`)",
	"denied":                         "use a token of a greater role, or run the command where hubgate serves, on its socket",
	"no_anchor":                      "install a trust anchor first: `hubgate anchor add HUB CA.pem --challenge FILE`",
	"challenge_missing":              "make one with `hubgate pki challenge`, and pass it with --challenge",
	"challenge_wrong_name":           "make a new one with `hubgate pki challenge --hub HUB`",
	"challenge_not_signed_by_anchor": "sign it with the key of that very CA: `hubgate pki challenge` does",
	"challenge_expired":              "make a new one with `hubgate pki challenge`",
	"challenge_too_long":             "make one that is valid for at most 7 days: `hubgate pki challenge` does",
	"in_use":                         "`hubgate device list HUB` shows the devices, with --anchor SHA256 those of one anchor; --end-devices removes an anchor all the same, --with-devices a hub",
}

// exitCode tells people why a command failed, and returns the code that tells
// programs.
func exitCode(stderr io.Writer, command string, err error) int {
	var (
		wrong   *usageError
		refused *apiError
		away    *unreachableError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errRefused):
		return exitRefused // it has been explained
	case errors.Is(err, errPartly):
		return exitPartly // as above
	case errors.As(err, &wrong):
		_ = say(stderr, "hubgate: %v\nSee `%s --help`.\n", err, command)
		return exitUsage
	}
	_ = say(stderr, "hubgate: %v\n", err)
	switch {
	case errors.As(err, &refused):
		if hint := hints[refused.Code]; hint != "" {
			_ = say(stderr, "hint: %s\n", hint)
		}
		if code, ok := exits[refused.status]; ok {
			return code
		}
	case errors.As(err, &away):
		return exitUnavailable
	}
	return exitError
}
