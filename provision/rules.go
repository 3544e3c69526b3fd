package provision

import (
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"

	"github.com/hubgate/hubgate/trust"
)

// Rules are what a hub's policy says of devices, compiled once per hub. They are
// immutable.
type Rules struct {
	keys      KeyPolicy
	admission []admissionRule
	groups    map[trust.KeyHash]string // rotation groups, by anchor
}

type admissionRule struct {
	AdmissionRule
	name *regexp.Regexp // nil: any name
}

// NewRules compiles a hub's policy.
func NewRules(h Hub) (*Rules, error) {
	r := &Rules{keys: h.Policy.Full().Keys}
	for _, facts := range h.AnchorFacts {
		if facts.Group != "" { // as few hubs have; the others' anchors need no look
			if err := r.readGroups(h); err != nil {
				return nil, err
			}
			break
		}
	}
	for i, rule := range h.Policy.Admission {
		name, err := compileNamePattern(rule.NamePattern)
		if err != nil {
			return nil, fmt.Errorf("admission rule %d: name_pattern: %w", i+1, err)
		}
		r.admission = append(r.admission, admissionRule{rule, name})
	}
	return r, nil
}

func (r *Rules) readGroups(h Hub) error {
	r.groups = make(map[trust.KeyHash]string)
	for _, der := range h.Anchors {
		facts, ok := h.AnchorFacts[trust.FingerprintOfDER(der)]
		if !ok || facts.Group == "" {
			continue
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("trust anchors: %w", err)
		}
		r.groups[trust.KeyHashOf(c)] = facts.Group
	}
	return nil
}

// fits reports whether a rule is for devices of that anchor. One that is for an
// anchor is for those of its rotation group: else the successor of a CA would
// admit what the CA may not.
func (r *Rules) fits(rule admissionRule, anchor trust.KeyHash) bool {
	return rule.Anchor == trust.KeyHash{} || r.together(rule.Anchor, anchor)
}

// covers reports whether an admission rule is for devices of that anchor, and so
// for none the chain alone is enough.
func (r *Rules) covers(anchor trust.KeyHash) bool {
	return slices.ContainsFunc(r.admission, func(rule admissionRule) bool { return r.fits(rule, anchor) })
}

// CheckRules reports an admission rule for an anchor that the hub does not have:
// it would never be asked for. It is a *SettingError.
func CheckRules(h Hub) error {
	anchors, err := parseAll(h.Anchors)
	if err != nil {
		return err
	}
	for i, rule := range h.Policy.Admission {
		if rule.Anchor != (trust.KeyHash{}) &&
			!slices.ContainsFunc(anchors, func(c *x509.Certificate) bool { return trust.KeyHashOf(c) == rule.Anchor }) {
			return &SettingError{fmt.Sprintf("policy.admission[%d]", i),
				fmt.Sprintf("anchor: no trust anchor of the hub has the key %s", rule.Anchor)}
		}
	}
	return nil
}

// refusal says which rule an unseen device does not meet by its certificate, ""
// if it meets all. What the claim list and hooks say is not looked at.
func (r *Rules) refusal(i *Identity) string {
	for n, rule := range r.admission {
		switch {
		case !r.fits(rule, i.Anchor):
		case rule.name != nil && !rule.name.MatchString(i.Name):
			return fmt.Sprintf("admission rule %d: the name does not match %q", n+1, rule.NamePattern)
		case rule.Issuer != trust.KeyHash{} && rule.Issuer != i.Issuer:
			return fmt.Sprintf("admission rule %d: the key of the CA that issued the leaf is %s, not %s", n+1, i.Issuer, rule.Issuer)
		}
	}
	return ""
}

// claim is what the hub's claim list has to say of an unseen device of that
// anchor: the strictest that a rule asks for.
func (r *Rules) claim(anchor trust.KeyHash) ClaimPolicy {
	claim := NoClaims
	for _, rule := range r.admission {
		if r.fits(rule, anchor) && (rule.Claims == ClaimOnce || claim == NoClaims) {
			claim = rule.Claims
		}
	}
	return claim
}

// hooks are the URLs that are asked about an unseen device of that anchor, each
// once.
func (r *Rules) hooks(anchor trust.KeyHash) []string {
	var urls []string
	for _, rule := range r.admission {
		if rule.Hook != "" && r.fits(rule, anchor) && !slices.Contains(urls, rule.Hook) {
			urls = append(urls, rule.Hook)
		}
	}
	return urls
}

// together reports whether a device that one anchor admitted is at home under
// the other: it is the same, or of one rotation group.
func (r *Rules) together(a, b trust.KeyHash) bool {
	return a == b || r.groups[a] != "" && r.groups[a] == r.groups[b]
}
