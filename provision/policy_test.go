package provision_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

func TestPoliciesAreChecked(t *testing.T) {
	t.Parallel()
	rule := func(r provision.AdmissionRule) provision.Policy {
		return provision.Policy{Admission: []provision.AdmissionRule{r}}
	}
	for name, c := range map[string]struct {
		policy provision.Policy
		field  string // "" = it is fit
	}{
		"the default":            {provision.Policy{}, ""},
		"the default, in full":   {provision.Policy{}.Full(), ""},
		"connections":            {provision.Policy{Connections: "share"}, "policy.connections"},
		"keys":                   {provision.Policy{Keys: "any"}, "policy.keys"},
		"revocation":             {provision.Policy{Revocation: "maybe"}, "policy.revocation"},
		"no devices":             {provision.Policy{MaxDevices: -1}, "policy.max_devices"},
		"too many devices":       {provision.Policy{MaxDevices: provision.MaxDevicesLimit + 1}, "policy.max_devices"},
		"a negative rate":        {provision.Policy{FirstConnectionsPerSecond: -1}, "policy.first_connections_per_second"},
		"an age of seconds":      {provision.Policy{MaxSessionAge: time.Second}, "policy.max_session_age"},
		"a negative age":         {provision.Policy{MaxSessionAge: -time.Hour}, "policy.max_session_age"},
		"a newer version's":      {provision.Policy{Newer: []byte{1}}, "policy"},
		"too many rules":         {provision.Policy{Admission: make([]provision.AdmissionRule, provision.MaxAdmissionRules+1)}, "policy.admission"},
		"a rule of an anchor":    {rule(provision.AdmissionRule{Anchor: trust.KeyHash{1}}), "policy.admission[0]"},
		"a pattern":              {rule(provision.AdmissionRule{NamePattern: `SN-[0-9]+`}), ""},
		"no pattern":             {rule(provision.AdmissionRule{NamePattern: `SN-[0-9`}), "policy.admission[0]"},
		"a pattern that escapes": {rule(provision.AdmissionRule{NamePattern: `a)|(?:b`}), "policy.admission[0]"},
		"a long pattern":         {rule(provision.AdmissionRule{NamePattern: strings.Repeat("a", provision.MaxNamePattern+1)}), "policy.admission[0]"},
		"a costly pattern":       {rule(provision.AdmissionRule{NamePattern: `(((a{1,100}){1,100}){1,100})`}), "policy.admission[0]"},
		"a large pattern":        {rule(provision.AdmissionRule{NamePattern: `(?:ab){999}`}), ""},
		"a pattern that grows":   {rule(provision.AdmissionRule{NamePattern: `(?:ab){1000}`}), "policy.admission[0]"},
		"claims":                 {rule(provision.AdmissionRule{Claims: "twice"}), "policy.admission[0]"},
		"a hook":                 {rule(provision.AdmissionRule{Hook: "https://hook.example.com/x?y=z"}), ""},
		"a hook without TLS":     {rule(provision.AdmissionRule{Hook: "http://hook.example.com/"}), "policy.admission[0]"},
		"a hook without a host":  {rule(provision.AdmissionRule{Hook: "https:///x"}), "policy.admission[0]"},
		"a hook's password":      {rule(provision.AdmissionRule{Hook: "https://a:b@hook.example.com/"}), "policy.admission[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := provision.CheckPolicy(c.policy)
			var wrong *provision.SettingError
			switch {
			case c.field == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.field != "" && (!errors.As(err, &wrong) || wrong.Field != c.field):
				t.Errorf("%v, want a mistake of %s", err, c.field)
			}
		})
	}
}

func TestEqualPolicies(t *testing.T) {
	t.Parallel()
	rule := provision.AdmissionRule{NamePattern: "a"}
	other := provision.AdmissionRule{NamePattern: "b"}
	if !(provision.Policy{}).Equal(provision.Policy{}.Full()) {
		t.Error("the default is not the default written out")
	}
	policies := []provision.Policy{
		{}, {Connections: provision.Reject}, {Keys: provision.PinKeys}, {Revocation: provision.RefuseUnlisted}, {MaxDevices: 1},
		{FirstConnectionsPerSecond: 1}, {MaxSessionAge: time.Hour}, {NoOutage: true}, {Newer: []byte{1}},
		{Admission: []provision.AdmissionRule{rule}}, {Admission: []provision.AdmissionRule{rule, other}}, {Admission: []provision.AdmissionRule{other, rule}},
	}
	for i, a := range policies {
		for j, b := range policies {
			if a.Equal(b) != (i == j) {
				t.Errorf("%+v equal %+v: %t", a, b, a.Equal(b))
			}
		}
	}
}

func TestAHubWithARuleThatIsNotUnderstoodDoesNotServe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate))
	conn := over(leaf(t, vendor, "SN-1"), sni("factory.iot.example.com"))
	r.expect(conn, provision.DeviceProvisioned)
	if _, err := r.store.UpdateHub(t.Context(), hub.ID,
		func(h *provision.Hub) error { h.Policy.Newer = []byte{0xc2, 0x3e, 0}; return nil },
		func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	r.eventually("hub_unknown", func() bool { return r.gate.Admit(t.Context(), conn).Reason == provision.HubUnknown })
}
