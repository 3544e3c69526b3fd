package trust

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// reasonOf is an entry's reason code (RFC 5280, 5.3.1).
func reasonOf(code int) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		for i := range l.RevokedCertificateEntries {
			l.RevokedCertificateEntries[i].ReasonCode = code
		}
	}
}

// listExtension adds an extension to the list, entryExtension to each entry.
func listExtension(id asn1.ObjectIdentifier, critical bool, value []byte) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

func entryExtension(id asn1.ObjectIdentifier, critical bool, value []byte) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		for i := range l.RevokedCertificateEntries {
			l.RevokedCertificateEntries[i].ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: value}}
		}
	}
}

// crypto/x509 makes no list that is broken; the older type does.
type (
	signedCRL = pkix.CertificateList
	tbsCRL    = pkix.TBSCertificateList //nolint:staticcheck // as above
)

// editCRL changes a signed list, whose signature is then broken.
func editCRL(der []byte, edit func(*tbsCRL)) []byte {
	var list signedCRL
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		panic(err)
	}
	list.TBSCertList.Raw = nil
	edit(&list.TBSCertList)
	return must(asn1.Marshal(list))
}

func TestCRLIsParsed(t *testing.T) {
	f := newFactory("Acme")
	cas := certs(f.root.Certificate, f.line.Certificate)
	der := must(f.line.CRL(7, certs(f.device.Certificate)))
	for name, data := range map[string][]byte{
		"DER":                            der,
		"PEM":                            pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}),
		"PEM after a comment":            append([]byte("Acme's list\n"), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...),
		"with a reason":                  must(f.line.CRL(7, certs(f.device.Certificate), reasonOf(1))),
		"on hold":                        must(f.line.CRL(7, certs(f.device.Certificate), reasonOf(6))),
		"with an invalidity date":        must(f.line.CRL(7, certs(f.device.Certificate), entryExtension(oidInvalidityDate, false, must(asn1.MarshalWithParams(time.Unix(1_700_000_000, 0).UTC(), "generalized"))))),
		"with an extension of no weight": must(f.line.CRL(7, certs(f.device.Certificate), listExtension(asn1.ObjectIdentifier{1, 2, 3}, false, []byte{5, 0}))),
	} {
		c, err := ParseCRL(data, cas)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := SerialID(KeyHashOf(f.line.Certificate), f.device.Certificate.SerialNumber)
		if c.Issuer != KeyHashOf(f.line.Certificate) || c.Number.Int64() != 7 || !slices.Equal(c.Revoked, []RevocationID{want}) {
			t.Errorf("%s: issuer %s, number %s, revoked %v", name, c.Issuer, c.Number, c.Revoked)
		}
		again, err := ReadCRL(c.DER, c.Issuer)
		if err != nil || !slices.Equal(again.Revoked, c.Revoked) {
			t.Errorf("%s: read again: %v, %v", name, again, err)
		}
	}
}

// TestCRLIsRefused: whatever does not say all that its issuer has revoked, or
// was not signed by it.
func TestCRLIsRefused(t *testing.T) {
	f, other := newFactory("Acme"), newFactory("Other")
	cas := certs(f.root.Certificate, f.line.Certificate)
	revoked := certs(f.device.Certificate)
	good := must(f.line.CRL(1, revoked))
	noSign := must(f.root.Intermediate("Acme No CRL", caOption(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })))
	forbidden := must(x509.ParseCertificate(noSign.Certificate.Raw))
	// The key may sign lists by another certificate of the same name.
	noSign.Certificate = must(f.root.Intermediate("Acme No CRL", pki.WithSigner(noSign.Key))).Certificate
	for name, c := range map[string]struct {
		data []byte
		cas  []*x509.Certificate
		want string
	}{
		"nothing":                {nil, cas, "does not parse"},
		"a certificate":          {f.device.Certificate.Raw, cas, "does not parse"},
		"other PEM":              {pki.EncodeCertificates(f.device.Certificate), cas, "PEM of type"},
		"broken PEM":             {[]byte("-----BEGIN X509 CRL-----\nAAAA"), cas, "neither DER nor PEM"},
		"two in one":             {append(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: good}), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: good})...), cas, "more than one"},
		"something after it":     {append(slices.Clone(good), 0), cas, "follows"},
		"too large":              {append([]byte{tagSequence}, make([]byte, MaxCRLBytes)...), cas, "more than"},
		"a stranger's":           {must(other.line.CRL(1, nil)), cas, "none of the CAs known"},
		"a look-alike's":         {must(lookAlike(f.line).CRL(1, revoked)), cas, "does not verify"},
		"changed":                {editCRL(good, func(l *tbsCRL) { l.RevokedCertificates = nil }), cas, "does not verify"},
		"of a CA that may not":   {must(noSign.CRL(1, nil)), certs(forbidden), "does not include CRL signing"},
		"without a number":       {editCRL(good, func(l *tbsCRL) { l.Extensions = nil }), cas, "no number"},
		"without a next update":  {editCRL(good, func(l *tbsCRL) { l.NextUpdate = time.Time{} }), cas, "next list is due"},
		"due before it was made": {editCRL(good, func(l *tbsCRL) { l.NextUpdate = l.ThisUpdate }), cas, "due before"},
		"a negative number":      {must(f.line.CRL(-1, nil)), cas, "negative"},
		"an absurd number": {editCRL(good, func(l *tbsCRL) {
			i := slices.IndexFunc(l.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidCRLNumber) })
			l.Extensions[i].Value = must(asn1.Marshal(new(big.Int).Lsh(big.NewInt(1), maxCRLNumber)))
		}), cas, "longer than 20 octets"},
		"a delta":                {must(f.line.CRL(1, nil, listExtension(oidDeltaCRL, true, must(asn1.Marshal(1))))), cas, "delta"},
		"a part":                 {must(f.line.CRL(1, nil, listExtension(oidIssuingPoint, true, []byte{0x30, 3, 0x81, 1, 0xff}))), cas, "issuing distribution point"},
		"a critical extension":   {must(f.line.CRL(1, nil, listExtension(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}))), cas, "critical extension 1.2.3"},
		"an extension twice":     {must(f.line.CRL(1, nil, listExtension(asn1.ObjectIdentifier{1, 2, 3}, false, []byte{5, 0}), listExtension(asn1.ObjectIdentifier{1, 2, 3}, false, []byte{5, 0}))), cas, "twice"},
		"a critical entry":       {must(f.line.CRL(1, revoked, entryExtension(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}))), cas, "critical extension 1.2.3"},
		"an indirect entry":      {must(f.line.CRL(1, revoked, entryExtension(oidCertificateOwner, true, []byte{0x30, 0}))), cas, "indirect"},
		"an entry to be removed": {must(f.line.CRL(1, revoked, reasonOf(removeFromCRL))), cas, "delta"},
		"without any CA":         {good, nil, "none of the CAs known"},
	} {
		t.Run(name, func(t *testing.T) {
			parsed, err := ParseCRL(c.data, c.cas)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("parsed %v, error %v, want %q", parsed, err, c.want)
			}
			checkDetail(t, err.Error())
		})
	}
	if _, err := ParseCRL(must(other.line.CRL(1, nil)), cas); !errors.Is(err, ErrNoIssuer) {
		t.Errorf("a stranger's list: %v, want ErrNoIssuer", err)
	}
}

func FuzzParseCRL(f *testing.F) {
	v := fixedFactory()
	cas := certs(v.root.Certificate, v.line.Certificate)
	good := must(v.line.CRL(1, certs(v.device.Certificate)))
	f.Add(good)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: good}))
	f.Add(must(v.root.CRL(3, certs(v.line.Certificate), reasonOf(1))))
	f.Add(must(v.line.CRL(1, certs(v.device.Certificate), entryExtension(oidCertificateOwner, true, []byte{0x30, 0}))))
	f.Add(editCRL(good, func(l *tbsCRL) { l.NextUpdate = time.Time{} }))
	f.Add([]byte("-----BEGIN X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCRL(data, cas)
		if err != nil {
			checkDetail(t, err.Error())
			return
		}
		// Nobody can change a list that a CA signed but for its encoding.
		again, err := ReadCRL(c.DER, c.Issuer)
		if err != nil || !bytes.Equal(again.DER, c.DER) || !slices.Equal(again.Revoked, c.Revoked) {
			t.Errorf("read again: %v", err)
		}
	})
}
