package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hubgate/hubgate/internal/pki"
)

// must is for fixtures: one that cannot be made is a mistake in the test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// factory is a vendor: root, intermediate and a device.
type factory struct {
	root, line *pki.Authority
	device     *pki.Identity
}

func newFactory(name string) *factory {
	root := must(pki.NewRoot(name + " Root"))
	line := must(root.Intermediate(name + " Line"))
	return &factory{root, line, must(line.Leaf("SN-1"))}
}

func certs(c ...*x509.Certificate) []*x509.Certificate { return c }

func ders(c ...*x509.Certificate) [][]byte {
	var out [][]byte
	for _, c := range c {
		out = append(out, c.Raw)
	}
	return out
}

func bundleOf(anchors []*x509.Certificate, known ...*x509.Certificate) *Bundle {
	return must(NewBundle(anchors, known))
}

func chainOf(leaf *x509.Certificate, presented ...*x509.Certificate) *Chain {
	return must(ParseChain(leaf.Raw, ders(presented...)))
}

// admitted parses and verifies, and fails the test on an error.
func admitted(t *testing.T, b *Bundle, opts Options, leaf *x509.Certificate, presented ...*x509.Certificate) Path {
	t.Helper()
	c, err := ParseChain(leaf.Raw, ders(presented...))
	if err != nil {
		t.Fatal(err)
	}
	path, err := b.Verify(c, opts)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// refused parses and verifies, and fails the test unless that is an *Error.
func refused(t *testing.T, b *Bundle, opts Options, leaf []byte, presented ...[]byte) *Error {
	t.Helper()
	var path Path
	c, err := ParseChain(leaf, presented)
	if err == nil {
		path, err = b.Verify(c, opts)
	}
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("path of %d certificates and error %v, want an *Error", len(path.Certificates()), err)
	}
	if path.Leaf() != nil {
		t.Error("a refusal has a path")
	}
	checkDetail(t, failure.Detail)
	return failure
}

// checkDetail holds a detail to what a log line and an event can take.
func checkDetail(t *testing.T, detail string) {
	t.Helper()
	if detail == "" || len(detail) > maxDetail {
		t.Errorf("detail has %d bytes", len(detail))
	}
	if i := strings.IndexFunc(detail, func(r rune) bool { return !strconv.IsPrint(r) }); i >= 0 || !utf8.ValidString(detail) {
		t.Errorf("detail is not printable at %d: %q", i, detail)
	}
}

func names(certs []*x509.Certificate) string {
	var out []string
	for _, c := range certs {
		out = append(out, c.Subject.CommonName)
	}
	return strings.Join(out, " < ")
}

func caOption(change func(*x509.Certificate)) pki.Option { return pki.WithTemplate(change) }

func rawSubject(c *x509.Certificate) pki.Option {
	return caOption(func(t *x509.Certificate) { t.RawSubject = c.RawSubject })
}

// lookAlike has everything of an authority but its key.
func lookAlike(a *pki.Authority) *pki.Authority {
	c := a.Certificate
	return must(pki.NewRoot(c.Subject.CommonName, rawSubject(c), caOption(func(t *x509.Certificate) {
		t.SubjectKeyId = c.SubjectKeyId
		t.SerialNumber = c.SerialNumber
		t.NotBefore, t.NotAfter = c.NotBefore, c.NotAfter
	})))
}

// noSubjectKeyID leaves the key identifier out, and so out of what the authority
// issues.
var noSubjectKeyID = pki.WithEdit(func(t *pki.TBS) { dropExtension(t, asn1.ObjectIdentifier{2, 5, 29, 14}) })

func dropExtension(t *pki.TBS, id asn1.ObjectIdentifier) {
	kept := t.Extensions[:0]
	for _, e := range t.Extensions {
		if !e.Id.Equal(id) {
			kept = append(kept, e)
		}
	}
	t.Extensions = kept
}

func extension(id asn1.ObjectIdentifier, critical bool, value []byte) pki.Option {
	return caOption(func(t *x509.Certificate) {
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	})
}

// maxDetail is what two hostile names and a sentence around them come to.
const maxDetail = 2 << 10

// now is a time at which the fixtures are valid.
var now = time.Now().Truncate(time.Second)

// directoryNameConstraint limits names to (tag 0), or excludes (tag 1), those
// under C=XX.
func directoryNameConstraint(tag int) []byte {
	country := must(asn1.Marshal(pkix.Name{Country: []string{"XX"}}.ToRDNSequence()))
	return nameConstraint(tag, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: country})
}

func nameConstraint(tag int, base asn1.RawValue) []byte {
	sequence := asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true}
	subtree := sequence
	subtree.Bytes = must(asn1.Marshal(base))
	list := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: must(asn1.Marshal(subtree))}
	sequence.Bytes = must(asn1.Marshal(list))
	return must(asn1.Marshal(sequence))
}
