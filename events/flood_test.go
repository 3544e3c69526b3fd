package events_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// figures reads the metrics of a replica: the sum over each name's series.
func (r *replica) figures() map[string]float64 {
	r.t.Helper()
	response, err := http.Get("http://" + r.metrics + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	sums := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if series, _, labelled := strings.Cut(name, "{"); labelled {
			name, value = series, lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:]
		}
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			sums[name] += v
		}
	}
	return sums
}

// TestFlood: bad checks straight at the gRPC port raise a bounded number of
// events, take no memory to speak of, and known devices are let in meanwhile.
func TestFlood(t *testing.T) {
	t.Parallel()
	checks, perSecond := 3_000, 3_000
	if soak {
		checks, perSecond = 50_000, 5_000
	}
	dir := must(os.MkdirTemp("", "hg"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	hook := newReceiver(t)
	hook.Start()
	root, stranger := must(pki.NewRoot("Root"))(t), must(pki.NewRoot("Stranger"))(t)
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), pki.EncodeCertificates(root.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startReplica(t, dir, fmt.Sprintf("domain: iot.example.com\nstore: \"bolt:hubgate.db\"\nevents:\n  webhook: [{name: hook, url: %q}]\n"+
		"hubs: [{name: one, auto_provisioning: true, trust_anchors: [root.pem]}]\n", hook.URL))
	known, bad := must(root.Leaf("known"))(t), must(stranger.Leaf("bad"))(t)
	if _, err := r.check(t.Context(), known.Chain, "", "192.0.2.7"); err != nil {
		t.Fatal(err)
	}
	// median is that of a known device's checks until the context ends.
	median := func(ctx context.Context) (time.Duration, int) {
		var took []time.Duration
		for ctx.Err() == nil {
			began := time.Now()
			reason, err := r.check(context.WithoutCancel(ctx), known.Chain, "", "192.0.2.7")
			if err != nil || reason != string(provision.DeviceKnown) {
				t.Errorf("a known device: %s %v", reason, err)
			}
			took = append(took, time.Since(began))
			time.Sleep(2 * time.Millisecond)
		}
		slices.Sort(took)
		return took[len(took)/2], len(took)
	}
	calm, end := context.WithTimeout(t.Context(), time.Second)
	usual, _ := median(calm)
	end()
	flood := func(n int) (time.Duration, time.Duration) {
		flooding, end := context.WithCancel(t.Context())
		var next atomic.Int64
		var senders sync.WaitGroup
		began := time.Now()
		for range 16 {
			senders.Go(func() {
				for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
					time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
					source := fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)
					if i%2 == 0 {
						source = fmt.Sprintf("198.51.%d.7", i/2%256)
					}
					if _, err := r.check(flooding, bad.Chain, "one.iot.example.com", source); err == nil {
						t.Error("a stranger was let in")
					}
				}
			})
		}
		done := make(chan time.Duration, 1)
		go func() { senders.Wait(); done <- time.Since(began); end() }()
		during, _ := median(flooding)
		return during, <-done
	}
	flood(checks / 5) // so that caches have grown
	before := r.figures()
	during, took := flood(checks)
	after := r.figures()
	told, counted := 0, 0
	for _, e := range hook.of(provision.DeclaredHubID("one")) {
		if e.Severity == provision.SeverityError {
			told++
			counted += e.Count
		}
	}
	t.Logf("%d bad checks in %s; %d events; resident %.1f MiB before, %.1f after; a known device's check: median %s, during the flood %s; dropped %v",
		checks, took.Round(time.Millisecond), told, before["process_resident_memory_bytes"]/(1<<20), after["process_resident_memory_bytes"]/(1<<20),
		usual, during, after["hubgate_denial_events_dropped_total"])
	// 64 networks and all others, for at most two reasons (the stranger's, and
	// overload), each once, and again for each window that ends meanwhile.
	windows := 1 + int((took+time.Minute)/time.Minute)
	if told < 1 || told > 2*65*windows {
		t.Errorf("%d events", told)
	}
	if grown := after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]; grown > 64<<20 {
		t.Errorf("the process has grown by %.0f bytes", grown)
	}
}
