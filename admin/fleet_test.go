package admin

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// want demands a status and, of a failure, a code; it decodes an answer.
func (r *rig) want(status int, code, method, path string, body, into any) {
	r.t.Helper()
	text := ""
	switch b := body.(type) {
	case nil:
	case string:
		text = b
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			r.t.Fatal(err)
		}
		text = string(encoded)
	}
	got, answer := r.do(method, path, text)
	if got != status || code != "" && !strings.Contains(answer, `"error":"`+code+`"`) {
		r.t.Fatalf("%s %s %s: %d %s, want %d %s", method, path, text, got, answer, status, code)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(answer), into); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestLifeOfAHub administers a hub from its creation to its end.
func TestLifeOfAHub(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var h Hub
	r.want(201, "", "POST", "/v1/hubs", NewHub{Name: "plant", ProjectID: "6f1c1d4e-7a0e-4a51-9a55-0d2f3b1c2a10"}, &h)
	if h.Status != "ready" || !h.Enabled || h.AutoProvisioning || h.HasOwnCA || h.ProjectID == "" || h.CreatedAt == nil || h.TrustAnchors == nil {
		t.Errorf("created %+v", h)
	}
	path := "/v1/hubs/plant"
	r.want(409, "exists", "POST", "/v1/hubs", NewHub{Name: "plant"}, nil)
	r.want(400, "invalid", "POST", "/v1/hubs", `{"name":"x","secret":1}`, nil)
	r.want(400, "invalid", "POST", "/v1/hubs", `{"name":"x","project_id":"x"}`, nil)
	r.want(409, "no_anchor", "PATCH", path, `{"auto_provisioning":true}`, nil)

	ca, err := pki.NewRoot("Plant root")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	challenge, err := ca.Leaf(h.ID, pki.WithValidity(now.Add(-time.Minute), now.Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	proof := NewAnchor{Certificate: string(pki.EncodeCertificates(ca.Certificate))}
	r.want(400, "challenge_missing", "POST", path+"/anchors", proof, nil)
	proof.Challenge = string(pki.EncodeCertificates(challenge.Certificate))
	var anchor Anchor
	r.want(201, "", "POST", path+"/anchors", proof, &anchor)
	if anchor.AddedBy != "local" || anchor.Waived || anchor.Key == "" || anchor.ExpiresInDays < 3000 || anchor.Subject != "CN=Plant root" {
		t.Errorf("added %+v", anchor)
	}
	r.want(409, "exists", "POST", path+"/anchors", proof, nil)
	r.want(409, "declared", "POST", "/v1/hubs/a/anchors", proof, nil)

	for _, body := range []string{`{"enabled":null}`, `{"enabled":1}`, `{"color":1}`, `[]`, `null`, `{`, ``, `{} {}`} {
		r.want(400, "invalid", "PATCH", path, body, nil)
	}
	r.want(200, "", "PATCH", path, `{"auto_provisioning":true,"events_disabled":true,"events_topic_prefix":"$SCW/events"}`, &h)
	if !h.AutoProvisioning || !h.EventsDisabled || h.EventsTopicPrefix != "$SCW/events" || !h.HasOwnCA {
		t.Errorf("changed to %+v", h)
	}
	r.want(409, "declared", "PATCH", "/v1/hubs/a", `{"enabled":false}`, nil)
	r.want(404, "not_found", "PATCH", "/v1/hubs/nothing", `{"enabled":false}`, nil)

	line, err := ca.Intermediate("Line")
	if err != nil {
		t.Fatal(err)
	}
	var known Intermediates
	r.want(200, "", "POST", path+"/intermediates", NewIntermediates{string(pki.EncodeCertificates(line.Certificate))}, &known)
	if len(known.Intermediates) != 1 || known.Intermediates[0].Source != "uploaded" {
		t.Errorf("intermediates %+v", known)
	}
	r.want(400, "invalid", "DELETE", path+"/intermediates/12", nil, nil)
	r.want(204, "", "DELETE", path+"/intermediates/"+known.Intermediates[0].Fingerprint, nil, nil)

	r.lines["plant"] = ca
	r.connect("plant", "SN-0001") // on a hub that is found by its issuer
	var anchors Anchors
	r.get(path+"/anchors", &anchors)
	if len(anchors.Anchors) != 1 || anchors.Anchors[0].Devices != 1 {
		t.Errorf("anchors %+v", anchors)
	}
	key := strings.Repeat("ab", 32)
	r.want(400, "invalid", "POST", path+"/devices/SN-0001/approve", Approval{"ab"}, nil)
	var approved Device
	r.want(200, "", "POST", path+"/devices/SN-0001/approve", Approval{key}, &approved)
	if approved.CurrentKey != key || approved.FirstKey == key {
		t.Errorf("approved %+v", approved)
	}
	r.want(409, "in_use", "DELETE", path+"/anchors/"+anchor.Fingerprint, nil, nil)
	r.want(409, "last_anchor", "DELETE", path+"/anchors/"+anchor.Fingerprint+"?end_devices=true", nil, nil)
	r.want(200, "", "PATCH", path, `{"auto_provisioning":false}`, nil)
	r.want(204, "", "DELETE", path+"/anchors/"+anchor.Fingerprint+"?end_devices=true", nil, nil)

	r.want(409, "in_use", "DELETE", path, nil, nil)
	r.want(409, "declared", "DELETE", "/v1/hubs/a?with_devices=true", nil, nil)
	r.want(204, "", "DELETE", path+"?with_devices=true", nil, nil)
	r.want(404, "not_found", "GET", path, nil, nil)

	var hubs Hubs
	r.get("/v1/hubs?limit=1", &hubs)
	if len(hubs.Hubs) != 1 || hubs.Hubs[0].Name != "a" || hubs.Next == "" {
		t.Errorf("listed %+v", hubs)
	}
	r.get("/v1/hubs?limit=1&cursor="+hubs.Next, &hubs)
	if len(hubs.Hubs) != 1 || hubs.Hubs[0].Name != "b" {
		t.Errorf("and then %+v", hubs)
	}
}

// TestLifeOfADevice administers a device that is made by hand.
func TestLifeOfADevice(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	all := "/v1/hubs/a/devices"
	path := all + "/SN-0001"
	var d Device
	r.want(201, "", "POST", all, NewDevice{Name: "SN-0001", Description: "pump"}, &d)
	if d.Status != "enabled" || d.FirstKey != "" || d.Anchor != "" || d.Description != "pump" || d.MessageFilters != nil {
		t.Errorf("created %+v", d)
	}
	r.want(409, "exists", "POST", all, NewDevice{Name: "SN-0001"}, nil)
	r.want(400, "invalid", "POST", all, NewDevice{Name: "a/b"}, nil)
	r.want(400, "invalid", "POST", all, `{"name":"x","message_filters":{"publish":{"policy":"maybe","topics":[]},"subscribe":{"policy":"accept","topics":[]}}}`, nil)
	r.connect("a", "SN-0001")
	r.get(path, &d)
	if d.FirstKey == "" || d.Anchor == "" || d.ProvisionedFrom != "192.0.2.7" || d.Description != "pump" {
		t.Errorf("bound as %+v", d)
	}
	filters := &Filters{Publish: Filter{"accept", []string{"a/#"}}, Subscribe: Filter{"reject", []string{"b/+"}}}
	r.want(200, "", "PATCH", path, DeviceChange{MessageFilters: filters}, &d)
	r.want(200, "", "PATCH", path, `{"description":""}`, &d)
	if fmt.Sprint(d.MessageFilters.Publish, d.MessageFilters.Subscribe) != "{accept [a/#]} {reject [b/+]}" || d.Description != "" {
		t.Errorf("changed to %+v", d)
	}
	d = Device{}
	r.want(200, "", "PATCH", path, `{"message_filters":null}`, &d)
	if d.MessageFilters != nil {
		t.Errorf("filters %+v", d.MessageFilters)
	}
	r.want(400, "invalid", "PATCH", path, `{"description":null}`, nil)
	r.want(400, "invalid", "PATCH", path, `{"hub_id":"`+provision.DeclaredHubID("b").String()+`"}`, nil)
	r.want(200, "", "POST", path+"/disable", Ban{"stolen"}, &d)
	if d.Status != "disabled" || d.DisabledReason != "stolen" {
		t.Errorf("banned as %+v", d)
	}
	d = Device{}
	r.want(200, "", "POST", path+"/enable", nil, &d)
	if d.Status != "enabled" || d.DisabledReason != "" {
		t.Errorf("enabled as %+v", d)
	}

	for _, name := range []string{"SN-0002", "other"} {
		r.want(201, "", "POST", all, fmt.Sprintf(`{"name":%q,"enabled":false}`, name), nil)
	}
	for query, want := range map[string]string{
		"enabled=true": "SN-0001", "enabled=false": "SN-0002 other", "name_prefix=SN": "SN-0001 SN-0002", "connected=true": "",
		"anchor=" + url.QueryEscape(d.Anchor): "SN-0001", "name_prefix=SN&enabled=false": "SN-0002",
	} {
		var list Devices
		r.get(all+"?"+query, &list)
		var names []string
		for _, d := range list.Devices {
			names = append(names, d.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	r.want(400, "invalid", "GET", all+"?anchor=12", nil, nil)
	r.want(400, "invalid", "GET", all+"?enabled=maybe", nil, nil)
	r.want(204, "", "DELETE", path, nil, nil)
	r.want(404, "not_found", "GET", path, nil, nil)
}
