package fleet

import (
	"errors"
	"slices"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// PolicyChange is an edit of a hub's policy; what is nil stays.
type PolicyChange struct {
	Connections               *provision.ConnectionPolicy
	Keys                      *provision.KeyPolicy
	Revocation                *provision.RevocationPolicy
	Admission                 []provision.AdmissionRule // replaces all rules
	MaxDevices                *int
	FirstConnectionsPerSecond *int
	MaxSessionAge             *time.Duration
	NoOutage                  *bool
	CustomCertificates        *bool
}

// apply returns the policy after the change.
func (c *PolicyChange) apply(p provision.Policy) (provision.Policy, error) {
	if c == nil {
		return p, nil
	}
	set(&p.Connections, c.Connections)
	set(&p.Keys, c.Keys)
	set(&p.Revocation, c.Revocation)
	set(&p.MaxDevices, c.MaxDevices)
	set(&p.FirstConnectionsPerSecond, c.FirstConnectionsPerSecond)
	set(&p.MaxSessionAge, c.MaxSessionAge)
	set(&p.NoOutage, c.NoOutage)
	set(&p.CustomCertificates, c.CustomCertificates)
	if c.Admission != nil {
		p.Admission = slices.Clone(c.Admission)
	}
	if err := policyError(provision.CheckPolicy(p)); err != nil {
		return p, err
	}
	return p.Normal(), nil
}

// policyError is what is wrong with a policy, as a Refusal.
func policyError(err error) error {
	var setting *provision.SettingError
	if errors.As(err, &setting) {
		return invalid(setting.Field, "%s", err)
	}
	return err
}
