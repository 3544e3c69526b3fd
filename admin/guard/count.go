package guard

import (
	"net/http"
	"slices"
	"strconv"
)

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// Count counts the requests of a listener.
func (g *Guard) Count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorded := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			method := r.Method
			if !slices.Contains(methods, method) {
				method = "other"
			}
			g.requests.WithLabelValues(method, strconv.Itoa(recorded.status)).Inc()
		}()
		next.ServeHTTP(recorded, r)
	})
}

// recorder remembers the status of a response.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
