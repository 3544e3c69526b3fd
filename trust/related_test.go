package trust

import (
	"crypto/x509"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
)

func TestRelated(t *testing.T) {
	f, other := newFactory("Acme"), newFactory("Other")
	root, line := f.root.Certificate, f.line
	inner := must(line.Intermediate("Inner"))
	innermost := must(inner.Intermediate("Innermost"))
	sibling := must(f.root.Intermediate("Sibling"))
	renewed := must(pki.NewRoot("Acme Root 2", pki.WithSigner(f.root.Key))).Certificate
	toOther := must(other.root.CrossSign(line))
	otherToRoot := must(other.root.CrossSign(f.root))
	sha1 := must(f.root.Intermediate("SHA-1", pki.WithSHA1())).Certificate
	weak := must(f.root.Intermediate("Weak", pki.WithKey(pki.RSA1024)))
	belowWeak := must(weak.Intermediate("Below")).Certificate

	type side struct{ anchors, known []*x509.Certificate }
	only := func(c ...*x509.Certificate) side { return side{anchors: c} }
	for _, r := range []struct {
		name string
		a, b side
		want bool
	}{
		{"the same anchor", only(root), only(root), true},
		{"the same key, renewed and renamed", only(root), only(renewed), true},
		{"one of several", only(root, other.root.Certificate), only(other.root.Certificate), true},
		{"nothing in common", only(root), only(other.root.Certificate), false},
		{"nothing in common, intermediates known", side{certs(root), certs(line.Certificate)},
			side{certs(other.root.Certificate), certs(other.line.Certificate)}, false},
		{"a look-alike", only(root), only(lookAlike(f.root).Certificate), false},
		{"a look-alike of a known intermediate", side{certs(root), certs(line.Certificate)}, only(lookAlike(line).Certificate), false},
		{"root and intermediate", only(root), only(line.Certificate), true},
		{"root and intermediate signed with SHA-1", only(root), only(sha1), true},
		{"a known intermediate is the other's anchor", side{certs(root), certs(line.Certificate)}, only(line.Certificate), true},
		{"siblings", only(line.Certificate), only(sibling.Certificate), false},
		{"siblings, both know their root", side{certs(line.Certificate), certs(root)}, side{certs(sibling.Certificate), certs(root)}, false},
		{"two below, the link unknown", only(root), only(inner.Certificate), false},
		{"two below, the upper knows the link", side{certs(root), certs(line.Certificate)}, only(inner.Certificate), true},
		{"two below, the lower knows the link", only(root), side{certs(inner.Certificate), certs(line.Certificate)}, true},
		{"three below, each knows a link", side{certs(root), certs(inner.Certificate)}, side{certs(innermost.Certificate), certs(line.Certificate)}, true},
		{"the same cross-signed intermediate", side{certs(root), certs(line.Certificate)}, side{certs(other.root.Certificate), certs(toOther)}, true},
		{"cross-signed, one knows it", side{certs(root), nil}, side{certs(other.root.Certificate), certs(toOther)}, false},
		{"one root certified by the other", only(root), side{certs(other.root.Certificate), certs(otherToRoot)}, true},
		{"one root certified by the other, as anchor", only(otherToRoot), only(other.root.Certificate), true},
		{"knows the other's intermediate in vain", only(root), side{certs(other.root.Certificate), certs(line.Certificate)}, false},
		{"through a key that is not accepted", only(root), side{certs(belowWeak), certs(weak.Certificate)}, false},
		{"no anchors", only(), only(root), false},
	} {
		t.Run(r.name, func(t *testing.T) {
			a, b := bundleOf(r.a.anchors, r.a.known...), bundleOf(r.b.anchors, r.b.known...)
			if got := Related(a, b); got != r.want {
				t.Errorf("%t, want %t", got, r.want)
			}
			if got := Related(b, a); got != r.want {
				t.Errorf("the other way round: %t, want %t", got, r.want)
			}
		})
	}
}
