package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

var (
	policyKeys = []string{
		"connections", "keys", "revocation", "admission", "max_devices", "first_connections_per_second", "max_session_age", "outage",
		"custom_certificates",
	}
	ruleKeys = []string{"anchor", "name_pattern", "issuer", "claims", "hook"}
)

// maxSessionAge is the most that can be said; more is none.
const maxSessionAge = 10 * 365 * 24 * time.Hour

// policy reads a hub's policy. What is wrong with it is reported here, at its
// line.
func (l *loader) policy(s *section, place *declared) provision.Policy {
	before := len(l.problems)
	p := provision.Policy{
		Connections: provision.ConnectionPolicy(s.choice("connections", "", string(provision.Takeover), string(provision.Reject))),
		Keys: provision.KeyPolicy(s.choice("keys", "",
			string(provision.AcceptKeys), string(provision.PinKeys), string(provision.ApproveKeys))),
		Revocation: provision.RevocationPolicy(s.choice("revocation", "",
			string(provision.AllowUnlisted), string(provision.RefuseUnlisted))),
		MaxDevices:                s.integer("max_devices", 1, provision.MaxDevicesLimit),
		FirstConnectionsPerSecond: s.integer("first_connections_per_second", 0, provision.MaxFirstConnections),
		MaxSessionAge:             s.duration("max_session_age", provision.MinSessionAge, maxSessionAge),
		NoOutage:                  s.choice("outage", "serve", "serve", "refuse") == "refuse",
		CustomCertificates:        s.boolean("custom_certificates", false),
	}
	for i, node := range s.list("admission") {
		if rule := l.section(node, fmt.Sprintf("%s[%d]", s.key("admission"), i), ruleKeys...); rule != nil {
			p.Admission = append(p.Admission, readRule(rule))
		}
	}
	if len(l.problems) > before {
		place.unfit = append(place.unfit, "policy")
		return p
	}
	var wrong *provision.SettingError
	if errors.As(provision.CheckPolicy(p), &wrong) {
		place.unfit = append(place.unfit, "policy")
		s.problem(strings.TrimPrefix(wrong.Field, "policy."), "%s", wrong.Text)
	}
	return p.Normal()
}

func readRule(s *section) provision.AdmissionRule {
	return provision.AdmissionRule{
		Anchor:      s.keyHash("anchor"),
		NamePattern: s.str("name_pattern"),
		Issuer:      s.keyHash("issuer"),
		Claims:      provision.ClaimPolicy(s.choice("claims", "", string(provision.ClaimListed), string(provision.ClaimOnce))),
		Hook:        s.str("hook"),
	}
}

// keyHash reads the SHA-256 of a key.
func (s *section) keyHash(key string) trust.KeyHash {
	if !s.has(key) {
		return trust.KeyHash{}
	}
	text := s.str(key)
	hash, err := trust.ParseKeyHash(text)
	if text != "" && err != nil {
		s.problem(key, "%v; `hubgate anchor list` shows it", err)
	}
	return hash
}
