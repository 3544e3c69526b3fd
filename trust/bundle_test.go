package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

func TestCheckAnchor(t *testing.T) {
	root := must(pki.NewRoot("Root"))
	with := func(opts ...pki.Option) *x509.Certificate {
		return must(root.Intermediate("CA", opts...)).Certificate
	}
	usage := func(u x509.KeyUsage) pki.Option { return caOption(func(t *x509.Certificate) { t.KeyUsage = u }) }
	past := pki.WithValidity(now.Add(-2*time.Hour), now.Add(-time.Hour))
	for _, r := range []struct {
		name   string
		anchor *x509.Certificate
		want   string // empty: it is fit
	}{
		{"self-signed", root.Certificate, ""},
		{"not self-signed", with(), ""},
		{"signed with SHA-1", with(pki.WithSHA1()), ""},
		{"expired", with(past), ""},
		{"no key usage", with(usage(0)), ""},
		{"4096-bit RSA", with(pki.WithRSAModulus(4096, 65537)), ""},
		{"constraint that crypto/x509 enforces", with(caOption(func(t *x509.Certificate) { t.ExcludedURIDomains = []string{"a.example"} })), ""},
		{"a device's", must(root.Leaf("SN-1")).Certificate, `trust anchor "CN=SN-1" is not usable: it is not a CA`},
		{"no CA", with(caOption(func(t *x509.Certificate) { t.IsCA = false })), `trust anchor "CN=CA" is not usable: it is not a CA`},
		{"may not sign", with(usage(x509.KeyUsageCRLSign)), `trust anchor "CN=CA" is not usable: its key usage does not include certificate signing`},
		{"1024-bit RSA", with(pki.WithKey(pki.RSA1024)), `trust anchor "CN=CA" is not usable: its RSA key has 1024 bits; 2048 to 4096 are accepted`},
		{"RSA with e = 3", with(pki.WithRSAModulus(2048, 3)), `trust anchor "CN=CA" is not usable: its RSA key has exponent 3; 65537 is accepted`},
		{"P-224", with(pki.WithKey(pki.P224)), `trust anchor "CN=CA" is not usable: its key is on curve P-224; P-256, P-384 and P-521 are accepted`},
		{"unknown critical extension", with(extension(asn1.ObjectIdentifier{1, 2, 3, 4}, true, nil)), `trust anchor "CN=CA" is not usable: its critical extension 1.2.3.4 is not supported`},
		{"directoryName constraint", with(extension(oidNameConstraints, false, directoryNameConstraint(0))), `trust anchor "CN=CA" is not usable: its name constraints limit names of form directoryName, which is not enforced`},
		{"no subject", with(caOption(func(t *x509.Certificate) { t.RawSubject = []byte{0x30, 0} })), `trust anchor "" is not usable: it has no subject`},
	} {
		t.Run(r.name, func(t *testing.T) {
			got := ""
			if err := CheckAnchor(r.anchor); err != nil {
				got = err.Error()
			}
			if got != r.want {
				t.Errorf("%q, want %q", got, r.want)
			}
			if _, err := NewBundle(certs(r.anchor), nil); (err == nil) != (r.want == "") {
				t.Errorf("as a bundle: %v", err)
			}
		})
	}
	t.Run("each with its message", func(t *testing.T) {
		_, err := NewBundle(certs(with(pki.WithKey(pki.P224)), root.Certificate, must(root.Leaf("SN-1")).Certificate), nil)
		want := `trust anchor "CN=CA" is not usable: its key is on curve P-224; P-256, P-384 and P-521 are accepted` + "\n" +
			`trust anchor "CN=SN-1" is not usable: it is not a CA`
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	})
}

func TestUnenforcedConstraints(t *testing.T) {
	form := func(tag int, compound bool, value string) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: []byte(value)}
	}
	enforced := nameConstraint(0, form(tagDNS, false, "a.example"))
	withMinimum := must(asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true,
		Bytes: append([]byte{0x30, 6, 0x82, 1, 'a', 0x80, 1}, 1)}}))
	both := must(asn1.Marshal([]asn1.RawValue{
		{FullBytes: enforced[2:]}, {FullBytes: directoryNameConstraint(1)[2:]},
	}))
	for _, r := range []struct {
		name, want string
		der        []byte
	}{
		{"DNS", "", enforced},
		{"email", "", nameConstraint(1, form(tagEmail, false, "a.example"))},
		{"URI", "", nameConstraint(0, form(tagURI, false, "a.example"))},
		{"IP", "", nameConstraint(0, form(tagIP, false, "\x0a\x00\x00\x00\xff\x00\x00\x00"))},
		{"directoryName", "form directoryName", directoryNameConstraint(0)},
		{"directoryName after DNS", "form directoryName", both},
		{"otherName", "form otherName", nameConstraint(1, form(0, true, ""))},
		{"x400Address", "form x400Address", nameConstraint(0, form(3, true, ""))},
		{"ediPartyName", "form ediPartyName", nameConstraint(0, form(5, true, ""))},
		{"registeredID", "form registeredID", nameConstraint(0, form(8, false, "\x01"))},
		{"of no form", "form 9", nameConstraint(0, form(9, false, "\x01"))},
		{"minimum", "minimum or maximum", withMinimum},
		{"empty", "do not parse", nil},
		{"trailing", "do not parse", append(slices.Clone(enforced), 0)},
		{"cut short", "do not parse", must(asn1.Marshal([]asn1.RawValue{{FullBytes: []byte{0xa0, 4, 0x30, 9, 1, 1}}}))},
		{"universal", "do not parse", nameConstraint(0, asn1.RawValue{Tag: asn1.TagOctetString})},
	} {
		t.Run(r.name, func(t *testing.T) {
			got := unenforcedConstraints(r.der)
			if (got == "") != (r.want == "") || !strings.Contains(got, r.want) {
				t.Errorf("%q, want %q", got, r.want)
			}
		})
	}
}

func TestBundleKeepsOutWhatDoesNotChain(t *testing.T) {
	f, other := newFactory("Acme"), newFactory("Other")
	inner := must(f.line.Intermediate("Inner"))
	sha1 := must(f.root.Intermediate("SHA-1", pki.WithSHA1())).Certificate
	weak := must(f.root.Intermediate("Weak", pki.WithKey(pki.RSA1024))).Certificate
	expired := must(f.root.Intermediate("Expired", pki.WithValidity(now.Add(-2*time.Hour), now.Add(-time.Hour)))).Certificate
	given := certs(inner.Certificate, other.line.Certificate, f.line.Certificate, lookAlike(f.line).Certificate, f.root.Certificate,
		f.device.Certificate, f.line.Certificate, sha1, weak, expired, other.line.Certificate)
	b := bundleOf(certs(f.root.Certificate), given...)
	var rejected []string
	for _, r := range b.Rejected() {
		rejected = append(rejected, r.Err.Error())
		if r.Certificate == nil || b.Knows(FingerprintOf(r.Certificate)) {
			t.Errorf("%v: certificate %v", r.Err, r.Certificate)
		}
	}
	if got, want := names(b.Intermediates()), "Acme Line < Expired < Inner"; got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
	want := []string{
		`intermediate "CN=SN-1" is not usable: it is not a CA`,
		`intermediate "CN=SHA-1" is not usable: it is signed with ECDSA-SHA1; SHA-256, SHA-384, SHA-512 and Ed25519 are accepted`,
		`intermediate "CN=Weak" is not usable: its RSA key has 1024 bits; 2048 to 4096 are accepted`,
		`intermediate "CN=Other Line", issued by "CN=Other Root", does not chain to a trust anchor`,
		`intermediate "CN=Acme Line", issued by "CN=Acme Line", does not chain to a trust anchor`,
	}
	if !slices.Equal(rejected, want) {
		t.Errorf("rejected:\n%s\nwant:\n%s", strings.Join(rejected, "\n"), strings.Join(want, "\n"))
	}
	if got := names(b.Anchors()); got != "Acme Root" {
		t.Errorf("anchors %s", got)
	}
}

func TestIssuers(t *testing.T) {
	f, other := newFactory("Acme"), newFactory("Other")
	inner := must(f.line.Intermediate("Inner"))
	leaf := must(inner.Leaf("SN")).Certificate
	cross := must(other.root.CrossSign(f.line))
	c := chainOf(leaf, f.root.Certificate, must(newFactory("Junk").root.Leaf("x")).Certificate, cross, f.line.Certificate, inner.Certificate)
	want := [][]byte{inner.Certificate.RawSubject, f.line.Certificate.RawSubject, f.root.Certificate.RawSubject, other.root.Certificate.RawSubject}
	var got [][]byte
	for _, i := range c.Issuers() {
		got = append(got, i.Name)
		if bytes.Equal(i.Name, inner.Certificate.RawSubject) && !bytes.Equal(i.KeyID, inner.Certificate.SubjectKeyId) {
			t.Errorf("key ID %x of the leaf's issuer", i.KeyID)
		}
	}
	slices.SortFunc(got, bytes.Compare)
	got = slices.CompactFunc(got, bytes.Equal)
	slices.SortFunc(want, bytes.Compare)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d issuers, want %d", len(got), len(want))
	}
	if !c.Leaf().Equal(leaf) {
		t.Error("another leaf")
	}
	same := chainOf(leaf, f.line.Certificate, inner.Certificate)
	if a, b := same.Digest(), chainOf(leaf, leaf, f.line.Certificate, inner.Certificate).Digest(); a != b {
		t.Error("the leaf repeated at the head changes the digest")
	}
	if a, b := same.Digest(), chainOf(leaf, inner.Certificate, f.line.Certificate).Digest(); a == b {
		t.Error("another order has the same digest")
	}
}

func TestPath(t *testing.T) {
	f := newFactory("Acme")
	inner := must(f.line.Intermediate("Inner", pki.WithValidity(now.Add(-time.Minute), now.Add(time.Hour))))
	leaf := must(inner.Leaf("SN", pki.WithValidity(now.Add(-time.Hour), now.Add(2*time.Hour)))).Certificate
	p := admitted(t, bundleOf(certs(f.root.Certificate)), Options{Now: now}, leaf, inner.Certificate, f.line.Certificate)
	if got, want := names(p.Intermediates()), "Inner < Acme Line"; got != want {
		t.Errorf("intermediates %s, want %s", got, want)
	}
	if p.Issuer() != p.Intermediates()[0] || !p.Anchor().Equal(f.root.Certificate) {
		t.Error("another issuer or anchor")
	}
	if !p.Expires().Equal(inner.Certificate.NotAfter) || !p.begins().Equal(inner.Certificate.NotBefore) {
		t.Errorf("valid from %s until %s", p.begins(), p.Expires())
	}
	for at, want := range map[time.Time]bool{
		p.begins().Add(-NotBeforeLeeway - time.Second): false,
		p.begins().Add(-NotBeforeLeeway):               true,
		p.Expires():                                    true,
		p.Expires().Add(time.Nanosecond):               false,
	} {
		if p.ValidAt(at) != want {
			t.Errorf("valid at %s: %t", at, !want)
		}
	}
	var none Path
	if none.Leaf() != nil || none.Issuer() != nil || none.Anchor() != nil || none.Intermediates() != nil || len(none.Certificates()) != 0 {
		t.Error("the zero path has certificates")
	}
}

func TestFaultString(t *testing.T) {
	for f := Malformed; f <= WrongUsage; f++ {
		if s := f.String(); s == "" || strings.HasPrefix(s, "fault") {
			t.Errorf("fault %d is called %q", f, s)
		}
	}
	if got := Fault(0).String() + Fault(99).String(); got != "fault 0fault 99" {
		t.Errorf("unknown faults are called %q", got)
	}
}
