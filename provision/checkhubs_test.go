package provision_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

func TestHubsThatCannotServeSideBySide(t *testing.T) {
	t.Parallel()
	vendor, other := root(t, "Vendor"), root(t, "Other")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
	sub := must[*pki.Authority](t)(line.Intermediate("Sub"))
	hub := func(name string, edit ...func(*provision.Hub)) provision.Hub {
		h := provision.Hub{ID: provision.DeclaredHubID(name), Name: name, AutoProvisioning: true}
		for _, e := range edit {
			e(&h)
		}
		return h
	}
	var sameName []provision.Hub
	for i := range 5 {
		sameName = append(sameName, hub(fmt.Sprintf("hub-%d", i), anchors(root(t, "Factory CA").Certificate)))
	}
	bySNI := append([]provision.Hub(nil), sameName...)
	bySNI[4].SNIOnly = true
	apart := func(rules ...provision.AdmissionRule) func(*provision.Hub) {
		return func(h *provision.Hub) { h.SNIOnly, h.Policy.Admission = true, rules }
	}
	serials := provision.AdmissionRule{NamePattern: "A-.*"}
	of := func(a *pki.Authority) provision.AdmissionRule {
		return provision.AdmissionRule{Anchor: trust.KeyHashOf(a.Certificate), NamePattern: "A-.*"}
	}
	cross := must[*x509.Certificate](t)(other.CrossSign(vendor))
	knows := func(c *x509.Certificate) func(*provision.Hub) {
		return func(h *provision.Hub) { h.Intermediates = [][]byte{c.Raw} }
	}
	const related = "trust_anchors: hub b trusts the same CA as hub a"
	tests := []struct {
		name string
		hubs []provision.Hub
		want string // field and part of the message; "" = nothing is wrong
	}{
		{"two vendors", []provision.Hub{hub("a", anchors(vendor.Certificate)), hub("b", anchors(other.Certificate))}, ""},
		{"two anchors on one hub, one below the other", []provision.Hub{hub("a", anchors(vendor.Certificate, line.Certificate))}, ""},
		{"name in capitals", []provision.Hub{hub("A", anchors(vendor.Certificate))}, "name: "},
		{"name twice", []provision.Hub{hub("a", anchors(vendor.Certificate)), hub("a", anchors(other.Certificate))}, "name: hub name \"a\" is used twice"},
		{"auto-provisioning without an anchor", []provision.Hub{hub("a")}, "auto_provisioning: "},
		{"a leaf as anchor", []provision.Hub{hub("a", anchors(leaf(t, vendor, "SN-1").Certificate))}, "trust_anchors: "},
		{"the same CA on two hubs", []provision.Hub{hub("a", anchors(vendor.Certificate)), hub("b", anchors(vendor.Certificate))}, "trust_anchors: hub b trusts the same CA as hub a"},
		{"a CA and its issuer", []provision.Hub{hub("a", anchors(line.Certificate)), hub("b", anchors(vendor.Certificate))}, "trust_anchors: hub b trusts the same CA as hub a"},
		{"a CA and its issuer's issuer, told by an intermediate", []provision.Hub{
			hub("a", anchors(sub.Certificate)),
			hub("b", anchors(vendor.Certificate), func(h *provision.Hub) { h.Intermediates = [][]byte{line.Certificate.Raw} }),
		}, "trust_anchors: hub b trusts the same CA as hub a"},
		{"a CA that another hub's CA signed", []provision.Hub{
			hub("a", anchors(other.Certificate), knows(cross)), hub("b", anchors(vendor.Certificate))}, related},
		{"a CA that another hub's CA signed, found by SNI only", []provision.Hub{
			hub("a", anchors(other.Certificate), knows(cross), apart()), hub("b", anchors(vendor.Certificate))}, ""},
		{"a CA below one that another hub's CA signed, found by SNI only", []provision.Hub{
			hub("a", anchors(line.Certificate)), hub("b", anchors(other.Certificate), knows(cross), apart())}, ""},
		{"a CA that another hub's CA signed, as anchor of a hub found by SNI only", []provision.Hub{
			hub("a", anchors(cross), apart()), hub("b", anchors(vendor.Certificate))}, related},
		{"the same CA, kept apart", []provision.Hub{
			hub("a", anchors(vendor.Certificate), apart(serials)), hub("b", anchors(vendor.Certificate), apart(of(vendor)))}, ""},
		{"a CA and its issuer, kept apart", []provision.Hub{
			hub("a", anchors(line.Certificate), apart(serials)), hub("b", anchors(vendor.Certificate), apart(serials))}, ""},
		{"kept apart by one hub alone", []provision.Hub{
			hub("a", anchors(vendor.Certificate), apart(serials)), hub("b", anchors(vendor.Certificate))}, related},
		{"SNI without a rule", []provision.Hub{
			hub("a", anchors(vendor.Certificate), apart(serials)), hub("b", anchors(vendor.Certificate), apart())}, related},
		{"a rule without SNI", []provision.Hub{
			hub("a", anchors(vendor.Certificate), apart(serials)),
			hub("b", anchors(vendor.Certificate), func(h *provision.Hub) { h.Policy.Admission = []provision.AdmissionRule{serials} })}, related},
		{"a rule for another anchor of the hub", []provision.Hub{
			hub("a", anchors(vendor.Certificate), apart(serials)),
			hub("b", anchors(other.Certificate, vendor.Certificate), apart(of(other)))}, related},
		{"five CAs of one name", sameName, "trust_anchors: more than 4 trust anchors"},
		{"five CAs of one name, one found by SNI only", bySNI, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var said []string
			for _, e := range provision.CheckHubs(tt.hubs) {
				said = append(said, e.Field+": "+e.Error())
			}
			got := strings.Join(said, "\n")
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("said %q, want %q", got, tt.want)
			}
		})
	}
}
