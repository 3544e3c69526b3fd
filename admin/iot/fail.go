package iot

import "net/http"

// Fail answers a request that never reached the API: one without a token that
// is known, one too many, one from elsewhere. It is in the form that clients of
// the API read.
func Fail(w http.ResponseWriter, _ *http.Request, status int, code, text string) {
	f := &failure{status: status, Type: code, Message: text}
	switch status {
	case http.StatusUnauthorized:
		f.Type, f.Method, f.Reason = "denied_authentication", "api_key", "not_found"
	case http.StatusForbidden:
		f.Type, f.Details = "permissions_denied", []detail{{Resource: "hubgate", Action: "use"}}
	}
	f.send(w)
}
