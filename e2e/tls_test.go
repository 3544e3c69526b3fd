package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

// forgedHeaders: what a device says about itself in headers never counts,
// selects no route and never gets through, over HTTP/1.1 and HTTP/2. connect
// checks what the backend saw.
func forgedHeaders(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate))
	victim := w.expect(t, provision.HTTP, as(v.device(t, "SN-victim")), provision.DeviceProvisioned)
	if a, err := w.get(t.Context(), as(v.device(t, routed))); err != nil || a.status != http.StatusAccepted {
		t.Fatalf("the device with a route of its own got %+v, %v", a, err)
	}
	pem := strings.NewReplacer("\n", "%0A", " ", "%20").Replace("-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n")
	for _, http2 := range []bool{false, true} {
		name := fmt.Sprintf("SN-%t", http2)
		chip := as(v.device(t, name)).named(host(hub.Name))
		chip.http2 = http2
		want := provision.DeviceProvisioned
		for _, header := range []http.Header{
			{"X-Forwarded-Client-Cert": {`Hash=00;Cert="` + pem + `";Chain="` + pem + `"`, "Hash=01"}},
			{"x-forwarded-client-cert": {`By=x;Hash=00,Hash=01;Subject="CN=SN-victim"`}},
			{"X-Hub-Id": {"forged", hub.ID.String()}, "X-Device-Id": {victim.Device.String()}, "X-Device-Name": {"SN-victim"}},
			{"X-Device-Name": {routed}},
			{"X-HUB-ID": {"forged"}, "x-device-id": {"forged"}, "X-DEVICE-whatever": {"forged"}},
		} {
			chip.header = header
			d := w.expect(t, provision.HTTP, chip, want)
			if d.DeviceName != name {
				t.Errorf("%v made it %s", header, d.DeviceName)
			}
			want = provision.DeviceKnown
		}
		// Many servers cannot tell x_device_id from x-device-id: Envoy does not
		// even ask.
		for _, header := range []string{"x_device_id", "x_hub_id", "X_Forwarded_Client_Cert"} {
			chip.header = http.Header{header: {victim.Device.String()}}
			before := len(w.witness.of(chip.cert.Certificate[0]))
			a, err := w.get(t.Context(), chip)
			if http2 && err != nil {
				continue // Envoy resets the stream
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.status != http.StatusBadRequest || w.backend.count(a.path) != 0 || len(w.witness.of(chip.cert.Certificate[0])) != before {
				t.Errorf("%s: status %d, %d requests came through", header, a.status, w.backend.count(a.path))
			}
		}
	}
	if n := len(w.devices(t, hub.ID)); n != 4 {
		t.Errorf("%d devices, want 4", n)
	}
}

// resumption: a resumed TLS session is as good as a full one, also where the
// hub knows the intermediate from the first alone.
func resumption(t *testing.T, w *world) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, p := range protocols {
			v := newVendor(t)
			hub := w.hub(t, anchors(v.root.Certificate))
			w.expect(t, provision.HTTP, as(v.device(t, "teacher")), provision.DeviceProvisioned)
			chip := as(v.device(t, "SN-1")).named(host(hub.Name))
			chip.version, chip.cache = version, tls.NewLRUClientSessionCache(1)
			var resumed []bool
			for _, want := range []provision.Reason{provision.DeviceProvisioned, provision.DeviceKnown, provision.DeviceKnown} {
				d, r := w.connectResumed(t, p, chip)
				if d.Reason != want || d.Device != provision.DeviceIDOf(hub.ID, "SN-1") {
					t.Errorf("%s over %s: %s (%s), want %s", p, tls.VersionName(version), d.Reason, d.Detail, want)
				}
				resumed = append(resumed, r)
			}
			if resumed[0] || !resumed[1] || !resumed[2] {
				t.Errorf("%s over %s: resumed %v, want [false true true]", p, tls.VersionName(version), resumed)
			}
			// The session of one hub's name is no ticket into another.
			other := newVendor(t)
			chip = chip.named(host(w.hub(t, anchors(other.root.Certificate)).Name))
			if d := w.connect(t, p, chip); d.Allowed() {
				t.Errorf("%s over %s: %s on another hub", p, tls.VersionName(version), d.Reason)
			}
		}
	}
}

// simultaneous: however many first connections of one device race, there is
// one device and one event.
func simultaneous(t *testing.T, w *world) {
	const connections = 200
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate))
	chip := as(v.device(t, "SN-1"))
	errs := make(chan error, connections)
	var ready, all sync.WaitGroup
	ready.Add(connections)
	for i := range connections {
		all.Go(func() {
			ready.Done()
			ready.Wait()
			if i%2 == 0 {
				_, err := w.converse(t.Context(), chip)
				errs <- err
				return
			}
			a, err := w.get(t.Context(), chip)
			if err == nil && a.status != http.StatusOK {
				err = fmt.Errorf("status %d %+v", a.status, a.refusal)
			}
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	reasons := map[provision.Reason]int{}
	for _, d := range w.witness.of(chip.cert.Certificate[0]) {
		reasons[d.Reason]++
	}
	if reasons[provision.DeviceProvisioned] != 1 || reasons[provision.DeviceKnown] != connections-1 {
		t.Errorf("outcomes %v, want one device_provisioned and %d device_known", reasons, connections-1)
	}
	if devices, events := w.devices(t, hub.ID), w.provisioned(t, hub.ID); len(devices) != 1 || len(events) != 1 {
		t.Errorf("%d devices and %d events, want one of each", len(devices), len(events))
	}
}
