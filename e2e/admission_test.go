package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admission"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// newHooks asks hooks whose certificates the authority signed.
func newHooks(t *testing.T, ca *pki.Authority) *admission.Hooks {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pki.EncodeCertificates(ca.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	return admission.New(admission.Config{CAFile: file, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}

// serveHook serves a hook over HTTPS and returns its URL.
func (w *world) serveHook(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{must(w.hookCA.Server("127.0.0.1"))(t).TLS()}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL + "/admit"
}

// change edits a hub and waits until checks know it.
func (w *world) change(t *testing.T, hub provision.Hub, edit func(*provision.Hub)) {
	t.Helper()
	h, err := w.store.UpdateHub(t.Context(), hub.ID,
		func(h *provision.Hub) error { edit(h); return nil },
		func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gate knows the change", func() error {
		if known, ok := w.gate.Hub(h.ID.String()); !ok || known.Version < h.Version {
			return fmt.Errorf("it has version %d", known.Version)
		}
		return nil
	})
}

func rules(rules ...provision.AdmissionRule) func(*provision.Hub) {
	return func(h *provision.Hub) { h.Policy.Admission = rules }
}

// admissionRules: who does not meet the hub's rules creates no device; known
// devices are never held to them.
func admissionRules(t *testing.T, w *world) {
	v := newVendor(t)
	foreign := must(v.root.Intermediate("Another Line"))(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(foreign.Certificate))
	old := as(v.device(t, "OLD-1"))
	w.expect(t, provision.HTTP, old, provision.DeviceProvisioned)
	w.change(t, hub, rules(
		provision.AdmissionRule{NamePattern: "SN-[0-9]{4}"},
		provision.AdmissionRule{Anchor: trust.KeyHashOf(v.root.Certificate), Issuer: trust.KeyHashOf(v.line.Certificate)},
	))
	for i, p := range protocols {
		w.expect(t, p, as(v.device(t, fmt.Sprintf("SN-000%d", i))), provision.DeviceProvisioned)
		for _, name := range []string{"SN-1", "SN-00011", "xSN-0001", "sn-0001", "OLD-2"} {
			w.expect(t, p, as(v.device(t, name)), provision.DeviceNotAllowed)
		}
		d := w.expect(t, p, chain(must(foreign.Leaf("SN-0009"))(t), foreign.Certificate), provision.DeviceNotAllowed)
		if !strings.Contains(d.Detail, "admission rule 2") {
			t.Errorf("detail %q", d.Detail)
		}
		w.expect(t, p, old, provision.DeviceKnown)
	}
	if n := len(w.devices(t, hub.ID)); n != 3 {
		t.Errorf("%d devices, want 3", n)
	}
}

// admissionHooks: an unseen device is created when the hub's hook allows it, and
// by nothing else that the hook does; a known device never waits for it.
func admissionHooks(t *testing.T, w *world) {
	var asked atomic.Int32
	elsewhere := w.serveHook(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"allow": true}`) })
	down := w.serveHook(t, func(http.ResponseWriter, *http.Request) {})
	down = strings.Replace(down, "127.0.0.1", "127.0.0.2", 1) // nobody listens there
	hook := w.serveHook(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var q map[string]string
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		switch kind, _, _ := strings.Cut(q["device_name"], "-"); kind {
		case "GOOD":
			_, _ = io.WriteString(w, `{"allow": true}`)
		case "BAD":
			_, _ = io.WriteString(w, `{"allow": false, "message": "stolen"}`)
		case "SLOW":
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
			_, _ = io.WriteString(w, `{"allow": true}`)
		case "MOVED":
			http.Redirect(w, r, elsewhere, http.StatusPermanentRedirect)
		case "HUGE":
			_, _ = io.WriteString(w, `{"allow": true, "message": "`+strings.Repeat("x", 1<<20)+`"}`)
		default:
			_, _ = io.WriteString(w, `yes`)
		}
	})
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate), rules(provision.AdmissionRule{Hook: hook}))
	for i, p := range protocols {
		good := as(v.device(t, fmt.Sprintf("GOOD-%d", i)))
		w.expect(t, p, good, provision.DeviceProvisioned)
		before := asked.Load()
		for _, p := range protocols {
			w.expect(t, p, good, provision.DeviceKnown)
		}
		if asked.Load() != before {
			t.Error("the hook was asked about a known device")
		}
		if d := w.expect(t, p, as(v.device(t, "BAD-1")), provision.HookDenied); d.Detail != `the hook says "stolen"` {
			t.Errorf("detail %q", d.Detail)
		}
		for _, kind := range []string{"SLOW", "MOVED", "HUGE", "STRANGE"} {
			w.expect(t, p, as(v.device(t, kind+"-1")), provision.HookUnavailable)
		}
	}
	w.change(t, hub, rules(provision.AdmissionRule{Hook: elsewhere}, provision.AdmissionRule{Hook: down}))
	for _, p := range protocols {
		w.expect(t, p, as(v.device(t, "GOOD-9")), provision.HookUnavailable)
		w.expect(t, p, as(v.device(t, "GOOD-0")), provision.DeviceKnown)
	}
	if n := len(w.devices(t, hub.ID)); n != 2 {
		t.Errorf("%d devices, want 2", n)
	}
}

// hookDuringChange: a hub that is disabled while its hook is asked creates
// nothing.
func hookDuringChange(t *testing.T, w *world) {
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hook := w.serveHook(t, func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		select {
		case <-answer:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, `{"allow": true}`)
	})
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate), rules(provision.AdmissionRule{Hook: hook}))
	chip := as(v.device(t, "SN-1"))
	decided := make(chan error, 1)
	go func() {
		a, err := w.get(context.Background(), chip)
		if err == nil && a.status == http.StatusOK {
			err = fmt.Errorf("it was admitted: %+v", a)
		}
		decided <- err
	}()
	<-asked
	w.change(t, hub, func(h *provision.Hub) { h.Disabled = true })
	close(answer)
	if err := <-decided; err != nil {
		t.Error(err)
	}
	w.empty(t, hub)
}

// keyPolicies: what becomes of a known name that comes with another key.
func keyPolicies(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate))
	for _, p := range protocols {
		name := "ACCEPT-" + string(p)
		first, other := v.device(t, name), v.device(t, name)
		w.expect(t, p, as(first), provision.DeviceProvisioned)
		w.expect(t, p, as(other), provision.DeviceKnown)
		d := must(w.store.Device(t.Context(), hub.ID, name))(t)
		if d.FirstKey != trust.KeyHashOf(first.Certificate) || d.CurrentKey != trust.KeyHashOf(other.Certificate) {
			t.Errorf("first key %s, current key %s", d.FirstKey, d.CurrentKey)
		}
	}
	w.change(t, hub, func(h *provision.Hub) { h.Policy.Keys = provision.PinKeys })
	for _, p := range protocols {
		name := "PIN-" + string(p)
		first := v.device(t, name)
		again := v.device(t, name, pki.WithSigner(first.Key))
		w.expect(t, p, as(first), provision.DeviceProvisioned)
		w.expect(t, p, as(v.device(t, name)), provision.DeviceKeyChanged)
		w.expect(t, p, as(again), provision.DeviceKnown)
		w.expect(t, p, as(v.device(t, "ACCEPT-"+string(p))), provision.DeviceKeyChanged)
	}
	w.change(t, hub, func(h *provision.Hub) { h.Policy.Keys = provision.ApproveKeys })
	for _, p := range protocols {
		name := "APPROVE-" + string(p)
		first, other := as(v.device(t, name)), v.device(t, name)
		w.expect(t, p, first, provision.DeviceProvisioned)
		w.expect(t, p, as(other), provision.DeviceKeyChanged)
		d := must(w.store.Device(t.Context(), hub.ID, name))(t)
		if d.PendingKey != trust.KeyHashOf(other.Certificate) {
			t.Errorf("%s waits for approval", d.PendingKey)
		}
		approve := provision.Update{
			Hub: hub.ID, Device: d.ID,
			Change: func(d *provision.Device) error {
				d.CurrentKey, d.PendingKey = d.PendingKey, trust.KeyHash{}
				return nil
			},
			Event: func(d provision.Device) provision.Event { return provision.KeyApproved.OnDevice(d, time.Now()) },
		}
		if _, err := w.store.UpdateDevice(t.Context(), approve); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the key is let in", func() error {
			if d := w.connect(t, p, as(other)); !d.Allowed() {
				return fmt.Errorf("%s (%s)", d.Reason, d.Detail)
			}
			return nil
		})
		w.expect(t, p, first, provision.DeviceKeyChanged)
	}
}
