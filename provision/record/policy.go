package record

import (
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record/recordpb"
	"github.com/hubgate/hubgate/trust"
)

// policyPB is nil for the default policy.
func policyPB(p provision.Policy) (*recordpb.Policy, error) {
	p = p.Normal()
	if p.Equal(provision.Policy{}) {
		return nil, nil //nolint:nilnil // the default takes no bytes
	}
	if p.Newer != nil {
		var m recordpb.Policy
		return &m, proto.Unmarshal(p.Newer, &m)
	}
	m := &recordpb.Policy{
		Connections: string(p.Connections), Keys: string(p.Keys), Revocation: string(p.Revocation),
		MaxDevices: uint32(p.MaxDevices), FirstConnectionsPerSecond: uint32(p.FirstConnectionsPerSecond),
		MaxSessionAge: int64(p.MaxSessionAge), NoOutage: p.NoOutage, CustomCertificates: p.CustomCertificates,
	}
	m.Admission = rulesPB(p.Admission)
	return m, nil
}

func rulesPB(all []provision.AdmissionRule) []*recordpb.AdmissionRule {
	var m []*recordpb.AdmissionRule
	for _, r := range all {
		m = append(m, &recordpb.AdmissionRule{
			Anchor: hashPB(r.Anchor), NamePattern: r.NamePattern, Issuer: hashPB(r.Issuer), Claims: string(r.Claims), Hook: r.Hook,
		})
	}
	return m
}

func rules(m []*recordpb.AdmissionRule) ([]provision.AdmissionRule, error) {
	var all []provision.AdmissionRule
	for _, r := range m {
		rule := provision.AdmissionRule{NamePattern: r.NamePattern, Claims: provision.ClaimPolicy(r.Claims), Hook: r.Hook}
		var errs [2]error
		rule.Anchor, errs[0] = keyHash(r.Anchor, trust.KeyHash{})
		rule.Issuer, errs[1] = keyHash(r.Issuer, trust.KeyHash{})
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		all = append(all, rule)
	}
	return all, nil
}

// policy reads a policy.
func policy(m *recordpb.Policy) (provision.Policy, error) {
	if m == nil {
		return provision.Policy{}, nil
	}
	p := provision.Policy{
		Connections: provision.ConnectionPolicy(m.Connections), Keys: provision.KeyPolicy(m.Keys),
		Revocation: provision.RevocationPolicy(m.Revocation),
		MaxDevices: int(m.MaxDevices), FirstConnectionsPerSecond: int(m.FirstConnectionsPerSecond),
		MaxSessionAge: time.Duration(m.MaxSessionAge), NoOutage: m.NoOutage, CustomCertificates: m.CustomCertificates,
	}
	var err error
	if p.Admission, err = rules(m.Admission); err != nil {
		return p, err
	}
	p = p.Normal()
	newer := len(m.ProtoReflect().GetUnknown()) > 0 || slices.ContainsFunc(m.Admission, func(r *recordpb.AdmissionRule) bool {
		return len(r.ProtoReflect().GetUnknown()) > 0
	})
	if newer {
		p.Newer, err = marshal(m)
	}
	return p, err
}
