package provision_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// BenchmarkLoad is how long a gate takes to load 10,000 hubs, each of a CA of its
// own, and how long it takes to read them alone. B/hub is what stays in memory.
func BenchmarkLoad(b *testing.B) {
	const hubs = 10_000
	benchStores(b, func(b *testing.B, store benchStore) {
		benchHubs(b, store, hubs)
		b.Run("gate", func(b *testing.B) {
			before := heap()
			var last *provision.Gate
			for b.Loop() {
				gate, err := provision.NewGate(provision.GateConfig{Store: store, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
				if err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithCancel(b.Context())
				var running sync.WaitGroup
				running.Go(func() { _ = gate.Run(ctx) })
				for gate.Ready() != nil {
					time.Sleep(time.Millisecond)
				}
				b.StopTimer()
				cancel()
				running.Wait()
				last = gate
				runtime.GC()
				b.StartTimer()
			}
			b.ReportMetric((heap()-before)/hubs, "B/hub")
			runtime.KeepAlive(last)
		})
		b.Run("read", func(b *testing.B) {
			for b.Loop() {
				var reading sync.WaitGroup
				for partition := range store.Partitions() {
					reading.Go(func() {
						if _, err := store.Hubs(b.Context(), partition); err != nil {
							b.Error(err)
						}
					})
				}
				reading.Wait()
			}
		})
	})
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// benchHubs creates hubs, each of a CA of its own.
func benchHubs(b *testing.B, store benchStore, n int64) {
	b.Helper()
	var next atomic.Int64
	var creating sync.WaitGroup
	for range 64 {
		creating.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				ca, err := pki.NewRoot(fmt.Sprintf("CA %d", i))
				if err != nil {
					b.Error(err)
					return
				}
				h := provision.Hub{
					ID: provision.NewHubID(), Name: fmt.Sprintf("hub-%d", i), AutoProvisioning: true, Anchors: [][]byte{ca.Certificate.Raw},
				}
				if _, err := store.CreateHub(b.Context(), h, provision.Created.OnHub(h, time.Now())); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	creating.Wait()
}
