package trust

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
)

// hostile is a chain that is to cost as much as the limits allow.
type hostile struct {
	name      string
	leaf      []byte
	presented [][]byte
	known     []*x509.Certificate
}

// hostileChains makes the worst that 10 certificates and 64 KiB can do to a hub
// that trusts the factory.
func hostileChains(f *factory) []hostile {
	own := must(pki.NewRoot("Own", pki.WithKey(pki.P521)))
	slow := pki.WithSigner(must(pki.NewKey(pki.RSA4096))) // to make
	kinds := []pki.Option{slow, pki.WithKey(pki.P521), pki.WithKey(pki.P384), pki.WithKey(pki.Ed25519)}
	key := func(i int) pki.Option { return kinds[i%len(kinds)] }

	// Nine CAs of one name that all certify each other's key.
	var crossed [][]byte
	for i := range MaxCertificates - 1 {
		a := must(own.Intermediate("Mesh", key(i)))
		crossed = append(crossed, must(own.CrossSign(a, rawSubject(a.Certificate))).Raw)
	}
	mesh := must(pki.NewRoot("Mesh", pki.WithKey(pki.P521)))
	meshLeaf := must(mesh.Leaf("SN")).Certificate.Raw

	// All claim that the anchor signed them, and the leaf that they did.
	namesake := must(pki.NewRoot(f.root.Certificate.Subject.CommonName, rawSubject(f.root.Certificate)))
	var claims [][]byte
	for i := range MaxCertificates - 1 {
		claims = append(claims, must(namesake.Intermediate("Mesh", key(i))).Certificate.Raw)
	}
	// The same around a genuine intermediate, whose name all bear.
	line := f.line.Certificate
	fakeLine := lookAlike(f.line)
	genuine := [][]byte{line.Raw}
	for i := range MaxCertificates - 2 {
		genuine = append(genuine, must(namesake.Intermediate("", rawSubject(line), key(i))).Certificate.Raw)
	}
	fakeLeaf := must(fakeLine.Leaf("SN")).Certificate.Raw
	// A hub that knows as many intermediates of one name as it may.
	var known []*x509.Certificate
	for range MaxLearned {
		known = append(known, must(f.root.Intermediate("", rawSubject(line), noSubjectKeyID)).Certificate)
	}
	var below [][]byte
	for range MaxCertificates - 1 {
		below = append(below, must(fakeLine.Intermediate("", rawSubject(line))).Certificate.Raw)
	}
	chains := []hostile{
		{"mesh of nine", meshLeaf, crossed, nil},
		{"all by the anchor's name", meshLeaf, claims, nil},
		{"with a genuine intermediate", fakeLeaf, genuine, nil},
		{"under 64 known of one name", fakeLeaf, below, known},
		{"the same, hard to parse", must(fakeLine.Leaf("SN", heavy(5 << 10)["extensions"])).Certificate.Raw, below[:1], known},
	}
	for _, size := range []int{MaxChainBytes - 1<<10, 6 << 10} {
		for name, opt := range heavy(size) {
			name = fmt.Sprintf("%d KiB of %s", size>>10, name)
			chains = append(chains, hostile{name, must(f.line.Leaf("SN", opt)).Certificate.Raw, genuine[:1], nil})
		}
	}
	for name, opt := range longValues() {
		chains = append(chains, hostile{"long " + name, must(f.line.Leaf("SN", opt)).Certificate.Raw, genuine[:1], nil})
	}
	return chains
}

// heavy are options for certificates that take long to parse, for they have size
// bytes of small things.
func heavy(size int) map[string]pki.Option {
	sequence := func(content []byte) []byte {
		return must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: content}))
	}
	fill := func(id asn1.ObjectIdentifier, element []byte) pki.Option {
		return extension(id, false, sequence(bytes.Repeat(element, size/len(element))))
	}
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	return map[string]pki.Option{
		"names": pki.WithTemplate(func(t *x509.Certificate) {
			var name pkix.RDNSequence
			for range size / 12 {
				name = append(name, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "x"}})
			}
			t.RawSubject = must(asn1.Marshal(name))
		}),
		"one name": pki.WithTemplate(func(t *x509.Certificate) {
			var name pkix.RelativeDistinguishedNameSET
			for range size / 10 {
				name = append(name, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "x"})
			}
			t.RawSubject = must(asn1.Marshal(pkix.RDNSequence{name}))
		}),
		"URIs":   fill(san, []byte{0x86, 3, 'a', ':', 'b'}),
		"hosts":  fill(san, []byte{0x82, 1, 'a'}),
		"emails": fill(san, []byte{0x81, 3, 'a', '@', 'b'}),
		"usages": fill(asn1.ObjectIdentifier{2, 5, 29, 37}, []byte{6, 1, 0}),
		"IPs":    fill(san, []byte{0x87, 4, 1, 2, 3, 4}),
		"constraints": extension(oidNameConstraints, false, sequence(must(asn1.Marshal(asn1.RawValue{
			Class: asn1.ClassContextSpecific, IsCompound: true,
			Bytes: bytes.Repeat([]byte{0x30, 3, 0x80 | tagDNS, 1, 'a'}, size/5),
		})))),
		"extensions": pki.WithTemplate(func(t *x509.Certificate) {
			for i := range size / 10 {
				t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, i % 39, i/39 + 128}})
			}
		}),
	}
}

// longValues are options for certificates with one value of nearly 64 KiB.
func longValues() map[string]pki.Option {
	const size = MaxChainBytes - 2<<10
	text := bytes.Repeat([]byte{'a'}, size)
	arcs := make(asn1.ObjectIdentifier, size)
	arcs[0] = 1
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	name := func(tag int, value []byte) pki.Option {
		return extension(san, false, must(asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: value}})))
	}
	attribute := func(a pkix.AttributeTypeAndValue) pki.Option {
		return pki.WithTemplate(func(t *x509.Certificate) {
			t.RawSubject = must(asn1.Marshal(pkix.RDNSequence{{a}}))
		})
	}
	return map[string]pki.Option{
		"extension type":  extension(arcs, false, nil),
		"critical type":   extension(arcs, true, nil),
		"attribute type":  attribute(pkix.AttributeTypeAndValue{Type: arcs, Value: "x"}),
		"attribute value": attribute(pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: strings.Repeat("\u202e\n\"", size/5)}),
		"usage": pki.WithTemplate(func(t *x509.Certificate) {
			t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{arcs}
		}),
		"URI":     name(tagURI, append([]byte("a:"), text...)),
		"host":    name(tagDNS, text),
		"email":   name(tagEmail, append(slices.Clone(text), "@b"...)),
		"modulus": pki.WithRSAModulus(8*size, 65537),
		"serial": pki.WithEdit(func(t *pki.TBS) {
			t.Serial = new(big.Int).Lsh(big.NewInt(1), 8*size)
		}),
	}
}

// TestDetailsOfHostileCertificates holds every sentence about them to one line of
// bounded length, whatever they are called and whatever is wrong with them.
func TestDetailsOfHostileCertificates(t *testing.T) {
	f := newFactory("Acme")
	fake := lookAlike(f.root)
	called := func(name string) pki.Option {
		return pki.WithTemplate(func(t *x509.Certificate) {
			t.RawSubject = must(asn1.Marshal(pkix.Name{CommonName: name, Organization: []string{name, name}}.ToRDNSequence()))
		})
	}
	options := longValues()
	for name, opt := range heavy(3 << 10) {
		options["many "+name] = opt
	}
	for _, name := range []string{"a\nlevel=ERROR msg=forged", "\x1b[2J\x00\x7f", "\u202eevil\u2066", "日本語", "a=b,c+d\\", strings.Repeat("é", 5000), strings.Repeat("\x01", 5000)} {
		options["named "+name[:min(len(name), 8)]] = called(name)
	}
	unknownCritical := extension(asn1.ObjectIdentifier{1, 2, 3, 4}, true, nil)
	for name, opt := range options {
		t.Run(name, func(t *testing.T) {
			chains := [][]*x509.Certificate{
				{must(fake.Leaf("SN", opt)).Certificate},
				{must(f.root.Leaf("SN", opt, unknownCritical)).Certificate},
			}
			for _, root := range []*pki.Authority{fake, f.root} {
				if name == "modulus" {
					continue // nobody has its key
				}
				line := must(root.Intermediate("Line", opt))
				leaf := must(line.Leaf("SN", unknownCritical)).Certificate
				chains = append(chains, certs(leaf), certs(leaf, line.Certificate))
			}
			for _, chain := range chains {
				for _, anchor := range []*x509.Certificate{f.root.Certificate, must(pki.NewRoot("Other")).Certificate} {
					_ = refused(t, bundleOf(certs(anchor)), Options{Now: now}, chain[0].Raw, ders(chain[1:]...)...)
				}
			}
		})
	}
}
