package trust

import (
	"context"
	"crypto/x509"
	"testing"
)

// BenchmarkHostile is what a stranger can cost.
func BenchmarkHostile(b *testing.B) {
	f := newFactory("Acme")
	for _, h := range hostileChains(f) {
		bundle := bundleOf(certs(f.root.Certificate), h.known...)
		b.Run(h.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, err := ParseChain(h.leaf, h.presented)
				if err != nil {
					continue
				}
				_, _ = bundle.Verify(c, Options{Now: now})
			}
		})
	}
}

// BenchmarkVerify is a device's usual chain, here and in crypto/x509.
func BenchmarkVerify(b *testing.B) {
	f := newFactory("Acme")
	leaf, line := f.device.Certificate.Raw, f.line.Certificate.Raw
	bundle := bundleOf(certs(f.root.Certificate))
	b.Run("here", func(b *testing.B) {
		for b.Loop() {
			c := must(ParseChain(leaf, [][]byte{line}))
			must(bundle.Verify(c, Options{Now: now}))
		}
	})
	b.Run("here, intermediate known", func(b *testing.B) {
		bundle := bundleOf(certs(f.root.Certificate), f.line.Certificate)
		for b.Loop() {
			c := must(ParseChain(leaf, nil))
			must(bundle.Verify(c, Options{Now: now}))
		}
	})
	b.Run("crypto x509", func(b *testing.B) {
		for b.Loop() {
			roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(f.root.Certificate)
			intermediates.AddCert(must(x509.ParseCertificate(line)))
			must(must(x509.ParseCertificate(leaf)).Verify(x509.VerifyOptions{
				Roots: roots, Intermediates: intermediates, CurrentTime: now,
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}))
		}
	})
	b.Run("cached", func(b *testing.B) {
		cache := must(NewCache(CacheConfig{}))
		c := must(ParseChain(leaf, [][]byte{line}))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := cache.Verify(context.Background(), bundle, c, Options{Now: now}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached, parsed anew", func(b *testing.B) {
		cache := must(NewCache(CacheConfig{}))
		for b.Loop() {
			c := must(ParseChain(leaf, [][]byte{line}))
			if _, _, err := cache.Verify(context.Background(), bundle, c, Options{Now: now}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkForeign is a refused chain of another vendor, and the one failed
// signature check it should cost.
func BenchmarkForeign(b *testing.B) {
	f := newFactory("Acme")
	fake := must(lookAlike(f.root).Intermediate("Line"))
	leaf := must(fake.Leaf("SN")).Certificate
	bundle := bundleOf(certs(f.root.Certificate))
	b.Run("look-alike", func(b *testing.B) {
		for b.Loop() {
			c := must(ParseChain(leaf.Raw, [][]byte{fake.Certificate.Raw}))
			_, _ = bundle.Verify(c, Options{Now: now})
		}
	})
	b.Run("unrelated", func(b *testing.B) {
		o := newFactory("Other")
		for b.Loop() {
			c := must(ParseChain(o.device.Certificate.Raw, [][]byte{o.line.Certificate.Raw}))
			_, _ = bundle.Verify(c, Options{Now: now})
		}
	})
	b.Run("one failed check", func(b *testing.B) {
		for b.Loop() {
			_ = fake.Certificate.CheckSignatureFrom(f.root.Certificate)
		}
	})
	b.Run("parsing alone", func(b *testing.B) {
		for b.Loop() {
			must(ParseChain(leaf.Raw, [][]byte{fake.Certificate.Raw}))
		}
	})
}
