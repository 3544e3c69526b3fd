package admin

import (
	"time"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// Policy is what a hub's owner decides beyond whom to trust.
type Policy struct {
	// Connections: takeover ends the older connection of a device that may hold
	// one, reject refuses the newer one.
	Connections string `json:"connections" enum:"takeover,reject"`
	// Keys says what becomes of a known device that comes with another key.
	Keys string `json:"keys" enum:"accept,pin,approve"`
	// Revocation says what becomes of a certificate for which there should be a
	// revocation list and is none that is current.
	Revocation string `json:"revocation" enum:"allow,refuse"`
	// Admission are the rules that an unseen device has to meet, all of them.
	Admission []AdmissionRule `json:"admission"`
	// MaxDevices bounds the devices that create themselves.
	MaxDevices int `json:"max_devices"`
	// FirstConnectionsPerSecond bounds how many do so, on all replicas together;
	// 0 is no bound.
	FirstConnectionsPerSecond int `json:"first_connections_per_second"`
	// MaxSessionAge is how old a connection may get, such as 24h0m0s; 0s is no
	// bound.
	MaxSessionAge string `json:"max_session_age"`
	// Outage: serve lets known devices in while the store does not answer, for
	// some minutes; refuse does not.
	Outage string `json:"outage" enum:"serve,refuse"`
	// CustomCertificates lets devices in with custom certificates that verify under
	// no trust anchor of the hub.
	CustomCertificates bool `json:"custom_certificates"`
}

// PolicyChange is an edit of a policy: what is not given stays.
type PolicyChange struct {
	Connections *string `json:"connections,omitempty" enum:"takeover,reject"`
	Keys        *string `json:"keys,omitempty" enum:"accept,pin,approve"`
	Revocation  *string `json:"revocation,omitempty" enum:"allow,refuse"`
	// Admission replaces all rules; an empty list removes them.
	Admission                 []AdmissionRule `json:"admission,omitempty"`
	MaxDevices                *int            `json:"max_devices,omitempty"`
	FirstConnectionsPerSecond *int            `json:"first_connections_per_second,omitempty"`
	MaxSessionAge             *string         `json:"max_session_age,omitempty"`
	Outage                    *string         `json:"outage,omitempty" enum:"serve,refuse"`
	CustomCertificates        *bool           `json:"custom_certificates,omitempty"`
}

// AdmissionRule is one rule for unseen devices. Everything it says has to be
// met.
type AdmissionRule struct {
	// Anchor is the key (SHA-256) of the trust anchor whose devices the rule is
	// for; without it, it is for those of every anchor.
	Anchor string `json:"anchor,omitempty"`
	// NamePattern is a regular expression (RE2) that the whole name has to match:
	// at most 512 bytes, compiled to at most 2,000 instructions.
	NamePattern string `json:"name_pattern,omitempty"`
	// Issuer is the key (SHA-256) of the CA that has to have issued the leaf.
	Issuer string `json:"issuer,omitempty"`
	// Claims: listed takes names that are on the hub's claim list, once takes
	// each of them a single time.
	Claims string `json:"claims,omitempty" enum:"listed,once"`
	// Hook is the https URL that is asked.
	Hook string `json:"hook,omitempty" format:"uri"`
}

// outages are the words for Policy.NoOutage.
var outages = map[bool]string{false: "serve", true: "refuse"}

func showPolicy(p provision.Policy) Policy {
	p = p.Full()
	shown := Policy{
		Connections: string(p.Connections), Keys: string(p.Keys), Revocation: string(p.Revocation),
		Admission: make([]AdmissionRule, len(p.Admission)), MaxDevices: p.MaxDevices,
		FirstConnectionsPerSecond: p.FirstConnectionsPerSecond, MaxSessionAge: p.MaxSessionAge.String(), Outage: outages[p.NoOutage],
		CustomCertificates: p.CustomCertificates,
	}
	for i, r := range p.Admission {
		shown.Admission[i] = AdmissionRule{
			Anchor: keyText(r.Anchor), NamePattern: r.NamePattern, Issuer: keyText(r.Issuer), Claims: string(r.Claims), Hook: r.Hook,
		}
	}
	return shown
}

// keyText is empty for the zero hash.
func keyText(k trust.KeyHash) string {
	if k == (trust.KeyHash{}) {
		return ""
	}
	return k.String()
}

// change reads what the API was told; nil if it was told nothing.
func (c *PolicyChange) change() (*fleet.PolicyChange, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // no change is none
	}
	for name, value := range map[string]*string{"connections": c.Connections, "keys": c.Keys, "revocation": c.Revocation} {
		if value != nil && *value == "" {
			return nil, invalid("policy.%s: is empty; leave it out, and it stays as it is", name)
		}
	}
	change := &fleet.PolicyChange{
		Connections:               (*provision.ConnectionPolicy)(c.Connections),
		Keys:                      (*provision.KeyPolicy)(c.Keys),
		Revocation:                (*provision.RevocationPolicy)(c.Revocation),
		MaxDevices:                c.MaxDevices,
		FirstConnectionsPerSecond: c.FirstConnectionsPerSecond,
		CustomCertificates:        c.CustomCertificates,
	}
	if c.MaxSessionAge != nil {
		age, err := time.ParseDuration(*c.MaxSessionAge)
		if err != nil {
			return nil, invalid("policy.max_session_age: %q is no time such as 24h or 30m", *c.MaxSessionAge)
		}
		change.MaxSessionAge = &age
	}
	if c.Outage != nil {
		refuse := *c.Outage == outages[true]
		if !refuse && *c.Outage != outages[false] {
			return nil, invalid("policy.outage: %q is neither serve nor refuse", *c.Outage)
		}
		change.NoOutage = &refuse
	}
	if c.Admission == nil {
		return change, nil
	}
	change.Admission = make([]provision.AdmissionRule, len(c.Admission))
	for i, r := range c.Admission {
		rule := provision.AdmissionRule{NamePattern: r.NamePattern, Claims: provision.ClaimPolicy(r.Claims), Hook: r.Hook}
		for _, key := range []struct {
			name, text string
			hash       *trust.KeyHash
		}{{"anchor", r.Anchor, &rule.Anchor}, {"issuer", r.Issuer, &rule.Issuer}} {
			hash, err := trust.ParseKeyHash(key.text)
			if key.text != "" && err != nil {
				return nil, invalid("policy.admission[%d].%s: %s", i, key.name, err)
			}
			*key.hash = hash
		}
		change.Admission[i] = rule
	}
	return change, nil
}
