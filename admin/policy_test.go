package admin

import (
	"reflect"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

func TestPolicyOfAHub(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var h Hub
	r.want(201, "", "POST", "/v1/hubs", `{"name":"plant","policy":{"connections":"reject","max_devices":7}}`, &h)
	want := showPolicy(provision.Policy{Connections: provision.Reject, MaxDevices: 7})
	if !reflect.DeepEqual(h.Policy, want) {
		t.Errorf("created with %+v, want %+v", h.Policy, want)
	}
	path := "/v1/hubs/plant"
	r.want(200, "", "PATCH", path, `{"policy":{"keys":"pin","max_session_age":"24h","outage":"refuse","first_connections_per_second":5,
		"admission":[{"name_pattern":"SN-.*","claims":"once"},{"hook":"https://hook.example.com/"}]}}`, &h)
	want.Keys, want.MaxSessionAge, want.Outage, want.FirstConnectionsPerSecond = "pin", "24h0m0s", "refuse", 5
	want.Admission = []AdmissionRule{{NamePattern: "SN-.*", Claims: "once"}, {Hook: "https://hook.example.com/"}}
	if !reflect.DeepEqual(h.Policy, want) {
		t.Errorf("changed to %+v, want %+v", h.Policy, want)
	}
	changed := *h.UpdatedAt
	r.want(200, "", "PATCH", path, `{"policy":{"keys":"pin"}}`, &h)
	if !h.UpdatedAt.Equal(changed) {
		t.Error("a change of nothing is a change")
	}
	r.want(200, "", "PATCH", path, `{"policy":{"admission":[]}}`, &h)
	if len(h.Policy.Admission) != 0 || h.Policy.Keys != "pin" {
		t.Errorf("without rules: %+v", h.Policy)
	}
	for _, policy := range []string{
		`null`, `[]`, `{"keys":null}`, `{"keys":"any"}`, `{"key":"pin"}`, `{"connections":""}`, `{"max_devices":0.5}`, `{"max_devices":-1}`,
		`{"max_session_age":"1s"}`, `{"max_session_age":"a day"}`, `{"outage":"off"}`, `{"revocation":1}`, `{"admission":null}`,
		`{"admission":[{}]}`, `{"admission":[{"anchor":"x","claims":"once"}]}`, `{"admission":[{"hook":"http://x/"}]}`,
	} {
		r.want(400, "invalid", "PATCH", path, `{"policy":`+policy+`}`, nil)
		r.want(400, "invalid", "POST", "/v1/hubs", `{"name":"other","policy":`+policy+`}`, nil)
	}
	r.want(404, "", "GET", "/v1/hubs/other", nil, nil)
}
