package provision

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/hubgate/hubgate/trust"
)

// HubError is one thing that is wrong with a set of hubs.
type HubError struct {
	Hub   int    // index of the hub in the set
	Field string // as in the configuration file: "name", "trust_anchors", …
	Item  int    // index in the field's list, -1 if it is none
	Err   error
}

// Error returns the cause.
func (e *HubError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *HubError) Unwrap() error { return e.Err }

// ErrRelated is about two hubs of which one could admit the other's devices.
var ErrRelated = errors.New("trusts the same CA")

// CheckTrust reports the first thing that keeps a hub from serving beside the
// others by what it trusts, nil if nothing does. What is wrong among the others
// is not looked at.
func CheckTrust(h Hub, others []Hub) *HubError {
	all := append(slices.Clone(others), h)
	for _, e := range CheckHubs(all) {
		if e.Hub == len(others) && e.Field == "trust_anchors" {
			return e
		}
	}
	return nil
}

// CheckHubs reports everything that keeps these hubs from serving side by side:
// names and IDs that clash, certificates that cannot be anchors, an anchor that
// another hub trusts too (itself, its issuer or what it issued) unless both keep
// their devices apart, and more than four anchors of one subject among hubs that
// are found by issuer. Of a hub that is found by SNI alone only its anchors are
// trusted here, not the intermediates below them.
func CheckHubs(hubs []Hub) []*HubError {
	var errs []*HubError
	add := func(hub int, field string, item int, err error) {
		errs = append(errs, &HubError{Hub: hub, Field: field, Item: item, Err: err})
	}
	byName, byID := map[string]int{}, map[HubID]int{}
	subjects := map[string]int{}
	bundles := make([]*trust.Bundle, len(hubs))
	apart := make([]bool, len(hubs))
	near := map[string][]int{} // names and keys, and the hubs that have them
	for i, h := range hubs {
		if err := CheckHubName(h.Name); err != nil {
			add(i, "name", -1, err)
		} else if _, ok := byName[h.Name]; ok {
			add(i, "name", -1, fmt.Errorf("hub name %q is used twice", h.Name))
		}
		same, twice := byID[h.ID]
		if twice && hubs[same].Name != h.Name { // else the ID follows from the name
			add(i, "id", -1, fmt.Errorf("hub ID %s is used twice", h.ID))
		}
		byName[h.Name], byID[h.ID] = i, i
		if h.AutoProvisioning && len(h.Anchors) == 0 {
			add(i, "auto_provisioning", -1, fmt.Errorf("hub %s: auto-provisioning needs a trust anchor", h.Name))
		}
		if err := CheckPolicy(h.Policy); err != nil {
			add(i, "policy", -1, err)
		}
		if h.Declared != "" {
			if err := CheckRules(h); err != nil {
				add(i, "policy", -1, err)
			}
		}
		var anchors []*x509.Certificate
		for n, der := range h.Anchors {
			c, err := x509.ParseCertificate(der)
			if err == nil {
				err = trust.CheckAnchor(c)
			}
			if err != nil {
				add(i, "trust_anchors", n, err)
				continue
			}
			anchors = append(anchors, c)
			if h.SNIOnly {
				continue
			}
			subjects[string(c.RawSubject)]++
			if subjects[string(c.RawSubject)] > maxSameSubject {
				add(i, "trust_anchors", n, fmt.Errorf("more than %d trust anchors are named %s; set sni_only on this hub and let its devices name it in SNI",
					maxSameSubject, c.Subject))
			}
		}
		intermediates, err := parseAll(h.Intermediates)
		if err != nil {
			add(i, "intermediates", -1, err)
		}
		if h.SNIOnly {
			// It is never found by them. And they are what its owner's own CAs signed, so
			// whoever has a CA could keep others from installing theirs by signing those.
			intermediates = nil
		}
		bundle, err := trust.NewBundle(anchors, intermediates)
		if err != nil {
			add(i, "trust_anchors", -1, err)
			continue
		}
		bundles[i], apart[i] = bundle, keepsApart(h, bundle)
		for _, o := range neighbours(i, append(anchors, intermediates...), near) {
			if trust.Related(bundle, bundles[o]) && (!apart[i] || !apart[o]) {
				add(i, "trust_anchors", -1, fmt.Errorf("hub %s %w as hub %s, or one that issued it or was issued by it: a device of one could enter the other, "+
					"unless both have sni_only and an admission rule for it", h.Name, ErrRelated, hubs[o].Name))
			}
		}
	}
	return errs
}

// keepsApart reports whether the hub may trust a CA that another hub trusts too:
// its devices have to name it, and whichever of its anchors a chain ends at, the
// chain alone creates no device.
func keepsApart(h Hub, b *trust.Bundle) bool {
	rules, err := NewRules(h)
	return err == nil && h.SNIOnly && !slices.ContainsFunc(b.Anchors(), func(c *x509.Certificate) bool {
		return !rules.covers(trust.KeyHashOf(c))
	})
}

// neighbours returns the hubs noted so far that share a name or a key with
// these certificates, and notes this hub: only those can be related.
func neighbours(hub int, certs []*x509.Certificate, near map[string][]int) []int {
	marks := make(map[string]struct{})
	for _, c := range certs {
		key := trust.KeyHashOf(c)
		for _, mark := range []string{string(c.RawSubject), string(c.RawIssuer), string(key[:])} {
			marks[mark] = struct{}{}
		}
	}
	var found []int
	for mark := range marks {
		found = append(found, near[mark]...)
		near[mark] = append(near[mark], hub)
	}
	slices.Sort(found)
	return slices.Compact(found)
}
