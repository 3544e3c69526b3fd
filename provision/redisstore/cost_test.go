package redisstore_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/provision/storetest"
)

// TestMemory holds a device to 550 bytes, both indexes and all of Redis's own
// included, and events aside, which retention bounds.
func TestMemory(t *testing.T) {
	t.Parallel()
	const devices, limit = 10_000, 550
	server := redistest.Start(t, "--appendonly", "no")
	c := patient(server.URL())
	c.Retention = 1
	s := open(t, c)
	hub := createHub(t, s)
	// Past the sizes at which Redis keeps small things small.
	if err := storetest.CreateDevices(t.Context(), s, hub, 200); err != nil {
		t.Fatal(err)
	}
	before := usedMemory(t, server)
	for i := range devices {
		if _, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, fmt.Sprintf("SN-%09d", i))); err != nil {
			t.Fatal(err)
		}
	}
	each := float64(usedMemory(t, server)-before) / devices
	t.Logf("%.0f bytes per device", each)
	if each > limit {
		t.Errorf("%.0f bytes per device, want at most %d", each, limit)
	}
}

func usedMemory(t *testing.T, s *redistest.Server) int {
	t.Helper()
	info, _ := s.Do("INFO", "memory").(string)
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("INFO does not tell used_memory")
	return 0
}

// benchStore returns a store on a server that does not persist, and a hub.
func benchStore(b *testing.B) (*redistest.Server, *redisstore.Store, provision.Hub) {
	b.Helper()
	server := redistest.Start(b, "--appendonly", "no")
	s := open(b, redisstore.Config{URL: server.SocketURL(), Timeout: 20 * time.Second})
	hub, err := storetest.CreateHub(b.Context(), s)
	if err != nil {
		b.Fatal(err)
	}
	return server, s, hub
}

// benchClient returns a client as the store has one.
func benchClient(b *testing.B, server *redistest.Server) *redis.Client {
	b.Helper()
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: strings.TrimPrefix(server.SocketURL(), "unix://"),
		PoolSize: redisstore.DefaultConnections, DisableIdentity: true, ContextTimeoutEnabled: true})
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// parallel runs what 32 connections do at once.
func parallel(b *testing.B, f func(ctx context.Context, n int64) error) {
	b.Helper()
	var n atomic.Int64
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f(b.Context(), n.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkCreateDevice(b *testing.B) {
	_, s, hub := benchStore(b)
	parallel(b, func(ctx context.Context, n int64) error {
		_, _, err := s.CreateDevice(ctx, storetest.NewCreation(hub, fmt.Sprint("chip-", n)))
		return err
	})
}

// BenchmarkBareScript is what CreateDevice cannot be faster than: a script that
// does nothing with arguments of the same size.
func BenchmarkBareScript(b *testing.B) {
	server, _, _ := benchStore(b)
	c := benchClient(b, server)
	script := redis.NewScript("return {'ok'}")
	arg := strings.Repeat("x", 500)
	parallel(b, func(ctx context.Context, n int64) error {
		return script.Run(ctx, c, []string{"1", "2", "3", "4", "5", "6", "7"}, 1, 2, 3, 4, 5, n, arg).Err()
	})
}

func BenchmarkDevice(b *testing.B) {
	_, s, hub := benchStore(b)
	if err := storetest.CreateDevices(b.Context(), s, hub, 1); err != nil {
		b.Fatal(err)
	}
	devices, _, err := s.Devices(b.Context(), hub.ID, provision.ByName, "", 1)
	if err != nil {
		b.Fatal(err)
	}
	parallel(b, func(ctx context.Context, _ int64) error {
		_, err := s.Device(ctx, hub.ID, devices[0].Name)
		return err
	})
}

// BenchmarkBareGet is what Device cannot be faster than.
func BenchmarkBareGet(b *testing.B) {
	server, _, _ := benchStore(b)
	c := benchClient(b, server)
	if err := c.Set(b.Context(), "k", strings.Repeat("x", 140), 0).Err(); err != nil {
		b.Fatal(err)
	}
	parallel(b, func(ctx context.Context, _ int64) error { return c.Get(ctx, "k").Err() })
}
