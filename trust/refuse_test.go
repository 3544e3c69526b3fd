package trust

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// TestParseChainRefuses has one row for every rule that needs no anchor.
func TestParseChainRefuses(t *testing.T) {
	f := newFactory("Acme")
	device, line := f.device.Certificate.Raw, f.line.Certificate.Raw
	leafOf := func(opts ...pki.Option) []byte { return must(f.line.Leaf("SN-1", opts...)).Certificate.Raw }
	edited := func(change func(*pki.TBS)) []byte {
		return must(pki.Edit(device, f.line.Key, crypto.SHA256, change))
	}
	distinct := func(n int) [][]byte {
		var out [][]byte
		for range n {
			out = append(out, must(f.line.Leaf("junk")).Certificate.Raw)
		}
		return out
	}
	padding := func(n int) []byte {
		return leafOf(extension(asn1.ObjectIdentifier{1, 2, 3}, false, make([]byte, n)))
	}
	// Brainpool P-256r1, which crypto/x509 does not know.
	brainpool := edited(func(t *pki.TBS) {
		t.PublicKey.FullBytes = bytes.Replace(t.PublicKey.FullBytes,
			must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})),
			[]byte{0x06, 8, 0x2b, 36, 3, 3, 2, 8, 1, 7}, 1)
	})
	type row struct {
		name      string
		leaf      []byte
		presented [][]byte
		fault     Fault
		index     int
		detail    string
	}
	rows := []row{
		{"nothing", nil, nil, Malformed, 0, "the leaf does not parse"},
		{"DER garbage", []byte("\x30\x82garbage"), nil, Malformed, 0, "the leaf does not parse"},
		{"PEM", pki.EncodeCertificates(f.device.Certificate), nil, Malformed, 0, "the leaf does not parse"},
		{"leaf cut short", device[:len(device)-1], nil, Malformed, 0, "the leaf does not parse"},
		{"trailing bytes", append(slices.Clone(device), 0), nil, Malformed, 0, "trailing data"},
		{"two certificates in one", append(slices.Clone(device), line...), nil, Malformed, 0, "trailing data"},
		{"empty presented", device, [][]byte{line, nil}, Malformed, 2, "presented certificate 2 does not parse"},
		{"garbage presented", device, [][]byte{{1, 2, 3}}, Malformed, 1, "presented certificate 1 does not parse"},
		{"garbage after the repeated leaf", device, [][]byte{device, {1, 2, 3}}, Malformed, 1, "presented certificate 1 does not parse"},
		{"negative serial", edited(func(t *pki.TBS) { t.Serial = big.NewInt(-5) }), nil, Malformed, 0, "negative serial number"},
		{"duplicate extension", edited(func(t *pki.TBS) { t.Extensions = append(t.Extensions, t.Extensions[0]) }), nil, Malformed, 0, "duplicate"},
		{"11 certificates", device, distinct(MaxCertificates), Unsupported, -1, "11 certificates; at most 10"},
		{"11 times the leaf", device, slices.Repeat([][]byte{device}, 11), Unsupported, -1, "11 certificates; at most 10"},
		{"65 KiB", padding(65 << 10), nil, Unsupported, -1, "bytes; at most 65536"},
		{"65 KiB presented", device, [][]byte{make([]byte, 65<<10)}, Unsupported, -1, "bytes; at most 65536"},
		{"SHA-1", leafOf(pki.WithSHA1()), nil, Unsupported, 0, "signed with ECDSA-SHA1"},
		{"P-224", leafOf(pki.WithKey(pki.P224)), nil, Unsupported, 0, "curve P-224"},
		{"Brainpool", brainpool, nil, Unsupported, 0, "unsupported elliptic curve"},
		{"Brainpool presented", device, [][]byte{brainpool}, Unsupported, 1, "unsupported elliptic curve"},
		{"1024-bit RSA", leafOf(pki.WithKey(pki.RSA1024)), nil, Unsupported, 0, "1024 bits"},
		{"4097-bit RSA", leafOf(pki.WithRSAModulus(4097, 65537)), nil, Unsupported, 0, "4097 bits"},
		{"56,000-bit RSA", leafOf(pki.WithRSAModulus(56_000, 65537)), nil, Unsupported, 0, "56000 bits"},
		{"RSA with e = 3", leafOf(pki.WithRSAModulus(2048, 3)), nil, Unsupported, 0, "exponent 3"},
		{"a key of no known type", edited(func(t *pki.TBS) {
			t.PublicKey.FullBytes = must(asn1.Marshal(struct {
				Algorithm pkix.AlgorithmIdentifier
				Key       asn1.BitString
			}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 3, 4}}, asn1.BitString{Bytes: []byte{1}, BitLength: 8}}))
		}), nil, Unsupported, 0, "no accepted type"},
		{"an algorithm of no known type", edited(func(t *pki.TBS) {
			t.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 3, 4}
		}), nil, Unsupported, 0, "it is signed with"},
	}
	for name, opt := range heavy(MaxChainBytes - 1<<10) {
		rows = append(rows, row{"nearly 64 KiB of " + name, leafOf(opt), nil, Unsupported, -1, "more than 2048 ASN.1 values"})
	}
	for _, long := range []string{"usage", "extension type", "critical type", "attribute type"} {
		rows = append(rows, row{"long " + long, leafOf(longValues()[long]), nil, Unsupported, -1, "more than 2048 ASN.1 values"})
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			failure := refused(t, bundleOf(nil), Options{}, r.leaf, r.presented...)
			if failure.Fault != r.fault || failure.Index != r.index || !strings.Contains(failure.Detail, r.detail) {
				t.Errorf("%v at %d, want %v at %d with %q", failure, failure.Index, r.fault, r.index, r.detail)
			}
			if (failure.Certificate != nil) != (failure.Fault == Unsupported && r.index == 0 && r.name != "Brainpool") {
				t.Errorf("certificate %v", failure.Certificate)
			}
		})
	}
	t.Run("at the limits", func(t *testing.T) {
		if _, err := ParseChain(device, distinct(MaxCertificates-1)); err != nil {
			t.Error(err)
		}
		if _, err := ParseChain(device, append([][]byte{device}, distinct(MaxCertificates-1)...)); err != nil {
			t.Errorf("with the leaf repeated: %v", err)
		}
		size := MaxChainBytes - len(device)
		big := padding(size - len(padding(40_000)) + 40_000)
		for len(big) > size { // ECDSA signatures vary in length
			big = padding(size - len(padding(40_000)) + 40_000)
		}
		if _, err := ParseChain(device, [][]byte{big}); err != nil {
			t.Error(err)
		}
		const oneIP = 6 // bytes; one address is one value
		some := countElements(leafOf(heavy(600 * oneIP)["IPs"]), MaxChainBytes)
		for more, ok := range map[int]bool{0: true, 1: false} {
			n := 600 + MaxElements - some + more
			if _, err := ParseChain(leafOf(heavy(n * oneIP)["IPs"]), nil); (err == nil) != ok {
				t.Errorf("%d values: %v", MaxElements+more, err)
			}
		}
	})
}

// TestVerifyRefuses has one row for every rule that an unsound chain breaks.
func TestVerifyRefuses(t *testing.T) {
	f := newFactory("Acme")
	root, line, device := f.root, f.line, f.device.Certificate
	other := newFactory("Other")
	acme := certs(root.Certificate)
	leafOf := func(a *pki.Authority, opts ...pki.Option) *x509.Certificate {
		return must(a.Leaf("SN-1", opts...)).Certificate
	}
	caOf := func(a *pki.Authority, name string, opts ...pki.Option) *pki.Authority {
		return must(a.Intermediate(name, opts...))
	}
	past := pki.WithValidity(now.Add(-2*time.Hour), now.Add(-time.Second))
	future := pki.WithValidity(now.Add(NotBeforeLeeway+time.Second), now.Add(time.Hour))
	serverOnly := caOption(func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	oddUsage := caOption(func(t *x509.Certificate) {
		t.ExtKeyUsage, t.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{{1, 2, 3, 4}}
	})
	usage := func(u x509.KeyUsage) pki.Option {
		return caOption(func(t *x509.Certificate) { t.KeyUsage = u })
	}
	pathLength0 := caOption(func(t *x509.Certificate) { t.MaxPathLenZero = true })
	notCA := caOption(func(t *x509.Certificate) { t.IsCA = false })

	oldLine, newLine := caOf(root, "Old Line", past), caOf(root, "New Line", future)
	expiredRoot := must(pki.NewRoot("Expired Root", past))
	serverLine := caOf(root, "Server Line", serverOnly)
	oddLine := caOf(root, "Odd Line", oddUsage)
	short := caOf(root, "Short", pathLength0)
	belowShort := caOf(short, "Below")
	deviceCA := &pki.Authority{Certificate: f.device.Certificate, Key: f.device.Key}
	noSign := caOf(root, "No Sign", usage(x509.KeyUsageDigitalSignature|x509.KeyUsageCRLSign))
	plainLine := caOf(root, "Plain", notCA, usage(x509.KeyUsageCertSign))
	sha1Line := caOf(root, "SHA-1 Line", pki.WithSHA1())
	hugeLine := caOf(root, "Huge Line", pki.WithRSAModulus(56_000, 65537))
	ofHugeLine := leafOf(caOf(other.root, "Huge Line")) // nobody has the huge key
	p224Line := caOf(root, "P-224 Line", pki.WithKey(pki.P224))
	fakeRoot, fakeLine := lookAlike(root), lookAlike(line)
	fakeDevice := leafOf(fakeLine)
	ownLine := caOf(fakeRoot, "Acme Line", rawSubject(line.Certificate))
	self := must(pki.NewRoot("SN-1", notCA, usage(x509.KeyUsageDigitalSignature))).Certificate
	unknownCritical := extension(asn1.ObjectIdentifier{1, 2, 3, 4}, true, []byte{5, 0})
	constraints := func(critical bool, value []byte) *pki.Authority {
		return caOf(root, "Constrained", extension(oidNameConstraints, critical, value))
	}
	form := func(tag int, compound bool) *pki.Authority {
		return constraints(true, nameConstraint(0, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: []byte{6, 1, 1}}))
	}
	permitted, excluded := constraints(true, directoryNameConstraint(0)), constraints(true, directoryNameConstraint(1))
	uncritical := constraints(false, directoryNameConstraint(0))
	otherName, registeredID := form(0, true), form(8, false)
	dnsLine := caOf(root, "DNS Line", caOption(func(t *x509.Certificate) {
		t.PermittedDNSDomainsCritical, t.PermittedDNSDomains = true, []string{"acme.example"}
	}))
	foreignDNS := leafOf(dnsLine, caOption(func(t *x509.Certificate) { t.DNSNames = []string{"other.example"} }))
	toAcme, toOther := must(line.CrossSign(other.line)), must(other.line.CrossSign(line))
	noIDs := must(pki.NewRoot("No IDs Root", noSubjectKeyID))
	keyless := caOf(noIDs, "Keyless", noSubjectKeyID)

	for _, r := range []struct {
		name      string
		anchors   []*x509.Certificate
		known     []*x509.Certificate
		leaf      *x509.Certificate
		presented []*x509.Certificate
		fault     Fault
		index     int
		signed    bool
		detail    string
	}{
		{"intermediate missing", acme, nil, device, nil, Incomplete, 0, false, `"CN=Acme Line" (key ID `},
		{"only the anchor presented", acme, nil, device, acme, Incomplete, 0, false, `"CN=Acme Line"`},
		{"upper intermediate missing", acme, nil, leafOf(belowShort), certs(belowShort.Certificate), Incomplete, 1, false, `the issuer of "CN=Below" is missing: "CN=Short"`},
		{"missing issuer without key ID", acme, nil, leafOf(keyless), nil, Incomplete, 0, false, `"CN=Keyless" is neither`},
		{"no anchors", nil, nil, device, certs(line.Certificate), Incomplete, 1, false, `"CN=Acme Root"`},
		{"no anchors, root presented", nil, nil, device, certs(line.Certificate, root.Certificate), Untrusted, 2, false, "ends at self-signed"},
		{"foreign root", acme, nil, other.device.Certificate, certs(other.line.Certificate, other.root.Certificate), Untrusted, 2, false, `ends at self-signed "CN=Other Root"`},
		{"foreign root, not presented", acme, nil, other.device.Certificate, certs(other.line.Certificate), Incomplete, 1, false, `"CN=Other Root"`},
		{"self-signed leaf", acme, nil, self, nil, Untrusted, 0, false, "self-signed"},
		{"the anchor as leaf", acme, nil, root.Certificate, nil, Untrusted, 0, false, "self-signed"},
		{"intermediate as leaf", acme, nil, line.Certificate, nil, WrongUsage, 0, true, "is a CA certificate"},
		{"known intermediate as leaf", acme, certs(line.Certificate), line.Certificate, nil, WrongUsage, 0, true, "is a CA certificate"},
		{"expired leaf", acme, nil, leafOf(line, past), certs(line.Certificate), Expired, 0, true, "expired at"},
		{"expired intermediate", acme, nil, leafOf(oldLine), certs(oldLine.Certificate), Expired, 1, true, `"CN=Old Line" expired at`},
		{"expired known intermediate", acme, certs(oldLine.Certificate), leafOf(oldLine), nil, Expired, -1, true, `"CN=Old Line" expired at`},
		{"expired anchor", certs(expiredRoot.Certificate), nil, leafOf(expiredRoot), nil, Expired, -1, true, `"CN=Expired Root" expired at`},
		{"leaf not yet valid", acme, nil, leafOf(line, future), certs(line.Certificate), NotYetValid, 0, true, "is valid from"},
		{"intermediate not yet valid", acme, nil, leafOf(newLine), certs(newLine.Certificate), NotYetValid, 1, true, "is valid from"},
		{"leaf for servers only", acme, nil, leafOf(line, serverOnly), certs(line.Certificate), WrongUsage, 0, true, "client authentication"},
		{"leaf for unknown usages only", acme, nil, leafOf(line, oddUsage), certs(line.Certificate), WrongUsage, 0, true, "client authentication"},
		{"intermediate for servers only", acme, nil, leafOf(serverLine), certs(serverLine.Certificate), WrongUsage, 1, true, "client authentication"},
		{"intermediate for unknown usages only", acme, nil, leafOf(oddLine), certs(oddLine.Certificate), WrongUsage, 1, true, "client authentication"},
		{"leaf that may not sign", acme, nil, leafOf(line, usage(x509.KeyUsageKeyEncipherment)), certs(line.Certificate), WrongUsage, 0, true, "digital signature"},
		{"path length broken", acme, nil, leafOf(belowShort), certs(belowShort.Certificate, short.Certificate), Untrusted, 2, true, `path length of CA "CN=Short"`},
		{"path length broken, known", acme, certs(belowShort.Certificate, short.Certificate), leafOf(belowShort), nil, Untrusted, -1, true, `path length of CA "CN=Short"`},
		{"issued by a leaf", acme, nil, must(deviceCA.Leaf("SN-2")).Certificate, certs(device, line.Certificate), Untrusted, 1, false, `"CN=SN-1" was used as an issuer: it is not a CA`},
		{"issued without certificate signing", acme, nil, leafOf(noSign), certs(noSign.Certificate), Untrusted, 1, false, "certificate signing"},
		{"issued by no CA that has the key usage", acme, nil, leafOf(plainLine), certs(plainLine.Certificate), Untrusted, 1, false, "it is not a CA"},
		{"intermediate signed with SHA-1", acme, nil, leafOf(sha1Line), certs(sha1Line.Certificate), Unsupported, 1, false, "ECDSA-SHA1"},
		{"intermediate with a 56,000-bit RSA key", acme, nil, ofHugeLine, certs(hugeLine.Certificate), Unsupported, 1, false, "56000 bits"},
		{"intermediate on P-224", acme, nil, leafOf(p224Line), certs(p224Line.Certificate), Unsupported, 1, false, "curve P-224"},
		{"permitted directoryName", acme, nil, leafOf(permitted), certs(permitted.Certificate), Untrusted, 1, true, "form directoryName"},
		{"excluded directoryName", acme, nil, leafOf(excluded), certs(excluded.Certificate), Untrusted, 1, true, "form directoryName"},
		{"directoryName, not critical", acme, nil, leafOf(uncritical), certs(uncritical.Certificate), Untrusted, 1, true, "form directoryName"},
		{"otherName constraint", acme, nil, leafOf(otherName), certs(otherName.Certificate), Untrusted, 1, true, "form otherName"},
		{"registeredID constraint", acme, nil, leafOf(registeredID), certs(registeredID.Certificate), Untrusted, 1, true, "form registeredID"},
		{"DNS constraint broken", acme, nil, foreignDNS, certs(dnsLine.Certificate), Untrusted, 0, true, "crypto/x509 refuses"},
		{"unknown critical extension in the leaf", acme, nil, leafOf(line, unknownCritical), certs(line.Certificate), Untrusted, 0, true, "critical extension 1.2.3.4"},
		{"look-alike root presented", acme, nil, leafOf(fakeRoot), certs(fakeRoot.Certificate), Untrusted, 0, false, "does not verify with the key of"},
		{"look-alike intermediate presented", acme, nil, fakeDevice, certs(fakeLine.Certificate), Untrusted, 1, false, `ends at self-signed "CN=Acme Line"`},
		{"look-alike intermediate beside the real one", acme, nil, fakeDevice, certs(line.Certificate, fakeLine.Certificate), Untrusted, 0, false, "does not verify with the key of"},
		{"look-alike intermediate of a known one", acme, certs(line.Certificate), fakeDevice, certs(fakeLine.Certificate), Untrusted, 0, false, "does not verify with the key of"},
		{"look-alike factory", acme, nil, leafOf(ownLine), certs(ownLine.Certificate, fakeRoot.Certificate), Untrusted, 1, false, "does not verify with the key of"},
		{"look-alike as the anchor", certs(fakeRoot.Certificate), nil, device, certs(line.Certificate), Untrusted, 1, false, "does not verify with the key of"},
		{"loop of CAs that certify each other", acme, nil, device, certs(toAcme, toOther), Incomplete, 1, false, "is missing"},
		{"known intermediate of another key ID", acme, certs(caOf(root, "Acme Line").Certificate), device, nil, Incomplete, 0, false, `"CN=Acme Line" (key ID `},
		{"signature changed", acme, nil, brokenSignature(device), certs(line.Certificate), Untrusted, 0, false, "does not verify with the key of"},
	} {
		t.Run(r.name, func(t *testing.T) {
			b := bundleOf(r.anchors, r.known...)
			failure := refused(t, b, Options{Now: now}, r.leaf.Raw, ders(r.presented...)...)
			if failure.Fault != r.fault || !strings.Contains(failure.Detail, r.detail) || failure.Signed != r.signed {
				t.Errorf("%v (signed: %t), want %v (%t) with %q", failure, failure.Signed, r.fault, r.signed, r.detail)
			}
			if failure.Index != r.index {
				t.Errorf("index %d, want %d", failure.Index, r.index)
			}
			switch {
			case failure.Certificate == nil:
				t.Error("no certificate is blamed")
			case failure.Index == 0 && !failure.Certificate.Equal(r.leaf),
				failure.Index > 0 && !failure.Certificate.Equal(r.presented[failure.Index-1]),
				failure.Index < 0 && !b.Knows(FingerprintOf(failure.Certificate)):
				t.Errorf("certificate %s is not the one at %d", failure.Certificate.Subject, failure.Index)
			}
		})
	}
}

// brokenSignature flips a bit of the signature.
func brokenSignature(c *x509.Certificate) *x509.Certificate {
	der := slices.Clone(c.Raw)
	der[len(der)-1] ^= 1
	return must(x509.ParseCertificate(der))
}
