package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// fixedFactory is the same in every process, as fuzzing has several.
func fixedFactory() *factory {
	fixed := func(n byte) []pki.Option {
		return []pki.Option{
			pki.WithSigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))),
			pki.WithTemplate(func(t *x509.Certificate) {
				t.SerialNumber = big.NewInt(int64(n))
				t.NotBefore, t.NotAfter = time.Unix(1_600_000_000, 0), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
			}),
		}
	}
	root := must(pki.NewRoot("Acme Root", fixed(1)...))
	line := must(root.Intermediate("Acme Line", fixed(2)...))
	return &factory{root, line, must(line.Leaf("SN-1", fixed(3)...))}
}

// split takes concatenated DER apart; what does not parse is the last.
func split(all []byte) [][]byte {
	var out [][]byte
	for len(all) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(all, &v)
		if err != nil {
			return append(out, all)
		}
		out = append(out, v.FullBytes)
		all = rest
	}
	return out
}

func FuzzVerify(f *testing.F) {
	v := fixedFactory()
	device, line, root := v.device.Certificate.Raw, v.line.Certificate.Raw, v.root.Certificate.Raw
	other := newFactory("Other")
	inner := must(v.line.Intermediate("Inner"))
	toOther := must(other.root.CrossSign(v.line)).Raw
	f.Add([]byte(nil), []byte(nil))
	f.Add(device, []byte(nil))
	f.Add(device, line)
	f.Add(device, slices.Concat(device, line, root))
	f.Add(device, slices.Concat(root, toOther, line))
	f.Add(line, root)
	f.Add(root, []byte(nil))
	f.Add(must(inner.Leaf("SN-2")).Certificate.Raw, slices.Concat(inner.Certificate.Raw, line))
	f.Add(must(lookAlike(v.line).Leaf("SN-3")).Certificate.Raw, slices.Concat(lookAlike(v.line).Certificate.Raw, line))
	f.Add(other.device.Certificate.Raw, slices.Concat(other.line.Certificate.Raw, other.root.Certificate.Raw))
	for _, o := range []map[string]pki.Option{heavy(1 << 10), {
		"SHA-1":          pki.WithSHA1(),
		"modulus":        pki.WithRSAModulus(2048, 3),
		"directory name": extension(oidNameConstraints, true, directoryNameConstraint(0)),
	}} {
		for _, opt := range o {
			f.Add(must(other.line.Leaf("SN-4", opt)).Certificate.Raw, other.line.Certificate.Raw)
		}
	}
	for _, h := range hostileChains(other) {
		f.Add(h.leaf, slices.Concat(h.presented...))
	}
	at := time.Unix(1_700_000_000, 0)
	bundles := []*Bundle{
		bundleOf(certs(v.root.Certificate)),
		bundleOf(certs(v.root.Certificate), v.line.Certificate),
		bundleOf(certs(v.line.Certificate)),
	}
	f.Fuzz(func(t *testing.T, leaf, presented []byte) {
		chain, err := ParseChain(leaf, split(presented))
		alone, aloneErr := ParseChain(leaf, nil)
		if err != nil {
			checkError(t, err)
			return
		}
		if aloneErr != nil {
			t.Fatalf("the leaf alone: %v", aloneErr)
		}
		for _, b := range bundles {
			path, err := b.Verify(chain, Options{Now: at})
			if err == nil {
				checkSound(t, b, chain, path, at)
				continue
			}
			checkError(t, err)
			if _, err := b.Verify(alone, Options{Now: at}); err == nil {
				t.Error("the leaf verifies alone, and not with what was presented")
			}
		}
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()
	var failure *Error
	if !errors.As(err, &failure) {
		t.Fatalf("%T: %v", err, err)
	}
	checkDetail(t, failure.Detail)
}

// checkSound checks a path anew.
func checkSound(t *testing.T, b *Bundle, chain *Chain, path Path, at time.Time) {
	t.Helper()
	all := path.Certificates()
	if len(all) < 2 || !bytes.Equal(all[0].Raw, chain.leaf.cert.Raw) || all[0].IsCA {
		t.Fatalf("path %s", names(all))
	}
	if !slices.ContainsFunc(b.Anchors(), all[len(all)-1].Equal) {
		t.Errorf("path %s ends at no anchor", names(all))
	}
	for i, c := range all[:len(all)-1] {
		if err := c.CheckSignatureFrom(all[i+1]); err != nil {
			t.Errorf("path %s at %d: %v", names(all), i, err)
		}
	}
	if err := cryptoVerify(b, chain, at); err != nil {
		t.Errorf("path %s: crypto/x509 finds none: %v", names(all), err)
	}
}

// cryptoVerify asks crypto/x509 whether there is any path.
func cryptoVerify(b *Bundle, chain *Chain, at time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range b.Anchors() {
		roots.AddCert(c)
	}
	for _, c := range b.Intermediates() {
		intermediates.AddCert(c)
	}
	for _, n := range chain.issuers {
		intermediates.AddCert(n.cert)
	}
	_, err := chain.leaf.cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// TestAgreesWithCrypto draws vendors at random, cross-signed, expired, limited and
// impersonated, and expects crypto/x509's own search to come to the same verdict.
func TestAgreesWithCrypto(t *testing.T) {
	const rounds = 150
	seed := rand.Uint64()
	outcomes := make(map[string]int)
	for i := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		v := drawVendors(r)
		b := bundleOf(v.anchors, v.known...)
		chain := chainOf(v.leaf, v.presented...)
		budget := new(Budget)
		path, err := b.Verify(chain, Options{Now: now, Budget: budget})
		want := cryptoVerify(b, chain, now)
		switch {
		case err == nil:
			outcomes["admitted"]++
			checkSound(t, b, chain, path, now)
		case budget.used == MaxSignatureChecks:
			outcomes["over budget"]++
		default:
			var failure *Error
			if !errors.As(err, &failure) {
				t.Fatal(err)
			}
			outcomes[failure.Fault.String()]++
			if want == nil {
				t.Errorf("seed %d, round %d: %v, but crypto/x509 finds a path", seed, i, err)
			}
		}
	}
	t.Log(outcomes)
	for _, outcome := range []string{"admitted", "untrusted", "expired", "incomplete"} {
		if outcomes[outcome] == 0 {
			t.Errorf("no round was %s", outcome)
		}
	}
}

type vendors struct {
	anchors, known, presented []*x509.Certificate
	leaf                      *x509.Certificate
}

func drawVendors(r *rand.Rand) vendors {
	flaw := func() []pki.Option {
		switch r.IntN(8) {
		case 0:
			return []pki.Option{pki.WithValidity(now.Add(-2*time.Hour), now.Add(-time.Hour))}
		case 1:
			return []pki.Option{caOption(func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}
		case 2:
			return []pki.Option{caOption(func(t *x509.Certificate) { t.MaxPathLen, t.MaxPathLenZero = 0, true })}
		}
		return nil
	}
	name := func() string { return fmt.Sprintf("CA %d", r.IntN(4)) }
	var cas []*pki.Authority
	for range 2 + r.IntN(2) {
		opts := flaw()
		if r.IntN(3) == 0 {
			opts = append(opts, noSubjectKeyID)
		}
		cas = append(cas, must(pki.NewRoot(name(), opts...)))
	}
	pick := func() *pki.Authority { return cas[r.IntN(len(cas))] }
	roots := len(cas)
	for range 3 + r.IntN(4) {
		cas = append(cas, must(pick().Intermediate(name(), flaw()...)))
	}
	var all []*x509.Certificate
	for _, a := range cas {
		all = append(all, a.Certificate)
	}
	for range r.IntN(5) {
		all = append(all, must(pick().CrossSign(pick(), flaw()...)))
	}
	draw := func(most int) []*x509.Certificate {
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return slices.Clone(all[:min(len(all), r.IntN(most+1))])
	}
	return vendors{
		anchors:   certs(cas[r.IntN(roots)].Certificate, pick().Certificate)[:1+r.IntN(2)],
		known:     draw(3),
		presented: draw(MaxCertificates - 1),
		leaf:      must(cas[roots+r.IntN(len(cas)-roots)].Leaf("SN")).Certificate,
	}
}
