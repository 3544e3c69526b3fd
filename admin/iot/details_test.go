package iot_test

import (
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	sdk "github.com/scaleway/scaleway-sdk-go/api/iot/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// testHubs: what a client reads back is what it asked for, and what it cannot
// have it is told.
func testHubs(t *testing.T, w *world) {
	tenant := tenant
	tenant.Project = uuid.New() // other tests make hubs in theirs
	c := w.as(t, tenant)
	name := newName()
	h := must(c.CreateHub(&sdk.CreateHubRequest{
		Name: name, ProductPlan: sdk.HubProductPlanPlanHa, DisableEvents: scw.BoolPtr(true), EventsTopicPrefix: scw.StringPtr("$SCW/events"),
	}))(t)
	want := &sdk.Hub{
		ID: h.ID, Name: name, Status: sdk.HubStatusReady, ProductPlan: sdk.HubProductPlanPlanHa, Enabled: true,
		Endpoint: name + "." + domain, DisableEvents: true, EventsTopicPrefix: "$SCW/events", Region: region,
		CreatedAt: h.CreatedAt, UpdatedAt: h.CreatedAt, ProjectID: tenant.Project.String(), OrganizationID: tenant.Project.String(),
	}
	if !reflect.DeepEqual(h, want) || h.CreatedAt == nil || time.Since(*h.CreatedAt) > time.Hour {
		t.Errorf("created is %+v, want %+v", h, want)
	}
	if got := must(c.GetHub(&sdk.GetHubRequest{HubID: h.ID}))(t); !reflect.DeepEqual(got, want) {
		t.Errorf("it is %+v, want %+v", got, want)
	}

	// What Terraform's provider and older SDKs send: nulls, and no plan.
	h = must(c.UpdateHub(&sdk.UpdateHubRequest{HubID: h.ID, DisableEvents: scw.BoolPtr(false)}))(t)
	if h.DisableEvents || h.ProductPlan != sdk.HubProductPlanPlanHa || h.Name != name {
		t.Errorf("updated, it is %+v", h)
	}
	for _, enabled := range []bool{false, true} {
		if enabled {
			h = must(c.EnableHub(&sdk.EnableHubRequest{HubID: h.ID}))(t)
		} else {
			h = must(c.DisableHub(&sdk.DisableHubRequest{HubID: h.ID}))(t)
		}
		h = must(c.WaitForHub(&sdk.WaitForHubRequest{HubID: h.ID, RetryInterval: scw.TimeDurationPtr(time.Millisecond)}))(t)
		if want := pick(enabled, sdk.HubStatusReady, sdk.HubStatusDisabled); h.Status != want || h.Enabled != enabled {
			t.Errorf("the hub is %s, want %s", h.Status, want)
		}
	}

	// A second CA is added to the first, and is what is read back.
	var cas []*pki.Authority
	for range 2 {
		ca := must(pki.NewRoot("CA of " + newName()))(t)
		cas = append(cas, ca)
		must(c.SetHubCA(&sdk.SetHubCARequest{HubID: h.ID, CaCertPem: encode(ca.Certificate), ChallengeCertPem: challenge(t, ca, h.ID)}))(t)
		if got := must(c.GetHubCA(&sdk.GetHubCARequest{HubID: h.ID}))(t); got.CaCertPem != encode(ca.Certificate) {
			t.Errorf("the hub's CA is not the newest")
		}
	}
	if stored := must(w.store.Hub(t.Context(), must(provision.ParseHubID(h.ID))(t)))(t); len(stored.Anchors) != len(cas) {
		t.Errorf("the hub has %d anchors, want %d", len(stored.Anchors), len(cas))
	}

	// Lists.
	second := must(c.CreateHub(&sdk.CreateHubRequest{Name: "a" + newName()}))(t)
	for order, want := range map[sdk.ListHubsRequestOrderBy]string{
		sdk.ListHubsRequestOrderByCreatedAtAsc: h.ID, sdk.ListHubsRequestOrderByCreatedAtDesc: second.ID,
		sdk.ListHubsRequestOrderByNameAsc: second.ID, sdk.ListHubsRequestOrderByNameDesc: h.ID,
		sdk.ListHubsRequestOrderByProductPlanAsc: h.ID, sdk.ListHubsRequestOrderByUpdatedAtDesc: second.ID,
	} {
		list := must(c.ListHubs(&sdk.ListHubsRequest{OrderBy: order, PageSize: scw.Uint32Ptr(1)}, scw.WithAllPages()))(t)
		if len(list.Hubs) != 2 || list.TotalCount != 2 || list.Hubs[0].ID != want {
			t.Errorf("%s: %d hubs, total %d, the first is not the right one", order, len(list.Hubs), list.TotalCount)
		}
	}
	for _, req := range []*sdk.ListHubsRequest{{Name: &name}, {Name: &name, ProjectID: scw.StringPtr(tenant.Project.String())}} {
		if list := must(c.ListHubs(req))(t); len(list.Hubs) != 1 || list.Hubs[0].ID != h.ID {
			t.Errorf("%+v: %+v", req, list)
		}
	}
	if list := must(c.ListHubs(&sdk.ListHubsRequest{OrganizationID: scw.StringPtr(uuid.NewString())}))(t); len(list.Hubs) != 0 {
		t.Errorf("another organization has %+v", list)
	}

	// Another tenant sees nothing of it, and makes none of this project.
	foreign := w.as(t, stranger)
	var missing *scw.ResourceNotFoundError
	if _, err := foreign.GetHub(&sdk.GetHubRequest{HubID: h.ID}); !errors.As(err, &missing) || missing.Resource != "hub" || missing.ResourceID != h.ID {
		t.Errorf("a stranger gets %v", err)
	}
	if err := foreign.DeleteHub(&sdk.DeleteHubRequest{HubID: h.ID}); !errors.As(err, &missing) {
		t.Errorf("a stranger deletes: %v", err)
	}
	if list := must(foreign.ListHubs(&sdk.ListHubsRequest{}))(t); len(list.Hubs) != 0 {
		t.Errorf("a stranger lists %+v", list)
	}
	var denied *scw.PermissionsDeniedError
	if _, err := foreign.CreateHub(&sdk.CreateHubRequest{ProjectID: tenant.Project.String(), Name: newName()}); !errors.As(err, &denied) {
		t.Errorf("a stranger creates: %v", err)
	}
}

// testDevices: what is set of a device is what is read back.
func testDevices(t *testing.T, w *world) {
	c := w.as(t, operator)
	hub := w.newHub(t, w.as(t, admin)).ID.String()
	rule := func(policy sdk.DeviceMessageFiltersRulePolicy, topics ...string) *sdk.DeviceMessageFiltersRule {
		topics = append([]string{}, topics...)
		return &sdk.DeviceMessageFiltersRule{Policy: policy, Topics: &topics}
	}
	const accept, reject = sdk.DeviceMessageFiltersRulePolicyAccept, sdk.DeviceMessageFiltersRulePolicyReject
	answer := must(c.CreateDevice(&sdk.CreateDeviceRequest{HubID: hub, Name: "SN-1", Description: scw.StringPtr("one")}))(t)
	if *answer.Certificate != (sdk.Certificate{}) {
		t.Errorf("a certificate was signed: %+v", answer.Certificate)
	}
	d := answer.Device
	never := time.Unix(0, 0).UTC()
	want := &sdk.Device{
		ID: d.ID, Name: "SN-1", Description: "one", Status: sdk.DeviceStatusEnabled, HubID: hub, LastActivityAt: &never,
		MessageFilters: &sdk.DeviceMessageFilters{Publish: rule(reject), Subscribe: rule(reject)},
		CreatedAt:      d.CreatedAt, UpdatedAt: d.CreatedAt, Region: region,
	}
	if !reflect.DeepEqual(d, want) || d.CreatedAt == nil {
		t.Errorf("created is %+v, want %+v", d, want)
	}
	if got := must(c.GetDevice(&sdk.GetDeviceRequest{DeviceID: d.ID}))(t); !reflect.DeepEqual(got, want) {
		t.Errorf("it is %+v, want %+v", got, want)
	}
	if got := must(c.GetDeviceCertificate(&sdk.GetDeviceCertificateRequest{DeviceID: d.ID}))(t); got.Device.ID != d.ID || got.CertificatePem != "" {
		t.Errorf("its certificate is %+v", got)
	}
	for _, step := range []struct {
		change, want sdk.DeviceMessageFilters
	}{
		{sdk.DeviceMessageFilters{Publish: rule(accept, "a/+", "b/#")}, sdk.DeviceMessageFilters{Publish: rule(accept, "a/+", "b/#"), Subscribe: rule(reject)}},
		{sdk.DeviceMessageFilters{Subscribe: rule(accept)}, sdk.DeviceMessageFilters{Publish: rule(accept, "a/+", "b/#"), Subscribe: rule(accept)}},
		{sdk.DeviceMessageFilters{Publish: rule(reject), Subscribe: &sdk.DeviceMessageFiltersRule{Policy: reject}}, sdk.DeviceMessageFilters{Publish: rule(reject), Subscribe: rule(reject)}},
	} {
		d = must(c.UpdateDevice(&sdk.UpdateDeviceRequest{DeviceID: d.ID, MessageFilters: &step.change, AllowInsecure: scw.BoolPtr(true), HubID: &hub}))(t)
		if !reflect.DeepEqual(d.MessageFilters, &step.want) || !d.AllowInsecure || d.Description != "one" {
			t.Errorf("updated, it is %+v", d)
		}
	}
	stored := must(w.store.Device(t.Context(), must(provision.ParseHubID(hub))(t), "SN-1"))(t)
	if stored.Filters != nil {
		t.Errorf("filters that let all through are kept as %+v", stored.Filters)
	}

	// Its ID is no key to it for others.
	var missing *scw.ResourceNotFoundError
	foreign := w.as(t, stranger)
	if _, err := foreign.GetDevice(&sdk.GetDeviceRequest{DeviceID: d.ID}); !errors.As(err, &missing) || missing.Resource != "device" || missing.ResourceID != d.ID {
		t.Errorf("a stranger gets %v", err)
	}
	if err := foreign.DeleteDevice(&sdk.DeleteDeviceRequest{DeviceID: d.ID}); !errors.As(err, &missing) {
		t.Errorf("a stranger deletes: %v", err)
	}
}

// testDeclared: a hub of a file can be read, and nothing of it changed but its
// devices. The answer names the file.
func testDeclared(t *testing.T, w *world) {
	c := w.as(t, admin)
	ca := must(pki.NewRoot("CA of a declared hub"))(t)
	hub := provision.Hub{ID: provision.DeclaredHubID("declared"), Name: "declared", Declared: "hubgate.yaml", Anchors: [][]byte{ca.Certificate.Raw}}
	if err := w.gate.Declare(t.Context(), []provision.Hub{hub}); err != nil {
		t.Fatal(err)
	}
	id := hub.ID.String()
	before := must(c.GetHub(&sdk.GetHubRequest{HubID: id}))(t)
	_, renaming := c.UpdateHub(&sdk.UpdateHubRequest{HubID: id, Name: scw.StringPtr(newName())})
	_, disabling := c.DisableHub(&sdk.DisableHubRequest{HubID: id})
	_, installing := c.SetHubCA(&sdk.SetHubCARequest{HubID: id, CaCertPem: encode(ca.Certificate), ChallengeCertPem: challenge(t, ca, id)})
	deleting := c.DeleteHub(&sdk.DeleteHubRequest{HubID: id})
	for what, err := range map[string]error{"rename": renaming, "disable": disabling, "install": installing, "delete": deleting} {
		var plain *scw.ResponseError
		if !errors.As(err, &plain) || plain.StatusCode != http.StatusConflict || !strings.Contains(err.Error(), "hubgate.yaml") {
			t.Errorf("%s: %v, want 409 and the file", what, err)
		}
	}
	if after := must(c.GetHub(&sdk.GetHubRequest{HubID: id}))(t); !reflect.DeepEqual(after, before) {
		t.Errorf("the hub is now %+v, and was %+v", after, before)
	}
	must(c.CreateDevice(&sdk.CreateDeviceRequest{HubID: id, Name: "SN-1"}))(t)
}

// testBadInput: a request that makes no sense is told why, and changes nothing.
func testBadInput(t *testing.T, w *world) {
	c := w.as(t, admin)
	hub := w.newHub(t, c)
	under := "/iot/v1/regions/" + region
	hubPath, devices := under+"/hubs/"+hub.ID.String(), under+"/devices"
	for _, tt := range []struct {
		method, path, body string
		status             int
		kind, says         string
	}{
		{"GET", "/iot/v1/regions/nl-ams/hubs", "", 404, "not_found", "fr-par"},
		{"GET", "/iot/v1beta1/regions/fr-par/hubs", "", 404, "not_found", "/iot/v1/regions/fr-par/"},
		{"GET", under + "/clusters", "", 404, "not_found", ""},
		{"PUT", hubPath, "{}", 405, "method_not_allowed", "PATCH"},
		{"GET", under + "/hubs?page=0", "", 400, "invalid_arguments", "page"},
		{"GET", under + "/hubs?page=x", "", 400, "invalid_arguments", "page"},
		{"GET", under + "/hubs?page_size=101", "", 400, "invalid_arguments", "page_size"},
		{"GET", under + "/hubs?project_id=x", "", 400, "invalid_arguments", "project_id"},
		{"GET", under + "/hubs?order=name", "", 400, "invalid_arguments", "order_by"},
		{"GET", under + "/hubs?name=a&name=b", "", 400, "invalid_arguments", "name"},
		{"GET", devices + "?allow_insecure=perhaps", "", 400, "invalid_arguments", "allow_insecure"},
		{"GET", devices + "?status=tired", "", 400, "invalid_arguments", "status"},
		{"DELETE", hubPath + "?delete_devices=maybe", "", 400, "invalid_arguments", "delete_devices"},
		{"POST", under + "/hubs", `{"name": "x", "color": "red"}`, 400, "invalid_arguments", "color"},
		{"POST", under + "/hubs", `{"name": 7}`, 400, "invalid_arguments", "name"},
		{"POST", under + "/hubs", `{"name": "`, 400, "invalid_arguments", "body"},
		{"POST", under + "/hubs", `{} {}`, 400, "invalid_arguments", "body"},
		{"POST", under + "/hubs", `[]`, 400, "invalid_arguments", "body"},
		{"POST", under + "/hubs", `{"name": "Factory"}`, 400, "invalid_arguments", "lowercase"},
		{"POST", under + "/hubs", `{"name": "x", "product_plan": "plan_free"}`, 400, "invalid_arguments", "plan_shared"},
		{"POST", under + "/hubs", `{"name": "x", "project_id": "mine"}`, 400, "invalid_arguments", "project_id"},
		{"POST", under + "/hubs", `{"name": "x", "events_topic_prefix": "a/#"}`, 400, "invalid_arguments", "events_topic_prefix"},
		{"POST", under + "/hubs", `{"name": "x", "twins_graphite_config": {"push_uri": "u"}}`, 501, "not_implemented", "Twins"},
		{"POST", under + "/hubs", `{"name": "` + strings.Repeat("a", 1<<20) + `"}`, 413, "too_large", ""},
		{"POST", hubPath + "/enable", `{"force": true}`, 400, "invalid_arguments", "force"},
		{"POST", hubPath + "/ca", `{}`, 400, "invalid_arguments", "ca_cert_pem"},
		{"POST", hubPath + "/ca", `{"ca_cert_pem": "hello"}`, 400, "invalid_arguments", "ca_cert_pem"},
		{"POST", devices, `{"name": "SN-1"}`, 400, "invalid_arguments", "hub_id"},
		{"POST", devices, `{"name": "a/b", "hub_id": "` + hub.ID.String() + `"}`, 400, "invalid_arguments", "name"},
		{"POST", devices, `{"name": "SN-1", "hub_id": "` + hub.ID.String() + `", "allow_insecure": "yes"}`, 400, "invalid_arguments", "allow_insecure"},
		{"POST", devices, `{"name": "SN-1", "hub_id": "` + hub.ID.String() + `", "message_filters": {"publish": {"policy": "unknown"}}}`, 400, "invalid_arguments", "accept"},
		{"POST", devices, `{"name": "SN-1", "hub_id": "` + hub.ID.String() + `", "message_filters": {"publish": {"policy": "accept", "topics": ["a#"]}}}`, 400, "invalid_arguments", "message_filters.publish"},
	} {
		status, text := w.do(t, c, tt.method, tt.path, "application/json", tt.body)
		if status != tt.status || !strings.Contains(text, `"type":"`+tt.kind+`"`) || !strings.Contains(text, tt.says) {
			t.Errorf("%s %s %.100s: %d %s, want %d, %s, %q", tt.method, tt.path, tt.body, status, text, tt.status, tt.kind, tt.says)
		}
	}
	if status, text := w.do(t, c, "POST", hubPath+"/disable", "text/plain", "{}"); status != http.StatusUnsupportedMediaType {
		t.Errorf("a body of plain text: %d %s", status, text)
	}
	after := must(w.store.Hub(t.Context(), hub.ID))(t)
	if n := must(w.store.CountDevices(t.Context(), hub.ID))(t); n != 0 || !reflect.DeepEqual(after, hub) {
		t.Errorf("%d devices came to be; the hub is %+v, and was %+v", n, after, hub)
	}
}

// do makes a request by hand.
func (w *world) do(t *testing.T, c *client, method, path, media, body string) (int, string) {
	t.Helper()
	r := must(http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body)))(t)
	r.Header.Set("X-Auth-Token", c.secret)
	r.Header.Set("Content-Type", media)
	response := must(http.DefaultClient.Do(r))(t) //nolint:bodyclose // it is, below
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode, string(must(io.ReadAll(response.Body))(t))
}
