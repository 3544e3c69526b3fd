package admission_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admission"
	"github.com/hubgate/hubgate/events/endpoint"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

const secret = "sixteen bytes at least"

// rig is a hook and what asks it.
type rig struct {
	hooks *admission.Hooks
	url   string
	// connections that were made to the hook
	connections atomic.Int32
	config      admission.Config
}

func newRig(t *testing.T, answer http.HandlerFunc, edit ...func(*admission.Config)) *rig {
	t.Helper()
	r := &rig{}
	server := httptest.NewUnstartedServer(answer)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			r.connections.Add(1)
		}
	}
	// Not the one of httptest, whose RSA handshakes take long where many come at
	// once.
	root, err := pki.NewRoot("CA of hooks")
	if err != nil {
		t.Fatal(err)
	}
	identity, err := root.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{identity.TLS()}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	r.url = server.URL + "/admit?line=7"
	dir := t.TempDir()
	r.config = admission.Config{
		CAFile: filepath.Join(dir, "ca.pem"), SecretFile: filepath.Join(dir, "secret"),
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	ca := pki.EncodeCertificates(root.Certificate)
	for file, data := range map[string][]byte{r.config.CAFile: ca, r.config.SecretFile: []byte(secret + "\n")} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range edit {
		e(&r.config)
	}
	r.hooks = admission.New(r.config)
	return r
}

func questionOf(name string) provision.HookQuestion {
	hub := provision.DeclaredHubID("factory")
	return provision.HookQuestion{
		Hub: hub, HubName: "factory", Device: provision.DeviceIDOf(hub, name), DeviceName: name,
		Leaf: []byte("leaf of " + name), Issuer: trust.KeyHash{1}, Anchor: trust.KeyHash{2}, Source: "192.0.2.7", Decision: "decision-" + name,
	}
}

func TestQuestion(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"allow": true}`)
	})
	answer, err := r.hooks.Ask(t.Context(), r.url, questionOf("SN-1"))
	if err != nil || !answer.Allow {
		t.Fatalf("%+v, %v", answer, err)
	}
	if got.Method != http.MethodPost || got.URL.RequestURI() != "/admit?line=7" || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s, %v", got.Method, got.URL, got.Header)
	}
	at, _ := strconv.ParseInt(got.Header.Get("Webhook-Timestamp"), 10, 64)
	// printf %s HUB_ID | openssl dgst -sha256 -hmac SECRET, as the documentation says
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(provision.DeclaredHubID("factory").String()))
	if want := endpoint.Sign([][]byte{mac.Sum(nil)}, "decision-SN-1", time.Unix(at, 0), body); got.Header.Get("Webhook-Signature") != want ||
		got.Header.Get("Webhook-Id") != "decision-SN-1" || time.Since(time.Unix(at, 0)) > time.Minute {
		t.Errorf("signed %v, want %s", got.Header, want)
	}
	hub := provision.DeclaredHubID("factory")
	want := map[string]string{
		"hub_id": hub.String(), "hub_name": "factory", "device_id": provision.DeviceIDOf(hub, "SN-1").String(), "device_name": "SN-1",
		"certificate":    "-----BEGIN CERTIFICATE-----\nbGVhZiBvZiBTTi0x\n-----END CERTIFICATE-----\n",
		"issuer_key":     "01" + strings.Repeat("00", 31),
		"anchor_key":     "02" + strings.Repeat("00", 31),
		"source_address": "192.0.2.7", "decision_id": "decision-SN-1",
	}
	var told map[string]string
	if err := json.Unmarshal(body, &told); err != nil || fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told %v (%v), want %v", told, err, want)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	elsewhere := httptest.NewTLSServer(says(http.StatusOK, `{"allow": true}`))
	t.Cleanup(elsewhere.Close)
	tests := []struct {
		what   string
		answer http.HandlerFunc
		edit   func(*admission.Config)
		allow  bool
		says   string // the message, or part of the error
	}{
		{what: "yes", answer: says(http.StatusOK, `{"allow": true}`), allow: true, says: `the hook says ""`},
		{what: "no", answer: says(http.StatusOK, `{"allow": false, "message": "sold \n elsewhere"}`), says: `the hook says "sold \n elsewhere"`},
		{what: "no, at length", answer: says(http.StatusOK, `{"allow": false, "message": "`+strings.Repeat("a", 199)+`é…"}`),
			says: `the hook says "` + strings.Repeat("a", 199) + `…"`},
		{what: "neither", answer: says(http.StatusOK, `{"message": "?"}`), says: "neither"},
		{what: "yes as a text", answer: says(http.StatusOK, `{"allow": "true"}`), says: "not as it should be"},
		{what: "yes and more", answer: says(http.StatusOK, `{"allow": true, "until": "tomorrow"}`), says: "not as it should be"},
		{what: "yes twice", answer: says(http.StatusOK, `{"allow": true}{"allow": true}`), says: "neither"},
		{what: "nothing", answer: says(http.StatusOK, ``), says: "not as it should be"},
		{what: "null", answer: says(http.StatusOK, `null`), says: "neither"},
		{what: "a page", answer: says(http.StatusOK, `<html>{"allow": true}`), says: "not as it should be"},
		{what: "yes, created", answer: says(http.StatusCreated, `{"allow": true}`), says: "it answered 201"},
		{what: "yes, but broken", answer: says(http.StatusInternalServerError, `{"allow": true}`), says: "it answered 500"},
		{what: "no by status", answer: says(http.StatusForbidden, `{"allow": true}`), says: "it answered 403"},
		{what: "a body without end", answer: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"allow": true, "message": "`)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		}, says: "more than 16384 bytes"},
		{what: "a header without end", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 64<<10))
			_, _ = io.WriteString(w, `{"allow": true}`)
		}, says: "response headers exceeded"},
		{what: "a redirect", answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, says: "it answered 307"},
		{what: "an unknown certificate", answer: says(http.StatusOK, `{"allow": true}`), edit: func(c *admission.Config) { c.CAFile = "" }, says: "certificate"},
		{what: "no CA file", answer: says(http.StatusOK, `{"allow": true}`), edit: func(c *admission.Config) { c.CAFile += ".gone" }, says: "hook_ca_file"},
		{what: "no secret file", answer: says(http.StatusOK, `{"allow": true}`), edit: func(c *admission.Config) { c.SecretFile += ".gone" }, says: "hook_secret_file"},
		{what: "an address that is not public", answer: says(http.StatusOK, `{"allow": true}`), edit: func(c *admission.Config) { c.Networks = nil },
			says: "127.0.0.1 is not public, and in none of admission.hook_networks"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			edit := tt.edit
			if edit == nil {
				edit = func(*admission.Config) {}
			}
			r := newRig(t, tt.answer, edit)
			answer, err := r.hooks.Ask(t.Context(), r.url, questionOf("SN-1"))
			said := answer.Message
			if err != nil {
				said = err.Error()
			}
			if answer.Allow != tt.allow || !strings.Contains(said, tt.says) || (err == nil) != strings.HasPrefix(tt.says, "the hook says") {
				t.Errorf("%+v, %v; want %t, %q", answer, err, tt.allow, tt.says)
			}
		})
	}
}

// TestForbiddenPlaces: no name or number leads to what is not public.
func TestForbiddenPlaces(t *testing.T) {
	t.Parallel()
	hooks := admission.New(admission.Config{})
	for _, host := range []string{
		"169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "127.0.0.1", "localhost", "[::1]", "[::ffff:169.254.169.254]", "[::ffff:7f00:1]",
		"10.0.0.1", "192.168.1.1", "172.16.0.1", "100.100.100.200", "0.0.0.0", "[::]", "224.0.0.1", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "255.255.255.255",
	} {
		_, err := hooks.Ask(t.Context(), "https://"+host+"/", questionOf("SN-1"))
		if err == nil || !strings.Contains(err.Error(), "is not public") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := hooks.Ask(t.Context(), "http://192.0.2.1/", questionOf("SN-1")); err == nil || !strings.Contains(err.Error(), "not https") {
		t.Errorf("http: %v", err)
	}
}

// TestSlow: nobody waits longer than a second, or than his own time.
func TestSlow(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	r := newRig(t, func(http.ResponseWriter, *http.Request) { <-hold })
	t.Cleanup(func() { close(hold) })
	began := time.Now()
	if _, err := r.hooks.Ask(t.Context(), r.url, questionOf("SN-1")); err == nil || time.Since(began) < 900*time.Millisecond {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.hooks.Ask(short, r.url, questionOf("SN-2")); err == nil {
		t.Error("an answer of a hook that gives none")
	}
	if _, err := admission.New(r.config).Ask(t.Context(), "https://127.0.0.1:1/", questionOf("SN-1")); err == nil {
		t.Error("an answer of a hook that is down")
	}
}

// TestOneQuestionPerDevice: connections of one device share an answer, those of
// others do not; at most 32 questions are asked at a time, and connections are
// used again.
func TestOneQuestionPerDevice(t *testing.T) {
	t.Parallel()
	var asked, now, most, late atomic.Int32
	r := newRig(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		now.Add(-1)
		var q struct {
			Name string `json:"device_name"`
		}
		_ = json.NewDecoder(r.Body).Decode(&q)
		_, _ = fmt.Fprintf(w, `{"allow": %t}`, q.Name != "SN-7")
	})
	var all sync.WaitGroup
	for device := range 50 {
		for range 3 {
			all.Go(func() {
				name := fmt.Sprint("SN-", device)
				answer, err := r.hooks.Ask(context.Background(), r.url, questionOf(name))
				if errors.Is(err, context.DeadlineExceeded) { // as may be where others use the processors
					late.Add(1)
				} else if err != nil || answer.Allow == (name == "SN-7") {
					t.Errorf("%s: %+v, %v", name, answer, err)
				}
			})
		}
	}
	all.Wait()
	if late.Load() > 75 {
		t.Errorf("%d of 150 questions had no answer in time", late.Load())
	}
	if asked.Load() >= 150 || most.Load() > 32 {
		t.Errorf("asked %d times, %d at once", asked.Load(), most.Load())
	}
	// Of the rush, connections may still come that nobody waits for any more.
	connected := r.connections.Load()
	for n := range 100 {
		if _, err := r.hooks.Ask(t.Context(), r.url, questionOf(fmt.Sprint("later-", n))); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.connections.Load() - connected; n > 50 {
		t.Errorf("100 questions, one after another, took %d connections", n)
	}
	// Another certificate of the same name is another question.
	before := asked.Load()
	for _, leaf := range []string{"one", "two"} {
		all.Go(func() {
			q := questionOf("SN-1")
			q.Leaf = []byte(leaf)
			if _, err := r.hooks.Ask(context.Background(), r.url, q); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := asked.Load() - before; n != 2 {
		t.Errorf("asked %d times about two certificates", n)
	}
}
