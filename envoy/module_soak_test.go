package envoy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
)

// soak gives the larger number where HUBGATE_SOAK is set (make soak).
func soak(usual, soak int) int {
	if os.Getenv("HUBGATE_SOAK") != "" {
		return soak
	}
	return usual
}

// TestModuleCycles connects and ends again and again, while other connections
// stay: nothing is left behind, and nothing of the others is touched.
func TestModuleCycles(t *testing.T) {
	e, h := startModule(t, Options{})
	cycles, others := soak(300, 10_000), soak(50, 1000)
	stay := make([]*tls.Conn, others)
	parallel(others, func(i int) {
		conn, err := e.session(fmt.Sprintf("device-stays-%d", i))
		if err != nil {
			t.Error(err)
		}
		stay[i] = conn
	})
	round := func(from, n int) {
		parallel(n, func(i int) {
			name := fmt.Sprintf("device-cycle-%d", from+i)
			conn, err := e.session(name)
			if err != nil {
				t.Error(err)
				return
			}
			open := h.await(t, name)
			h.end(&link.End{Seq: open.Connection, Connection: open.Connection, Session: open.Session, Code: link.AdministrativeAction})
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			_ = conn.Close()
			eventually(t, "an acknowledgement", func() bool { return h.isEnded(open.Connection) })
		})
	}
	warm := cycles / 5
	round(0, warm)
	before := e.rss(t)
	round(warm, cycles-warm)
	after := e.rss(t)
	t.Logf("RSS %d KiB after %d cycles, %d KiB after %d, with %d connections open", before, warm, after, cycles, others)
	if after > before+before/10 {
		t.Errorf("RSS has grown from %d to %d KiB", before, after)
	}
	for _, conn := range stay {
		deadline(t, conn)
		assertEcho(t, conn, "\xc0\x00")
	}
}

// TestModuleEndsAll orders the end of all connections at once.
func TestModuleEndsAll(t *testing.T) {
	e, h := startModule(t, Options{})
	n := soak(200, 1000)
	conns := make([]*tls.Conn, n)
	parallel(n, func(i int) {
		conn, err := e.session(fmt.Sprintf("device-all-%d", i))
		if err != nil {
			t.Error(err)
		}
		conns[i] = conn
	})
	opens := make([]*link.Open, n)
	for i := range n {
		opens[i] = h.await(t, fmt.Sprintf("device-all-%d", i))
	}
	took := make([]time.Duration, n)
	var wg sync.WaitGroup
	start := time.Now()
	for i, conn := range conns {
		wg.Go(func() {
			_, _ = io.Copy(io.Discard, conn)
			took[i] = time.Since(start)
		})
	}
	for _, open := range opens {
		h.end(&link.End{Seq: open.Connection, Connection: open.Connection, Session: open.Session, Code: link.AdministrativeAction})
	}
	wg.Wait()
	slices.Sort(took)
	t.Logf("%d connections ended: half within %s, 99 %% within %s", n, took[n/2], took[n*99/100])
	if took[n-1] > 5*time.Second {
		t.Errorf("the last one ended after %s", took[n-1])
	}
}

// session is a connection after its CONNECT came back.
func (e *edge) session(name string) (*tls.Conn, error) {
	leaf, err := e.line.Leaf(name)
	if err != nil {
		return nil, err
	}
	conn, err := tls.Dial("tcp", e.options.MQTT.Listen, &tls.Config{
		RootCAs: e.pool(), ServerName: "factory.iot.example.com",
		Certificates: []tls.Certificate{leaf.TLSWith(e.line.Certificate)},
	})
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, connectPacket(mqtt311, "c")); err != nil {
		return nil, err
	}
	_, _, err = readPacket(conn)
	return conn, err
}

// parallel runs f for each number below n, a few at a time.
func parallel(n int, f func(int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// rss is the memory that Envoy has, in KiB.
func (e *edge) rss(t testing.TB) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.envoy.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.Atoi(string(regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib
}
