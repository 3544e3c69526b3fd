package provision_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// The benchmarks of a whole check, without the wire:
//
//	go test -run '^$' -bench Admit -benchmem ./provision
//
// Compare AdmitKnown and AdmitRefused with Verify, one verification by
// crypto/x509 of the same chain: that is what a gate without caches pays.

// benchStore is what the benchmarks need of either store.
type benchStore interface {
	provision.Store
	provision.HubRegistry
	provision.Claims
}

func benchStores(b *testing.B, run func(b *testing.B, store benchStore)) {
	b.Run("bolt", func(b *testing.B) {
		store, err := boltstore.Open(boltstore.Config{Path: filepath.Join(b.TempDir(), "hubgate.db")})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = store.Run(ctx) })
		defer func() {
			cancel()
			running.Wait()
			_ = store.Close()
		}()
		run(b, store)
	})
	b.Run("redis", func(b *testing.B) {
		store, err := redisstore.Open(b.Context(), redisstore.Config{URL: redistest.Start(b).URL()})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = store.Close() }()
		run(b, store)
	})
}

// benchGate is a gate on the store with one hub that trusts vendor.
func benchGate(b *testing.B, store benchStore, vendor *pki.Authority, rules ...provision.AdmissionRule) *provision.Gate {
	b.Helper()
	gate, err := provision.NewGate(provision.GateConfig{Store: store, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = gate.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		running.Wait()
	})
	h := provision.Hub{ID: provision.NewHubID(), Name: "bench", AutoProvisioning: true, Anchors: [][]byte{vendor.Certificate.Raw}}
	h.Policy.Admission = rules
	if _, err := store.CreateHub(b.Context(), h, provision.Created.OnHub(h, time.Now())); err != nil {
		b.Fatal(err)
	}
	for {
		if _, ok := gate.Hub("bench"); ok && gate.Ready() == nil {
			return gate
		}
		time.Sleep(time.Millisecond)
	}
}

func benchVendor(b *testing.B) (root, line *pki.Authority) {
	b.Helper()
	root, err := pki.NewRoot("Vendor Root")
	if err != nil {
		b.Fatal(err)
	}
	line, err = root.Intermediate("Line 7")
	if err != nil {
		b.Fatal(err)
	}
	return root, line
}

func benchLeaf(b *testing.B, a *pki.Authority, cn string) *pki.Identity {
	b.Helper()
	id, err := a.Leaf(cn)
	if err != nil {
		b.Fatal(err)
	}
	return id
}

func admit(b *testing.B, gate *provision.Gate, c provision.Connection, want provision.Reason) {
	b.Helper()
	if d := gate.Admit(b.Context(), c); d.Reason != want {
		b.Fatalf("%s (%s), want %s", d.Reason, d.Detail, want)
	}
}

func BenchmarkAdmitKnown(b *testing.B) {
	benchStores(b, func(b *testing.B, store benchStore) {
		root, line := benchVendor(b)
		gate := benchGate(b, store, root)
		c := over(benchLeaf(b, line, "SN-1"))
		admit(b, gate, c, provision.DeviceProvisioned)
		b.ReportAllocs()
		for b.Loop() {
			admit(b, gate, c, provision.DeviceKnown)
		}
	})
}

func BenchmarkAdmitFirst(b *testing.B) {
	benchStores(b, func(b *testing.B, store benchStore) {
		root, line := benchVendor(b)
		gate := benchGate(b, store, root)
		conns := make([]provision.Connection, b.N)
		for i := range conns {
			conns[i] = over(benchLeaf(b, line, fmt.Sprintf("SN-%06d", i)))
		}
		b.ReportAllocs()
		b.ResetTimer()
		for _, c := range conns {
			admit(b, gate, c, provision.DeviceProvisioned)
		}
	})
}

func BenchmarkAdmitRefused(b *testing.B) {
	benchStores(b, func(b *testing.B, store benchStore) {
		root, _ := benchVendor(b)
		gate := benchGate(b, store, root)
		foreign, err := pki.NewRoot("Vendor Root") // the same name: a signature has to tell
		if err != nil {
			b.Fatal(err)
		}
		conns := make([]provision.Connection, b.N)
		for i := range conns {
			conns[i] = over(benchLeaf(b, foreign, fmt.Sprintf("SN-%06d", i)))
		}
		b.ReportAllocs()
		b.ResetTimer()
		for _, c := range conns {
			gate.Admit(b.Context(), c)
		}
	})
}

// BenchmarkVerify is the yardstick: one verification by crypto/x509.
func BenchmarkVerify(b *testing.B) {
	root, line := benchVendor(b)
	id := benchLeaf(b, line, "SN-1")
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.Certificate)
	intermediates.AddCert(line.Certificate)
	for b.Loop() {
		if _, err := id.Certificate.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			b.Fatal(err)
		}
	}
}
