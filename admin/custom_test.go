package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
)

// TestCustomCertificates: a hub takes them if its policy says so; what could not
// be the device's is refused.
func TestCustomCertificates(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.want(201, "", "POST", "/v1/hubs", `{"name":"plant"}`, nil)
	r.want(201, "", "POST", "/v1/hubs/plant/devices", `{"name":"SN-1"}`, nil)
	anybody, err := pki.NewRoot("Anybody")
	if err != nil {
		t.Fatal(err)
	}
	body := func(text string) string {
		b, err := json.Marshal(NewCustomCertificate{text})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	pem := func(name string) string {
		leaf, err := anybody.Leaf(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(pki.EncodeCertificates(leaf.Certificate))
	}
	const device = "/v1/hubs/plant/devices/SN-1"
	own := pem("SN-1")
	r.want(409, "conflict", "PUT", device+"/certificate", body(own), nil)
	r.want(200, "", "PATCH", "/v1/hubs/plant", `{"policy":{"custom_certificates":true}}`, nil)
	for _, wrong := range []string{
		`{}`, `{"certificate":1}`, `{"pem":"x"}`, body("garbage"), body(pem("SN-2")), body(own + own),
		body(string(pki.EncodeCertificates(anybody.Certificate))),
	} {
		r.want(400, "invalid", "PUT", device+"/certificate", wrong, nil)
	}
	r.want(404, "not_found", "PUT", "/v1/hubs/plant/devices/SN-2/certificate", body(pem("SN-2")), nil)

	var d Device
	r.want(200, "", "PUT", device+"/certificate", body(own), &d)
	if c := d.CustomCertificate; c == nil || c.Certificate != own || len(c.Key) != 64 || d.Version != 2 {
		t.Errorf("set: %+v", d)
	}
	r.want(200, "", "PUT", device+"/certificate", body(own), &d) // once more is no change
	if d.Version != 2 {
		t.Errorf("set once more: version %d", d.Version)
	}

	// It is carried to another hub, as the rest of the device is.
	_, lines := r.do("GET", "/v1/hubs/plant/devices/export", "")
	if !strings.Contains(lines, `"custom_certificate":"-----BEGIN`) {
		t.Fatalf("exported as %s", lines)
	}
	r.want(201, "", "POST", "/v1/hubs", `{"name":"other"}`, nil)
	imported := func(lines string) string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/hubs/other/devices/import", strings.NewReader(lines))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", ndjson)
		_, text := r.send(request, lines)
		return text
	}
	if text := imported(lines); !strings.Contains(text, `"refused":1`) {
		t.Errorf("imported where none is taken: %s", text)
	}
	r.want(200, "", "PATCH", "/v1/hubs/other", `{"policy":{"custom_certificates":true}}`, nil)
	for _, want := range []string{`"created":1`, `"unchanged":1`} {
		if text := imported(lines); !strings.Contains(text, want) {
			t.Errorf("imported: %s, want %s", text, want)
		}
	}
	r.want(200, "", "GET", "/v1/hubs/other/devices/SN-1", nil, &d)
	if d.CustomCertificate == nil || d.CustomCertificate.Certificate != own {
		t.Errorf("imported: %+v", d)
	}
	if text := imported(strings.ReplaceAll(lines, "SN-1", "SN-3")); !strings.Contains(text, `"refused":1`) {
		t.Errorf("another name's was imported: %s", text)
	}

	// What was replaced or removed since is not brought back by an old export.
	r.want(204, "", "DELETE", "/v1/hubs/other/devices/SN-1/certificate", nil, nil)
	if text := imported(lines); !strings.Contains(text, `"refused":1`) || !strings.Contains(text, "device certificate set") {
		t.Errorf("imported once more: %s", text)
	}

	var v Revocation
	r.want(201, "", "POST", "/v1/hubs/plant/revocations", `{"device":"SN-1"}`, &v)
	if v.Key != d.CustomCertificate.Key {
		t.Errorf("its key was revoked as %s", v.Key)
	}
	for range 2 {
		r.want(204, "", "DELETE", device+"/certificate", nil, nil)
	}
	d = Device{}
	r.want(200, "", "GET", device, nil, &d)
	if d.CustomCertificate != nil || d.Version != 3 {
		t.Errorf("removed: %+v", d)
	}
}
