package trust

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// namesakes makes intermediates of one name and without key identifiers, so that
// only signatures tell them apart.
func namesakes(root *pki.Authority, n int) []*pki.Authority {
	var out []*pki.Authority
	for range n {
		out = append(out, must(root.Intermediate("Line", noSubjectKeyID)))
	}
	return out
}

func certificatesOf(as []*pki.Authority) []*x509.Certificate {
	var out []*x509.Certificate
	for _, a := range as {
		out = append(out, a.Certificate)
	}
	return out
}

func TestBudget(t *testing.T) {
	root := must(pki.NewRoot("Root", noSubjectKeyID))
	lines := namesakes(root, MaxLearned)
	known := certificatesOf(lines)
	// Those made with key identifiers have them name their issuer.
	identified := func(n int) ([]*x509.Certificate, *x509.Certificate) {
		var cs []*x509.Certificate
		var last *pki.Authority
		for range n {
			last = must(root.Intermediate("Line"))
			cs = append(cs, last.Certificate)
		}
		return cs, must(last.Leaf("SN")).Certificate
	}
	withIDs, withID := identified(MaxLearned)
	f, other := newFactory("Acme"), newFactory("Other")
	leafOf := func(i int) *x509.Certificate { return must(lines[i].Leaf("SN")).Certificate }
	last := MaxLearned - 1

	for _, r := range []struct {
		name      string
		anchor    *x509.Certificate
		known     []*x509.Certificate
		leaf      *x509.Certificate
		presented []*x509.Certificate
		attested  []*x509.Certificate
		ok        bool
		used      int
	}{
		{"leaf and intermediate", f.root.Certificate, nil, f.device.Certificate, certs(f.line.Certificate), nil, true, 2},
		{"the anchor presented too", f.root.Certificate, nil, f.device.Certificate, certs(f.line.Certificate, f.root.Certificate), nil, true, 2},
		{"intermediate known", f.root.Certificate, certs(f.line.Certificate), f.device.Certificate, nil, nil, true, 1},
		{"intermediate known and presented", f.root.Certificate, certs(f.line.Certificate), f.device.Certificate, certs(f.line.Certificate), nil, true, 1},
		{"another vendor's", f.root.Certificate, nil, other.device.Certificate, certs(other.line.Certificate), nil, false, 0},
		{"forged", lookAlike(f.root).Certificate, nil, f.device.Certificate, certs(f.line.Certificate), nil, false, 1},
		{"the 16th of a name", root.Certificate, known, leafOf(15), nil, nil, true, 16},
		{"the 17th of a name", root.Certificate, known, leafOf(16), nil, nil, false, 16},
		{"the last of a name, told by key identifier", root.Certificate, withIDs, withID, nil, nil, true, 1},
		{"the last of a name, attested", root.Certificate, known, leafOf(last), nil, known[last:], true, 1},
		{"16 attested, the last of them", root.Certificate, known, leafOf(last), nil, known[last-15:], true, 16},
		{"17 attested, the last of them", root.Certificate, known, leafOf(last), nil, known[last-16:], false, 16},
		{"another attested", root.Certificate, known, leafOf(15), nil, known[last:], false, 16},
	} {
		t.Run(r.name, func(t *testing.T) {
			b := bundleOf(certs(r.anchor), r.known...)
			var attested []Fingerprint
			for _, c := range r.attested {
				attested = append(attested, FingerprintOf(c))
			}
			budget := new(Budget)
			_, err := b.Verify(chainOf(r.leaf, r.presented...), Options{Now: now, Attested: attested, Budget: budget})
			if (err == nil) != r.ok || budget.used != r.used {
				t.Errorf("%d checks used, error %v; want %d, success %t", budget.used, err, r.used, r.ok)
			}
		})
	}

	t.Run("shared by bundles", func(t *testing.T) {
		chain := chainOf(leafOf(last))
		budget := new(Budget)
		half := known[:10]
		for i, used := range []int{10, 16, 16} {
			failure := refused(t, bundleOf(certs(root.Certificate), half...), Options{Now: now, Budget: budget}, chain.leaf.cert.Raw)
			if budget.used != used || failure.exhausted != (i > 0) {
				t.Errorf("bundle %d: %d checks used, want %d; %v", i, budget.used, used, failure)
			}
		}
		// What costs nothing works without a budget, and what needs some does not.
		if failure := refused(t, bundleOf(certs(f.root.Certificate)), Options{Now: now, Budget: budget}, f.device.Certificate.Raw); failure.Fault != Incomplete {
			t.Errorf("%v, want %v", failure, Incomplete)
		}
		failure := refused(t, bundleOf(certs(f.root.Certificate)), Options{Now: now, Budget: budget}, f.device.Certificate.Raw, f.line.Certificate.Raw)
		if failure.Fault != Untrusted || !failure.exhausted || failure.Signed {
			t.Errorf("%v, want the budget's end", failure)
		}
	})
}

// TestManyPathsOneGood has more paths that policy refuses than are judged in
// full, and one that is good.
func TestManyPathsOneGood(t *testing.T) {
	f := newFactory("Acme")
	past := pki.WithValidity(now.Add(-2*time.Hour), now.Add(-time.Hour))
	const many = 2 * maxPaths
	variants := func(opt pki.Option) []*x509.Certificate {
		var out []*x509.Certificate
		for range many {
			out = append(out, must(f.root.CrossSign(f.line, opt)))
		}
		return out
	}
	bad := map[string][]*x509.Certificate{
		"expired":     variants(past),
		"server-only": variants(caOption(func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })),
	}
	for name, known := range bad {
		t.Run(name, func(t *testing.T) {
			path := admitted(t, bundleOf(certs(f.root.Certificate), known...), Options{Now: now}, f.device.Certificate, f.line.Certificate)
			if !path.Issuer().Equal(f.line.Certificate) {
				t.Errorf("issuer %s expires %s", path.Issuer().Subject, path.Issuer().NotAfter)
			}
			all := append(slices.Clone(known), f.line.Certificate)
			admitted(t, bundleOf(certs(f.root.Certificate), all...), Options{Now: now}, f.device.Certificate)
			admitted(t, bundleOf(certs(f.root.Certificate)), Options{Now: now}, f.device.Certificate, all[many-8:]...)
			failure := refused(t, bundleOf(certs(f.root.Certificate), known...), Options{Now: now}, f.device.Certificate.Raw)
			if !failure.Signed || !failure.Certificate.Equal(known[0]) {
				t.Errorf("%v, want a signed path through the first intermediate", failure)
			}
		})
	}
}

// TestPathsThatCryptoRefuses are refused by crypto/x509 alone, so that maxPaths
// of them are judged.
func TestPathsThatCryptoRefuses(t *testing.T) {
	f := newFactory("Acme")
	leaf := must(f.line.Leaf("SN", caOption(func(t *x509.Certificate) { t.DNSNames = []string{"other.example"} }))).Certificate
	limited := func(n int) []*x509.Certificate {
		var out []*x509.Certificate
		for i := range n {
			out = append(out, must(f.root.CrossSign(f.line, caOption(func(t *x509.Certificate) {
				t.PermittedDNSDomains = []string{fmt.Sprintf("acme%d.example", i)}
			}))))
		}
		return out
	}
	for n, ok := range map[int]bool{1: true, maxPaths - 1: true, maxPaths: false} {
		known := append(limited(n), f.line.Certificate)
		_, err := bundleOf(certs(f.root.Certificate), known...).Verify(chainOf(leaf), Options{Now: now})
		if (err == nil) != ok {
			t.Errorf("%d limited paths before a good one: %v", n, err)
		}
	}
}

// TestOneCATwice has a CA above itself: the path found first goes through it
// twice, and a shorter one is sound.
func TestOneCATwice(t *testing.T) {
	root := must(pki.NewRoot("Root"))
	e := must(root.Intermediate("E"))
	y := must(e.Intermediate("Y"))
	// The same name and key, under Y, with the identifier that Z asks for.
	again := must(y.CrossSign(e, caOption(func(t *x509.Certificate) { t.SubjectKeyId = []byte{1} })))
	z := must((&pki.Authority{Certificate: again, Key: e.Key}).Intermediate("Z"))
	leaf := must(z.Leaf("SN")).Certificate
	b := bundleOf(certs(root.Certificate))
	path := admitted(t, b, Options{Now: now}, leaf, z.Certificate, again, y.Certificate, e.Certificate)
	if got, want := names(path.Certificates()), "SN < Z < E < Root"; got != want {
		t.Errorf("path %s, want %s", got, want)
	}
	known := bundleOf(certs(root.Certificate), z.Certificate, again, y.Certificate, e.Certificate)
	if got := len(known.Rejected()); got != 0 {
		t.Errorf("%d intermediates rejected", got)
	}
	admitted(t, known, Options{Now: now}, leaf)
}

// TestOrderDoesNotMatter presents two intermediates, a cross-signature and junk in
// every rotation.
func TestOrderDoesNotMatter(t *testing.T) {
	f, other := newFactory("Acme"), newFactory("Other")
	inner := must(f.line.Intermediate("Inner"))
	leaf := must(inner.Leaf("SN")).Certificate
	presented := certs(inner.Certificate, f.line.Certificate, f.root.Certificate, must(other.root.CrossSign(f.line)),
		other.line.Certificate, lookAlike(f.line).Certificate, other.device.Certificate, lookAlike(inner).Certificate)
	for _, anchor := range certs(f.root.Certificate, other.root.Certificate) {
		b := bundleOf(certs(anchor))
		for i := range presented {
			order := slices.Concat(presented[i:], presented[:i])
			if path := admitted(t, b, Options{Now: now}, leaf, order...); !path.Anchor().Equal(anchor) {
				t.Errorf("anchor %s", path.Anchor().Subject)
			}
			slices.Reverse(order)
			admitted(t, b, Options{Now: now}, leaf, order...)
		}
	}
}

// TestDefaults verifies without options.
func TestDefaults(t *testing.T) {
	f := newFactory("Acme")
	admitted(t, bundleOf(certs(f.root.Certificate)), Options{}, f.device.Certificate, f.line.Certificate)
	expired := must(f.root.Leaf("SN", pki.WithValidity(time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)))).Certificate
	if failure := refused(t, bundleOf(certs(f.root.Certificate)), Options{}, expired.Raw); failure.Fault != Expired {
		t.Errorf("%v, want %v", failure, Expired)
	}
}
