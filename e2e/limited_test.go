package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/hubgate/hubgate/envoy"
	"github.com/hubgate/hubgate/envoy/module/modulebin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// What bounds and revokes, by the binary and its configuration alone.

// library is what Envoy loads, built once.
var library = sync.OnceValues(func() (string, error) { return modulebin.Path(context.Background()) })

// onBoth runs a test for an installation on either store.
func onBoth(t *testing.T, test func(*testing.T, *installation)) {
	t.Parallel()
	for name, store := range map[string]func(*testing.T) string{
		"bolt": func(*testing.T) string { return "bolt:hubgate.db" }, "redis": func(t *testing.T) string { return redistest.Start(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, install(t, store(t)))
		})
	}
}

// connected is a device that stays at the broker until it is ended; then the
// channel is closed.
func (f *front) connected(t *testing.T, d dial) <-chan struct{} {
	t.Helper()
	var resumed bool
	ended := make(chan struct{})
	client := paho.NewClient(f.client(d, "stays", &resumed).SetConnectionLostHandler(func(paho.Client, error) { close(ended) }))
	if err := wait(t.Context(), client.Connect()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(0) })
	return ended
}

// TestCRLFile: a list in a file that a declared hub names refuses what it
// revokes and ends its connection, and an older one takes nothing back.
func TestCRLFile(t *testing.T) {
	onBoth(t, func(t *testing.T, i *installation) {
		v := newVendor(t)
		revoked, other := v.device(t, "SN-1"), as(v.device(t, "SN-2"))
		publish := func(number int64, revoked ...*x509.Certificate) {
			t.Helper()
			i.replace(t, "line.crl", must(v.line.CRL(number, revoked))(t))
		}
		publish(1)
		i.configure(t, v, true, "    crls: [line.crl]\n", "crl: {refresh: 1s}\n")
		i.serve(t)
		f := startFront(t, i.authz(), startUpstreams(t), func(o *envoy.Options) {
			o.Module = &envoy.Module{Library: must(library())(t), Links: []string{"unix://" + i.file("link.sock")}, ConnectTimeout: patience}
		})
		f.admitted(t, as(revoked))
		f.admitted(t, other)
		ended := f.connected(t, as(revoked))

		publish(7, revoked.Certificate)
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("the open connection did not end")
		}
		refused := func() {
			t.Helper()
			if status, reason := f.answers(t, as(revoked)); status != http.StatusForbidden || reason != provision.CertificateRevoked {
				t.Errorf("the revoked device got %d %s", status, reason)
			}
			if _, err := f.converse(t.Context(), as(revoked)); !errors.Is(err, errDenied) {
				t.Errorf("over MQTT the revoked device got %v", err)
			}
		}
		refused()
		f.admitted(t, other)

		failed := i.metric(t, `hubgate_crl_fetches_total{result="failed"}`)
		publish(6) // revokes nobody
		eventually(t, "the older list is read, and not taken", func() error {
			if n := i.metric(t, `hubgate_crl_fetches_total{result="failed"}`); n <= failed {
				return fmt.Errorf("%v lists were refused", n)
			}
			return nil
		})
		refused()
		publish(8)
		eventually(t, "the newer list counts", func() error {
			if status, reason := f.answers(t, as(revoked)); status != http.StatusOK {
				return fmt.Errorf("%d %s", status, reason)
			}
			return nil
		})
	})
}

// TestFailuresOfANetwork: a network from which too many certificates were refused
// is not looked at for a while. Who is known there, and all other networks, are.
func TestFailuresOfANetwork(t *testing.T) {
	const perMinute = 6
	onBoth(t, func(t *testing.T, i *installation) {
		v, stranger := newVendor(t), must(pki.NewRoot("Stranger"))(t)
		i.checks = fmt.Sprintf(", source_trusted: true, failures_per_minute: %d", perMinute)
		i.configure(t, v, true)
		i.serve(t)
		f := startFront(t, i.authz(), startUpstreams(t))
		from := func(d dial, address string) dial {
			d.from = address
			return d
		}
		const here, beside, elsewhere = "127.0.3.4", "127.0.3.5", "127.0.4.4"
		known := from(as(v.device(t, "SN-known")), beside)
		f.admitted(t, known)

		// As long as others are refused meanwhile, nobody unseen gets in. On a busy
		// machine one may, when the network has earned a look.
		var unseen dial
		for n := 1; ; n++ {
			if n > 30*perMinute {
				t.Fatal("none is refused unseen")
			}
			a, err := f.get(t.Context(), from(as(must(stranger.Leaf(fmt.Sprint("X-", n)))(t)), here))
			if err != nil {
				t.Fatal(err)
			}
			if a.status != http.StatusTooManyRequests {
				if a.status != http.StatusForbidden || n > 10*perMinute {
					t.Fatalf("stranger %d got %d %+v", n, a.status, a.refusal)
				}
				continue
			}
			after, err := strconv.Atoi(a.header.Get("Retry-After"))
			if err != nil || after < 1 || after > 60/perMinute || a.refusal.Reason != string(provision.RateLimited) {
				t.Errorf("Retry-After %q, %+v", a.header.Get("Retry-After"), a.refusal)
			}
			unseen = from(as(v.device(t, fmt.Sprint("SN-", n))), beside)
			if status, reason := f.answers(t, unseen); status == http.StatusTooManyRequests && reason == provision.RateLimited {
				break
			}
		}
		f.admitted(t, known)
		f.admitted(t, from(as(v.device(t, "SN-elsewhere")), elsewhere))
		if n := i.metric(t, "hubgate_source_network_refusals_total"); n < 2 {
			t.Errorf("%v refusals are counted", n)
		}
		eventually(t, "the network is looked at again", func() error {
			if status, reason := f.answers(t, unseen); status != http.StatusOK {
				return fmt.Errorf("%d %s", status, reason)
			}
			return nil
		})
	})
}

// TestRateOfReplicas: two processes on one Redis, which Envoy asks in turn, let
// in no more first connections than the hub's rate allows them together.
func TestRateOfReplicas(t *testing.T) {
	t.Parallel()
	const (
		perSecond = 4
		clients   = 8
		window    = 3 * time.Second
	)
	v, store := newVendor(t), redistest.Start(t).URL()
	replicas := []*installation{install(t, store), install(t, store)}
	for _, i := range replicas {
		i.configure(t, v, true, fmt.Sprintf("    policy: {first_connections_per_second: %d}\n    intermediates: [line.pem]\n", perSecond))
		i.replace(t, "line.pem", pki.EncodeCertificates(v.line.Certificate))
		i.serve(t)
	}
	f := startFront(t, "", startUpstreams(t), func(o *envoy.Options) {
		o.Hubgate.Addresses = []string{replicas[0].authz(), replicas[1].authz()}
	})
	var mu sync.Mutex
	var admitted, limited int
	var running sync.WaitGroup
	began := time.Now()
	for c := range clients {
		running.Go(func() {
			for n := 0; time.Since(began) < window; n++ {
				identity, err := v.line.Leaf(fmt.Sprintf("SN-%d-%d", c, n))
				if err != nil {
					t.Error(err)
					return
				}
				a, err := f.get(t.Context(), as(identity))
				mu.Lock()
				switch {
				case err != nil:
					t.Error(err)
				case a.status == http.StatusOK:
					admitted++
				case a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "" && a.refusal.Reason == string(provision.RateLimited):
					limited++
				default:
					t.Errorf("a device got %d %+v", a.status, a.refusal)
				}
				mu.Unlock()
			}
		})
	}
	running.Wait()
	took := time.Since(began)
	// A second's worth at once, and what comes in the time.
	if most := perSecond * (1 + took.Seconds()); float64(admitted) > most || limited == 0 {
		t.Errorf("%d devices got in within %s, %d were told to wait; want %.0f at most", admitted, took, limited, most)
	}
	if n := len(replicas[0].devices(t)); n != admitted {
		t.Errorf("%d devices, %d were let in", n, admitted)
	}
	for n, i := range replicas {
		if i.metric(t, "hubgate_devices_provisioned_total") == 0 || i.metric(t, `hubgate_checks_total{decision="deny"`) == 0 {
			t.Errorf("replica %d did not let anybody in, or did not refuse anybody", n)
		}
	}
}
