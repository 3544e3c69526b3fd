package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
)

// TestRefusals holds every answer that is no success.
func TestRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.connect("a", "SN-0001")
	question := func(q Question) string {
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	key, err := pki.NewKey(pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	otherID := provision.DeviceIDOf(provision.DeclaredHubID("a"), "SN-9").String()
	for _, tt := range []struct {
		method, path, body string
		status             int
		code, message      string
	}{
		{"GET", "/v1/nothing", "", 404, "not_found", "there is no /v1/nothing"},
		{"PUT", "/v1/hubs", "", 405, "method_not_allowed", "use GET, POST here"},
		{"PUT", "/v1/hubs/a/devices/SN-0001", "", 405, "method_not_allowed", "use GET, PATCH, DELETE here"},
		{"GET", "/v1/explain", "", 405, "method_not_allowed", "use POST here"},
		{"GET", "/v1/hubs/c", "", 404, "not_found", `hub "c" not found: there is a, b`},
		{"GET", "/v1/hubs/c/devices", "", 404, "not_found", `hub "c" not found: there is a, b`},
		{"GET", "/v1/hubs/a/devices/SN-9", "", 404, "not_found", `device "SN-9" on hub a not found`},
		{"GET", "/v1/hubs/a/devices/" + otherID, "", 404, "not_found", `device "` + otherID + `" on hub a not found`},
		{"GET", "/v1/hubs/b/devices/SN-0001", "", 404, "not_found", `device "SN-0001" on hub b not found`},
		{"DELETE", "/v1/hubs/a/devices/SN-9", "", 404, "not_found", `device "SN-9" on hub a not found`},
		{"POST", "/v1/hubs/a/devices/SN-9/disable", "", 404, "not_found", `device "SN-9" on hub a not found`},
		{"GET", "/v1/hubs/a/devices?limit=0", "", 400, "invalid", `limit: "0" is no number from 1 to 1000`},
		{"GET", "/v1/hubs/a/devices?limit=1001", "", 400, "invalid", `limit: "1001" is no number from 1 to 1000`},
		{"GET", "/v1/hubs/a/devices?sort=age", "", 400, "invalid", `sort: "age" is neither name nor created`},
		{"GET", "/v1/hubs/a/devices?cursor=!", "", 400, "invalid", `cursor: "!" is none of a list sorted by name`},
		{"GET", "/v1/hubs/a/devices?cursor=" + sealCursor("name", "x") + "&sort=created", "", 400, "invalid",
			`cursor: "` + sealCursor("name", "x") + `" is none of a list sorted by created`},
		{"GET", "/v1/hubs/a/devices?limits=1", "", 400, "invalid", `unknown parameter "limits": known are cursor, limit, sort, enabled, connected, name_prefix, anchor`},
		{"GET", "/v1/hubs/a/devices?limit=1&limit=2", "", 400, "invalid", `parameter limit is given twice`},
		{"POST", "/v1/explain", "", 400, "invalid", "the body is not the JSON that belongs here: EOF"},
		{"POST", "/v1/explain", `{"chain":"","cert":""}`, 400, "invalid", `the body is not the JSON that belongs here: unknown field "cert"`},
		{"POST", "/v1/explain", `{} {}`, 400, "invalid", `the body is not the JSON that belongs here: more than one value`},
		{"POST", "/v1/explain", question(Question{Chain: "hello"}), 400, "invalid", "chain: holds no certificate in PEM form"},
		{"POST", "/v1/explain", question(Question{Chain: string(keyPEM)}), 400, "invalid", "chain: holds a private key: it is not needed, and belongs nowhere but on the device"},
		{"POST", "/v1/explain", question(Question{Protocol: "mqtt"}), 400, "invalid", `protocol: "mqtt" is neither http nor tcp`},
		{"POST", "/v1/explain", question(Question{Username: "a/a1", SNI: "a.iot.example.com"}), 400, "invalid", "username: belongs to a connection without TLS, and so neither chain nor sni beside it"},
		{"POST", "/v1/explain", question(Question{Source: "here"}), 400, "invalid", `source: "here" is no IP address`},
		{"POST", "/v1/explain", `{"chain":"` + strings.Repeat("x", maxBody) + `"}`, 413, "too_large", fmt.Sprintf("the request's body is larger than %d bytes", maxBody)},
		{"GET", "/v1/events?since=65:1", "", 400, "invalid", `cursor "65:1": "65" is no partition of this store`},
		{"GET", "/v1/events?since=1", "", 400, "invalid", `cursor "1": write start, or what the id of an event said`},
		{"GET", "/v1/events?since=1:1,1:2", "", 400, "invalid", `cursor "1:1,1:2": partition 1 is in it twice`},
		{"GET", "/v1/events?since=1:99", "", 409, "cursor_ahead", "the cursor is ahead of the store, which was restored or replaced: begin with since=start"},
		{"GET", "/v1/events?hub=c", "", 404, "not_found", `hub "c" not found: there is a, b`},
		{"GET", "/v1/events?last=0", "", 400, "invalid", `last: "0" is no number from 1 to 1000`},
		{"GET", "/v1/events?last=1&since=start", "", 400, "invalid", "last: is given beside since: choose one"},
		{"GET", "/v1/events?follow=no", "", 400, "invalid", `follow: "no" is neither true nor false`},
	} {
		name := tt.method + " " + tt.path
		status, text := r.do(tt.method, tt.path, tt.body)
		var got struct{ Error, Message string }
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Errorf("%s: %d %s", name, status, text)
			continue
		}
		if status != tt.status || got.Error != tt.code || got.Message != tt.message {
			t.Errorf("%s: %d %s: %s\nwant %d %s: %s", name, status, got.Error, got.Message, tt.status, tt.code, tt.message)
		}
	}
}

// TestDeviceByIDOrName finds devices whose names are hard on paths.
func TestDeviceByIDOrName(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	other := provision.DeviceIDOf(provision.DeclaredHubID("a"), "something else").String()
	for _, name := range []string{"SN-0001", "a b", "100%", "q?x=1", "semi;colon", other} {
		r.connect("a", name)
		id := provision.DeviceIDOf(provision.DeclaredHubID("a"), name).String()
		for _, key := range []string{id, name} {
			var d Device
			r.get("/v1/hubs/a/devices/"+pathEscape(key), &d)
			if d.Name != name || d.ID != id {
				t.Errorf("%q found %+v", key, d)
			}
		}
	}
}

func pathEscape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// TestActsOnDevices: each act is one change and one event; what changes nothing
// raises none.
func TestActsOnDevices(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.connect("a", "SN-0001")
	path := "/v1/hubs/a/devices/SN-0001"
	for _, step := range []struct {
		method, act string
		status      int
		enabled     bool
		version     uint64
	}{
		{"POST", "/enable", 200, true, 1},
		{"POST", "/disable", 200, false, 2},
		{"POST", "/disable", 200, false, 2},
		{"POST", "/enable", 200, true, 3},
	} {
		status, text := r.do(step.method, path+step.act, "")
		var d Device
		if err := json.Unmarshal([]byte(text), &d); err != nil || status != step.status || d.Enabled != step.enabled || d.Version != step.version {
			t.Errorf("%s: %d %s (%v)", step.act, status, text, err)
		}
	}
	var made DeviceSecret
	status, text := r.do("POST", path+"/secret", "")
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != 201 || made.UserName != "a/SN-0001" || len(made.Secret) != 43 || made.AllowInsecure {
		t.Errorf("secret: %d %s (%v)", status, text, err)
	}
	var d Device
	if _, text := r.do("GET", path, ""); json.Unmarshal([]byte(text), &d) != nil || !d.HasSecret || strings.Contains(text, made.Secret) {
		t.Errorf("with a secret: %s", text)
	}
	for range 2 {
		if status, text := r.do("DELETE", path+"/secret", ""); status != http.StatusNoContent {
			t.Errorf("DELETE secret: %d %s", status, text)
		}
	}
	if status, text := r.do("DELETE", path, ""); status != http.StatusNoContent || text != "" {
		t.Errorf("DELETE: %d %s", status, text)
	}
	partition := provision.DeclaredHubID("a").Partition(r.store.Partitions())
	stored, err := r.store.Events(t.Context(), partition, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, s := range stored {
		reasons = append(reasons, s.Event.Reason)
	}
	if got := strings.Join(reasons, " "); got != "device_provisioned disabled enabled secret_created secret_removed deleted" {
		t.Errorf("events: %s", got)
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.connect("a", "SN-0001")
	status, text := r.do("POST", "/v1/store/backup", "")
	file := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	report, err := boltstore.Verify(file)
	if err != nil || report.Devices != 1 {
		t.Errorf("the backup: %+v, %v", report, err)
	}
}

// brokenBackup fails after so many bytes.
type brokenBackup int

func (b brokenBackup) Backup(_ context.Context, w io.Writer) (int64, error) {
	if b == 0 {
		return 0, errors.New("disk error")
	}
	n, err := w.Write(bytes.Repeat([]byte("x"), int(b)))
	return int64(n), errors.Join(err, errors.New("disk error"))
}

// TestBackupThatFails never looks whole.
func TestBackupThatFails(t *testing.T) {
	t.Parallel()
	for _, bytes := range []int{0, 10, 1 << 20} {
		r := newRig(t, func(c *Config) { c.Backup = brokenBackup(bytes) })
		response, err := http.Post(r.url+"/v1/store/backup", "", nil)
		if err != nil {
			continue // cut off before the header: as good
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK && err == nil {
			t.Errorf("a backup that failed after %d bytes was received as whole", bytes)
		}
	}
}

func TestBackupOfRedis(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Backup = nil })
	if status, text := r.do("POST", "/v1/store/backup", ""); status != 501 || !strings.Contains(text, "Redis, which makes its own backups") {
		t.Errorf("%d %s", status, text)
	}
}

// failing is a store that answers with an error.
type failing struct {
	fleet.Store
	err error
}

func (f failing) CountDevices(context.Context, provision.HubID) (int, error) { return 0, f.err }

// TestFailures: what is ours has a fixed sentence; what it was is for the log.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("dial 10.0.0.1: %w", provision.ErrUnavailable), 503, "store_unavailable"},
		{fmt.Errorf("hub: %w", provision.ErrStoreChanged), 503, "store_changed"},
		{fmt.Errorf("hub: %w", provision.ErrHubChanged), 409, "conflict"},
		{context.DeadlineExceeded, 503, "timeout"},
		{errors.New("secret detail"), 500, "internal"},
	} {
		r := newRig(t, func(c *Config) {
			administration, err := fleet.New(fleet.Config{
				Gate: c.Gate.(fleet.Gate), Store: failing{c.Store.(fleet.Store), tt.err}, Logger: c.Logger,
			})
			if err != nil {
				t.Fatal(err)
			}
			c.Fleet = administration
		})
		status, text := r.do("GET", "/v1/hubs/a", "")
		if status != tt.status || !strings.Contains(text, `"error":"`+tt.code+`"`) ||
			strings.Contains(text, "10.0.0.1") || strings.Contains(text, "secret detail") {
			t.Errorf("%v: %d %s", tt.err, status, text)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	text, err := json.Marshal(Question{Chain: r.chain("a", "SN-0001"), SNI: "b.iot.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	status, answer := r.do("POST", "/v1/explain", string(text))
	var e Explanation
	if err := json.Unmarshal([]byte(answer), &e); err != nil || status != 200 {
		t.Fatal(status, answer, err)
	}
	if e.Decision != "deny" || e.HubName != "b" || e.Remedy == "" || len(e.Steps) == 0 || e.Steps[len(e.Steps)-1].OK {
		t.Errorf("explained as %+v", e)
	}
	// No chain at all is a question, too.
	if _, answer = r.do("POST", "/v1/explain", "{}"); !strings.Contains(answer, `"reason":"no_certificate"`) {
		t.Errorf("explained as %s", answer)
	}
}
