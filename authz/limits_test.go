package authz

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hubgate/hubgate/provision"
)

func TestMaxInFlight(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	registry := prometheus.NewRegistry()
	r := start(t, Config{
		Gate: gateFunc(func(context.Context, provision.Connection) provision.Decision {
			entered <- struct{}{}
			<-release
			return allowed("sensor-0001")
		}),
		MaxInFlight: 2, Registerer: registry,
	}, "127.0.0.1:0")
	f := readFixture(t, "http-three-certificates")
	var held sync.WaitGroup
	for range 2 {
		conn := r.dial(t, nil)
		held.Go(func() {
			if resp, err := tryCheck(t, conn, f); err != nil || reasonOf(resp) != provision.DeviceKnown {
				t.Errorf("a check within the limit: %v, %v", resp, err)
			}
		})
		<-entered
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP hubgate_checks_in_flight Checks being evaluated; authz.max_in_flight bounds them.
# TYPE hubgate_checks_in_flight gauge
hubgate_checks_in_flight 2
`), "hubgate_checks_in_flight"); err != nil {
		t.Error(err)
	}
	resp := check(t, r.dial(t, nil), f)
	if reasonOf(resp) != provision.Overloaded || resp.GetErrorResponse().GetStatus().GetCode() != 503 {
		t.Errorf("beyond the limit: %v", resp)
	}
	close(release)
	held.Wait()
	if resp := check(t, r.dial(t, nil), f); reasonOf(resp) != provision.DeviceKnown {
		t.Errorf("with slots free again: %v", resp)
	}
}

func TestMaxConnections(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := start(t, Config{Gate: gateFunc(admitAll), MaxConnections: 1, Registerer: registry}, "127.0.0.1:0")
	f := readFixture(t, "tcp")
	first := r.dial(t, nil)
	check(t, first, f)
	if _, err := tryCheck(t, r.dial(t, nil), f); status.Code(err) != codes.Unavailable {
		t.Errorf("a second connection: %v", err)
	}
	if n := testutil.ToFloat64(r.metrics.refused); n < 1 {
		t.Errorf("%v connections counted as refused", n)
	}
	if n := testutil.ToFloat64(r.metrics.open); n != 1 {
		t.Errorf("%v connections counted as open", n)
	}
	check(t, first, f)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for testutil.ToFloat64(r.metrics.open) != 0 {
		time.Sleep(time.Millisecond)
	}
	check(t, r.dial(t, nil), f)
}

// Nobody waits for the answer to a late check, so it is not worked out.
func TestLateCheckIsDropped(t *testing.T) {
	s, err := New(Config{Gate: gateFunc(admitAll)})
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{
		gate: gateFunc(func(context.Context, provision.Connection) provision.Decision {
			t.Error("a late check reached the gate")
			return provision.Decision{}
		}),
		metrics: s.metrics, slots: make(chan struct{}, 1),
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if resp, err := c.check(late, readFixture(t, "tcp").translation(t)); resp != nil || status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("answered %v, %v", resp, err)
	}
	if n := testutil.ToFloat64(s.metrics.dropped); n != 1 {
		t.Errorf("%v dropped checks counted", n)
	}
}

// The longest chain that TLS lets through gets a decision; what is longer
// fails its own call only.
func TestOversizeMetadata(t *testing.T) {
	r := start(t, Config{Gate: gateFunc(admitAll)}, "127.0.0.1:0")
	conn := r.dial(t, nil)
	f := readFixture(t, "tcp")
	f.md.Set(keyChain, encodeList(bytes.Repeat([]byte{1}, 100<<10)))
	if resp := check(t, conn, f); reasonOf(resp) != provision.CertificateUnsupported {
		t.Errorf("a chain of 100 KiB: %v", resp)
	}
	f.md.Set(keyChain, encodeList(bytes.Repeat([]byte{1}, 300<<10)))
	if resp, err := tryCheck(t, conn, f); err == nil {
		t.Errorf("metadata of 400 KiB: %v", resp)
	}
	check(t, conn, readFixture(t, "tcp"))
}

func TestOversizeMessage(t *testing.T) {
	r := start(t, Config{Gate: gateFunc(admitAll)}, "127.0.0.1:0")
	conn := r.dial(t, nil)
	f := readFixture(t, "http-three-certificates")
	f.headers()["x-padding"] = strings.Repeat("x", maxMessage)
	if resp, err := tryCheck(t, conn, f); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of 1 MiB: %v, %v", resp, err)
	}
	check(t, conn, readFixture(t, "http-three-certificates"))
}
