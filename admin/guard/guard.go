// Package guard is what a request over the network passes before any API sees
// it: is the host one of ours (a page that rebound its DNS name to us is not),
// does no foreign page ask, is the body JSON, whose token is it, does it ask
// too often. Whoever passes is an access.Principal in the request's context.
//
// There is no CORS, and there are no cookies: a browser sends a token only from
// a page of our own.
package guard

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/admin/access"
)

// Fail writes a refusal in the form of one API.
type Fail func(w http.ResponseWriter, r *http.Request, status int, code, text string)

// Config is what a Guard is made of. Keyring is required.
type Config struct {
	Keyring *access.Keyring
	// Rate is how many requests a second a token gets in the long run; ten times
	// as many at once. 0: 100.
	Rate int
	// Failures is how many failed log-ins a minute are answered per source
	// address; further ones are refused as too many. 0: 30.
	Failures int
	// Logger hears of failed log-ins, not of each. Nil: slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
	// Recheck is how often the token of a request that lasts is looked up again.
	// 0: one second.
	Recheck time.Duration
}

// Guard lets requests through, or refuses them. It is safe for concurrent use.
type Guard struct {
	keyring  *access.Keyring
	log      *slog.Logger
	hosts    atomic.Pointer[[]string]
	tokens   *limits // by secret's owner
	failures *limits // by source
	logged   *limits // one for all: failed log-ins that are logged
	recheck  time.Duration
	requests *prometheus.CounterVec
}

// New makes a Guard.
func New(c Config) (*Guard, error) {
	if c.Keyring == nil {
		return nil, errors.New("guard: needs a keyring")
	}
	if c.Rate == 0 {
		c.Rate = 100
	}
	if c.Failures == 0 {
		c.Failures = 30
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Recheck == 0 {
		c.Recheck = time.Second
	}
	g := &Guard{
		keyring: c.Keyring, log: c.Logger, recheck: c.Recheck,
		tokens:   newLimits(float64(c.Rate), 10*c.Rate),
		failures: newLimits(float64(c.Failures)/60, c.Failures),
		logged:   newLimits(1, 5),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubgate_admin_requests_total",
			Help: "Requests to the administrators' listener, refused ones included.",
		}, []string{"method", "status"}),
	}
	g.SetHosts(nil)
	if c.Registerer != nil {
		if err := c.Registerer.Register(g.requests); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// SetHosts replaces the host names that are accepted besides IP addresses and
// localhost, at once.
func (g *Guard) SetHosts(names []string) {
	hosts := []string{"localhost"}
	for _, name := range names {
		hosts = append(hosts, strings.ToLower(strings.TrimSuffix(name, ".")))
	}
	g.hosts.Store(&hosts)
}

// Page guards what needs no token and is no secret: pages and documents.
func (g *Guard) Page(next http.Handler, fail Fail) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		if !g.rightHost(r) {
			refuseHost(w, r, fail)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// API guards what needs a token.
func (g *Guard) API(next http.Handler, fail Fail) http.Handler {
	return g.Open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.authenticated(w, r, next, fail) }), fail)
}

// Open guards like API what needs no token.
func (g *Guard) Open(next http.Handler, fail Fail) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		switch {
		case !g.rightHost(r):
			refuseHost(w, r, fail)
		case foreign(r):
			fail(w, r, http.StatusForbidden, "cross_origin", "requests of pages from elsewhere are refused")
		case r.ContentLength != 0 && !isJSON(r.Header.Get("Content-Type")):
			fail(w, r, http.StatusUnsupportedMediaType, "unsupported_media_type",
				"send the body with Content-Type: application/json")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// rightHost refuses names that are not ours. Rebinding needs a name: a page that
// was fetched from an IP address came from whoever has it.
func (g *Guard) rightHost(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return slices.Contains(*g.hosts.Load(), host)
}

func refuseHost(w http.ResponseWriter, r *http.Request, fail Fail) {
	fail(w, r, http.StatusForbidden, "host_not_allowed", "this host name is not one of hubgate's: add it to admin.hosts, or use the address")
}

// foreign tells requests that a page from elsewhere makes. The scheme is not
// compared: a proxy may have ended TLS.
func foreign(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return true
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return true
}

func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && (mediaType == "application/json" || mediaType == "application/x-ndjson")
}

// secretOf is what the request shows to be let in.
func secretOf(r *http.Request) string {
	if secret := r.Header.Get("X-Auth-Token"); secret != "" {
		return secret
	}
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

func (g *Guard) authenticated(w http.ResponseWriter, r *http.Request, next http.Handler, fail Fail) {
	secret := secretOf(r)
	p, err := g.keyring.Find(r.Context(), secret)
	switch {
	case errors.Is(err, access.ErrUnknown):
		g.failed(w, r, secret != "", fail)
		return
	case err != nil:
		g.log.ErrorContext(r.Context(), "tokens cannot be read, requests are refused", "error", err)
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusServiceUnavailable, "store_unavailable", "the store with the tokens does not answer: try again")
		return
	}
	if wait := g.tokens.take(p.Identity()); wait > 0 {
		tooMany(w, r, wait, "too many requests with this token", fail)
		return
	}
	know(r.Context())
	ctx, cancel := context.WithCancel(access.With(r.Context(), p))
	defer cancel()
	go g.watch(ctx, cancel, secret, p)
	next.ServeHTTP(w, r.WithContext(ctx))
}

// watch ends a request that lasts (a stream of events, a backup) when its token
// is no longer what it was.
func (g *Guard) watch(ctx context.Context, end context.CancelFunc, secret string, was access.Principal) {
	ticker := time.NewTicker(g.recheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if p, err := g.keyring.Find(ctx, secret); err != nil || p != was {
				end()
				return
			}
		}
	}
}

// failed answers who is not let in. A valid token is let in whatever its source
// address did wrong before: secrets cannot be guessed, and many share an
// address behind a proxy.
func (g *Guard) failed(w http.ResponseWriter, r *http.Request, had bool, fail Fail) {
	source := sourceOf(r.RemoteAddr)
	if wait := g.failures.take(source); wait > 0 {
		tooMany(w, r, wait, "too many failed log-ins from this address", fail)
		return
	}
	if had && g.logged.take("") == 0 {
		g.log.WarnContext(r.Context(), "log-in failed", "source", source, "method", r.Method, "path", r.URL.Path)
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="hubgate"`)
	text := "send a token: Authorization: Bearer SECRET, or X-Auth-Token: SECRET"
	if had {
		text = "no token has this secret: it may have been rotated or revoked"
	}
	fail(w, r, http.StatusUnauthorized, "unauthorized", text)
}
