package events_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/events"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/storetest"
)

// TestWebhook holds what a receiver gets to the documentation: the CloudEvent,
// the signatures, over TLS that only our certificate gets through.
func TestWebhook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := must(pki.NewRoot("Operator"))(t)
	serverID := must(ca.Server("127.0.0.1"))(t)
	clientID := must(ca.Leaf("hubgate"))(t)
	cert, key, err := clientID.WriteFiles(dir, "client")
	if err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t)
	r.TLS = serverTLS(ca, serverID)
	r.StartTLS()
	store := openBolt(t, boltstore.Config{})
	const key1, key2 = "0123456789abcdef0123456789abcdef", "another secret of the old days"
	secrets := "whsec_" + base64.StdEncoding.EncodeToString([]byte(key1)) + "\n" + key2 + "\n"
	sink := r.sink(t, "billing", func(c *events.WebhookConfig) {
		c.TLS = events.TLS{CAFile: write(t, "ca.pem", string(pki.EncodeCertificates(ca.Certificate))), CertFile: cert, KeyFile: key}
		c.SecretFile = write(t, "secrets", secrets)
		c.TokenFile = write(t, "token", "s3cr3t\n")
	})
	relay(t, store, nil, sink)
	s := newSource(t, store)
	s.make(3)
	r.has(s)
	want := r.of(s.hub.ID)[0]

	request, body := r.requests[0], r.bodies[0]
	for header, value := range map[string]string{
		"Content-Type": "application/cloudevents+json", "Authorization": "Bearer s3cr3t", "Webhook-Id": want.ID,
	} {
		if got := request.Header.Get(header); got != value {
			t.Errorf("header %s is %q, want %q", header, got, value)
		}
	}
	var c map[string]any
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatal(err)
	}
	for attribute, value := range map[string]string{
		"specversion": "1.0", "id": want.ID, "source": "/hubs/" + want.Hub.String(), "type": "hubgate.hub." + want.Reason,
		"subject": want.ObjectID, "datacontenttype": "application/json",
	} {
		if c[attribute] != value {
			t.Errorf("%s is %v, want %s", attribute, c[attribute], value)
		}
	}
	// As a receiver would do it, from the documentation.
	at := request.Header.Get("Webhook-Timestamp")
	if seconds, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Hour {
		t.Errorf("timestamp %q", at)
	}
	var signatures []string
	for _, key := range []string{key1, key2} {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(want.ID + "." + at + "." + string(body)))
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if got := request.Header.Get("Webhook-Signature"); got != strings.Join(signatures, " ") {
		t.Errorf("signature %q, want %q", got, signatures)
	}
}

// TestWebhookThroughAProxy: the receiver's CA and name, and our certificate, count
// behind a proxy, too, and files are read at every connection.
func TestWebhookThroughAProxy(t *testing.T) {
	t.Parallel()
	ca, other := must(pki.NewRoot("Operator"))(t), must(pki.NewRoot("Another"))(t)
	cert, key, err := must(ca.Leaf("hubgate"))(t).WriteFiles(t.TempDir(), "client")
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "ca.pem", string(pki.EncodeCertificates(other.Certificate)))
	var tunnels atomic.Int32
	proxy := http.ProxyURL(startProxy(t, &tunnels))
	to := func(name string) events.Sink {
		r := newReceiver(t)
		r.TLS = serverTLS(ca, must(ca.Server(name))(t)) // wants our certificate
		r.StartTLS()
		return r.sink(t, "billing", func(c *events.WebhookConfig) {
			c.TLS, c.Proxy = events.TLS{CAFile: file, CertFile: cert, KeyFile: key}, proxy
		})
	}
	mine, stranger := to("127.0.0.1"), to("127.0.0.2")
	deliver := func(sink events.Sink) error {
		_, err := sink.Deliver(t.Context(), []provision.Event{storetest.HubEvent(storetest.NewHub(), "1")})
		return err
	}
	if err := deliver(mine); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("by another CA: %v", err)
	}
	if err := os.WriteFile(file, pki.EncodeCertificates(ca.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := deliver(mine); err != nil {
		t.Error(err)
	}
	if err := deliver(stranger); err == nil || !strings.Contains(err.Error(), "valid for 127.0.0.2") {
		t.Errorf("by another name: %v", err)
	}
	if n := tunnels.Load(); n != 3 {
		t.Errorf("%d connections went through the proxy, want 3", n)
	}
}

// startProxy starts an HTTP proxy that counts the tunnels it makes.
func startProxy(t *testing.T, tunnels *atomic.Int32) *url.URL {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		far, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer func() { _ = far.Close() }()
		near, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = near.Close() }()
		tunnels.Add(1)
		if _, err := io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(far, buffered)
			_ = far.Close()
		}()
		_, _ = io.Copy(near, far)
	}))
	t.Cleanup(server.Close)
	return must(url.Parse(server.URL))(t)
}

// TestDeadLetter: an event that the receiver will not take is given up after so
// many tries, loudly, and the next ones arrive.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	r := newReceiver(t)
	r.set(func(w http.ResponseWriter, _ *http.Request, e provision.Event) bool {
		if e.Reason != "poison" {
			return false
		}
		tries.Add(1)
		w.WriteHeader(http.StatusUnprocessableEntity)
		return true
	})
	store := openBolt(t, boltstore.Config{})
	running := relay(t, store, func(c *events.Config) { c.Refusals = 3 }, r.sink(t, "a"))
	s := newSource(t, store)
	s.make(2)
	s.make(1, func(e *provision.Event) { e.Reason = "poison" })
	s.make(2)
	eventually(t, "the others", func() bool { return len(r.of(s.hub.ID)) == 4 })
	equal(t, "received", messagesOf(r.of(s.hub.ID)), []string{"1", "2", "4", "5"})
	if n := tries.Load(); n != 3 {
		t.Errorf("tried %d times, want 3", n)
	}
	if n := running.metric("hubgate_events_dead_letters_total", "webhook:a"); n != 1 {
		t.Errorf("%v dead letters", n)
	}
	if log := running.log.String(); !strings.Contains(log, "an event was given up") || !strings.Contains(log, `\"reason\":\"poison\"`) {
		t.Errorf("the log does not hold the event:\n%s", log)
	}
}

// TestRejected: what is wrong with us or the address costs no event.
func TestRejected(t *testing.T) {
	t.Parallel()
	statuses := []int{401, 403, 404, 410, 500, 503, 429, 302}
	failed := map[string]bool{}
	r := newReceiver(t)
	r.set(func(w http.ResponseWriter, _ *http.Request, e provision.Event) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if failed[e.ID] {
			return false
		}
		failed[e.ID] = true
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(statuses[len(failed)-1])
		return true
	})
	store := openBolt(t, boltstore.Config{})
	running := relay(t, store, func(c *events.Config) { c.Refusals = 1 }, r.sink(t, "a"))
	s := newSource(t, store)
	s.make(len(statuses))
	r.has(s)
	if n := running.metric("hubgate_events_dead_letters_total", "webhook:a"); n != 0 {
		t.Errorf("%v dead letters", n)
	}
	if n := running.metric("hubgate_events_delivery_failures_total", "webhook:a"); int(n) != len(statuses) {
		t.Errorf("%v failures, want %d", n, len(statuses))
	}
	eventually(t, "the log to say that it is over", func() bool { return strings.Contains(running.log.String(), "takes events again") })
}

// TestRetryAfter: a receiver that says when to come back is not asked before.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const after = 2
	var first, second atomic.Int64
	r := newReceiver(t)
	r.set(func(w http.ResponseWriter, _ *http.Request, _ provision.Event) bool {
		if first.CompareAndSwap(0, time.Now().UnixNano()) {
			w.Header().Set("Retry-After", strconv.Itoa(after))
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		second.CompareAndSwap(0, time.Now().UnixNano())
		return false
	})
	store := openBolt(t, boltstore.Config{})
	relay(t, store, nil, r.sink(t, "a"))
	s := newSource(t, store)
	s.make(1)
	r.has(s)
	if took := time.Duration(second.Load() - first.Load()); took < after*time.Second {
		t.Errorf("it came back after %s, want %d s", took, after)
	}
}

// TestBadSinks delays nobody: while some receivers are down, slow or broken, the
// others have everything at once, in all hubs; once they are well, they have it
// too, in order.
func TestBadSinks(t *testing.T) {
	t.Parallel()
	outage := 3 * time.Second
	if soak {
		outage = time.Minute
	}
	store := openBolt(t, boltstore.Config{})
	good, down, slow, broken := newReceiver(t), newReceiver(t), newReceiver(t), newReceiver(t)
	down.Start()
	address := down.Listener.Addr().String()
	sinks := []events.Sink{good.sink(t, "good"), down.sink(t, "down"), slow.sink(t, "slow", func(c *events.WebhookConfig) {
		c.Timeout = 5 * time.Second
	}), broken.sink(t, "broken")}
	down.Close() // refuses connections
	well := make(chan struct{})
	slow.set(func(_ http.ResponseWriter, r *http.Request, _ provision.Event) bool {
		select {
		case <-well:
			return false
		case <-r.Context().Done(): // hangs until we hang up
			return true
		}
	})
	broken.set(func(w http.ResponseWriter, _ *http.Request, _ provision.Event) bool {
		select {
		case <-well:
			return false
		default:
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
	})
	running := relay(t, store, func(c *events.Config) { c.Lease = 2 * time.Second }, sinks...)
	var sources []*source
	for range 4 {
		sources = append(sources, newSource(t, store))
	}
	worst := time.Duration(0)
	for end := time.Now().Add(outage); time.Now().Before(end); {
		began := time.Now()
		for _, s := range sources {
			s.make(1)
		}
		for _, s := range sources {
			good.has(s)
		}
		worst = max(worst, time.Since(began))
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("%d events; the longest that the good sink waited for four of them: %s", 4*sources[0].made, worst)
	for _, name := range []string{"down", "slow", "broken"} {
		if n := running.metric("hubgate_events_backlog", "webhook:"+name); int(n) != 4*sources[0].made {
			t.Errorf("backlog of %s is %v, want %d", name, n, 4*sources[0].made)
		}
		if age := running.metric("hubgate_events_oldest_age_seconds", "webhook:"+name); age < outage.Seconds()/2 {
			t.Errorf("the oldest event of %s is %v s old", name, age)
		}
	}
	close(well)
	again := newReceiver(t)
	again.Listener = listenAgain(t, address)
	again.Start()
	for name, r := range map[string]*receiver{"down": again, "slow": slow, "broken": broken} {
		for _, s := range sources {
			r.has(s)
		}
		eventually(t, "no backlog", func() bool { return running.metric("hubgate_events_backlog", "webhook:"+name) == 0 })
	}
}

// TestPing: a trial delivers an event that says so, or tells what is wrong.
func TestPing(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	sink := r.sink(t, "a")
	if err := events.Check(t.Context(), sink, time.Now()); err != nil {
		t.Error(err)
	}
	if e := r.of(provision.HubID{}); len(e) != 1 || e[0].Reason != "ping" {
		t.Errorf("received %+v", e)
	}
	for status, want := range map[int]string{401: "401 Unauthorized", 422: "422 Unprocessable Entity", 503: "503 Service Unavailable"} {
		r.set(func(w http.ResponseWriter, _ *http.Request, _ provision.Event) bool {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(status)
			return true
		})
		err := events.Check(t.Context(), sink, time.Now())
		if err == nil || err.Error() != fmt.Sprintf("%s answered %s", r.Listener.Addr(), want) {
			t.Errorf("status %d gives %v", status, err)
		}
	}
}
