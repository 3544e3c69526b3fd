package trust

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// checkOutline holds a certificate's outline to crypto/x509.
func checkOutline(t *testing.T, der []byte) {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return
	}
	o, ok := ReadOutline(der)
	if !ok {
		t.Fatalf("%s has no outline: %x", c.Subject, der)
	}
	if !bytes.Equal(o.Subject, c.RawSubject) {
		t.Errorf("subject %x, want %x", o.Subject, c.RawSubject)
	}
	if !bytes.Equal(o.KeyID, c.SubjectKeyId) {
		t.Errorf("key ID %x, want %x", o.KeyID, c.SubjectKeyId)
	}
	if got := o.NotAfter(); !got.Equal(c.NotAfter) {
		t.Errorf("expires %s, want %s", got, c.NotAfter)
	}
}

// outlined are certificates of all the forms that an outline has to know.
func outlined() map[string][]byte {
	root := func(opts ...pki.Option) []byte { return must(pki.NewRoot("Acme Root", opts...)).Certificate.Raw }
	until := func(year int) []byte {
		return root(pki.WithValidity(time.Unix(0, 0), time.Date(year, 12, 31, 23, 59, 59, 0, time.UTC)))
	}
	edited := func(edit func(*pki.TBS)) []byte { return root(pki.WithEdit(edit)) }
	foreign := asn1.ObjectIdentifier{1, 2, 3}
	return map[string][]byte{
		"root":            root(),
		"of a device":     newFactory("Acme").device.Certificate.Raw,
		"1979":            until(1979),
		"last UTCTime":    until(2049),
		"GeneralizedTime": until(2050),
		"for ever":        until(9999),
		"long extension":  root(extension(foreign, false, make([]byte, 1<<17))),
		"no extensions":   edited(func(t *pki.TBS) { t.Extensions = nil }),
		"no key ID": edited(func(t *pki.TBS) {
			t.Extensions = slices.DeleteFunc(t.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(subjectKeyIDOID) })
		}),
		"empty key ID": edited(func(t *pki.TBS) {
			for i, e := range t.Extensions {
				if e.Id.Equal(subjectKeyIDOID) {
					t.Extensions[i].Value = []byte{tagOctetString, 0}
				}
			}
		}),
		"key ID last, after a critical one": edited(func(t *pki.TBS) {
			slices.SortStableFunc(t.Extensions, func(a, b pkix.Extension) int {
				return cmp.Compare(a.Id.String(), b.Id.String()) // 2.5.29.14 before 15 and 19
			})
			slices.Reverse(t.Extensions)
		}),
		"unique IDs": edited(func(t *pki.TBS) { // they follow the key
			t.PublicKey.FullBytes = append(slices.Clone(t.PublicKey.FullBytes), tagIssuerID, 2, 0, 1, tagSubjectID, 2, 0, 1)
		}),
		"version 1, of which extensions are not read": edited(func(t *pki.TBS) { t.Version = 0 }),
		"version 2, of which extensions are not read": edited(func(t *pki.TBS) { t.Version = 1 }),
	}
}

var subjectKeyIDOID = asn1.ObjectIdentifier{2, 5, 29, 14}

func TestOutline(t *testing.T) {
	for name, der := range outlined() {
		t.Run(name, func(t *testing.T) {
			if _, err := x509.ParseCertificate(der); err != nil {
				t.Fatal(err) // nothing would be compared
			}
			checkOutline(t, der)
			for n := range der { // neither do cut ones matter, nor do they do harm
				ReadOutline(der[:n])
			}
		})
	}
}

func FuzzOutline(f *testing.F) {
	for _, der := range outlined() {
		f.Add(der)
	}
	f.Fuzz(checkOutline)
}

// BenchmarkOutline is what it costs beside parsing.
func BenchmarkOutline(b *testing.B) {
	der := newFactory("Acme").root.Certificate.Raw
	b.Run("outline", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ReadOutline(der)
		}
	})
	b.Run("parsed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must(x509.ParseCertificate(der))
		}
	})
}
