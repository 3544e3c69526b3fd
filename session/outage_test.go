package session_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/session"
)

func TestLinksGoOnWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	stays, comes, goes := f.device("stays"), f.device("comes"), f.device("goes")
	e := newEnvoy(t, r).link(r)
	a, b := e.mqtt(r, stays), e.mqtt(r, goes)
	eventually(t, "both are open", func() bool { return stays.confirmed(a.session)() && goes.confirmed(b.session)() })

	r.store.cut(true)
	c := e.mqtt(r, comes)
	b.entry.Close()
	eventually(t, "what opened is known", func() bool { return r.metric("hubgate_sessions_unsettled") == 1 })
	comes.disable()
	never(t, "the link broke, or a connection was ended that should not be", func() bool {
		return r.metric("hubgate_links") != 1 || !a.open()
	})

	r.store.cut(false)
	c.isEnded(link.AdministrativeAction)
	eventually(t, "the record is right again", func() bool { return stays.confirmed(a.session)() && comes.gone() && goes.gone() })
	eventually(t, "nothing waits", func() bool { return r.metric("hubgate_sessions_unsettled") == 0 })
	if n := r.logged("the store cannot be told"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// TestADeclaredHubIsDisabledWhileTheStoreIsDown: its settings need no store, and
// neither does the verdict, not even over connections that were never judged.
func TestADeclaredHubIsDisabledWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := &fleet{r: r, anchor: must(newAnchor())(t)}
	f.hub = provision.Hub{
		ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "hubgate.yaml", AutoProvisioning: true,
		Anchors: [][]byte{f.anchor.Certificate.Raw},
	}
	if err := r.gate.Declare(t.Context(), []provision.Hub{f.hub}); err != nil {
		t.Fatal(err)
	}
	known, unknown := f.device("known"), f.device("unknown")
	e := newEnvoy(t, r).link(r)
	a := e.mqtt(r, known)
	eventually(t, "it is open", known.confirmed(a.session))
	r.store.cut(true)
	b := e.mqtt(r, unknown)
	eventually(t, "what opened is known", func() bool { return r.metric("hubgate_sessions_unsettled") == 1 })
	f.hub.Disabled = true
	if err := r.gate.Declare(t.Context(), []provision.Hub{f.hub}); err != nil {
		t.Fatal(err)
	}
	a.isEnded(link.AdministrativeAction)
	b.isEnded(link.AdministrativeAction)

	f.hub.Disabled = false
	if err := r.gate.Declare(t.Context(), []provision.Hub{f.hub}); err != nil {
		t.Fatal(err)
	}
	c := e.mqtt(r, known)
	if err := r.gate.Declare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	c.isEnded(link.NotAuthorized)
}

func TestASnapshotIsJudgedWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	d := f.device("SN-1")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, d)
	eventually(t, "it is open", d.confirmed(s.session))
	e.cut()
	f.edit(func(h *provision.Hub) { h.Disabled = true })
	eventually(t, "the gate knows", func() bool {
		h, err := r.gate.CurrentHub(t.Context(), f.hub.ID)
		return err == nil && h.Disabled
	})
	r.store.cut(true)
	e.link(r)
	s.isEnded(link.AdministrativeAction)
}

func TestDrainSendsEnvoysElsewhere(t *testing.T) {
	t.Parallel()
	first := newSite(t)
	second := newReplica(t, first.store.backend)
	d := newFleet(first, "factory").device("SN-1")
	e := newEnvoy(t, first, second).link(first)
	s := e.mqtt(first, d)
	eventually(t, "it is open", d.confirmed(s.session))
	start := time.Now()
	first.drain()
	eventually(t, "the Envoy is linked to the other", func() bool { return second.metric("hubgate_links") == 1 })
	t.Logf("linked elsewhere after %s", time.Since(start))
	eventually(t, "so is its session", func() bool { return second.metric("hubgate_sessions", "hub", "factory") == 1 })
	d.disable()
	s.isEnded(link.AdministrativeAction)
}

func TestLinksBeyondTheLimitAreClosed(t *testing.T) {
	t.Parallel()
	r := newSite(t, func(c *session.Config) { c.MaxLinks = 1 })
	e := newEnvoy(t, r).link(r)
	conn := must(net.Dial("tcp", r.address))(t)
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes of a link that should be closed", n)
	}
	if n := r.metric("hubgate_links_refused_total"); n != 1 {
		t.Errorf("%v refused", n)
	}
	e.cut()
	newEnvoy(t, r).link(r)
}

func TestALinkWithTooManyConnectionsIsCut(t *testing.T) {
	t.Parallel()
	r := newSite(t, func(c *session.Config) { c.MaxConnections = 2 })
	f := newFleet(r, "factory")
	e := newEnvoy(t, r).link(r)
	for _, name := range []string{"a", "b"} {
		d := f.device(name)
		eventually(t, "it is open", d.confirmed(e.mqtt(r, d).session))
	}
	if id := e.check(r, f.device("h"), provision.HTTP, e.next()); id != "" {
		t.Errorf("session %q over the limit", id)
	}
	e.mqtt(r, f.device("c"))
	eventually(t, "the link is cut", func() bool { return r.logged("Envoy's link ended", "too many open connections") > 0 })
}

func TestChecksDoNotWaitForTheStore(t *testing.T) {
	t.Parallel()
	stalled := make(chan struct{})
	r := newSite(t, func(c *session.Config) {
		c.MaxBehind = 4
		c.Store = stall{c.Store, stalled}
	})
	defer close(stalled)
	f := newFleet(r, "factory")
	d := f.device("SN-1")
	e := newEnvoy(t, r)
	start := time.Now()
	for range 1000 {
		if e.check(r, d, provision.TCP, e.next()) == "" || e.check(r, d, provision.HTTP, e.next()) == "" {
			t.Fatal("no session")
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("2000 checks took %s", took)
	}
	if n := r.metric("hubgate_session_writes_dropped_total"); n < 1900 || n >= 2000 {
		t.Errorf("%v writes dropped", n)
	}
}

// stall is a store that hangs.
type stall struct {
	session.Store
	until chan struct{}
}

func (s stall) PutSession(ctx context.Context, _ provision.Session) (provision.Device, bool, error) {
	select {
	case <-s.until:
	case <-ctx.Done():
	}
	return provision.Device{}, false, provision.ErrUnavailable
}

// TestStrangersOnThePort holds that what is no Envoy ends its own link only.
func TestStrangersOnThePort(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	newEnvoy(t, r).link(r)
	for what, bytes := range map[string]string{
		"HTTP":                 "GET / HTTP/1.1\r\n\r\n",
		"an order to hubgate":  string(frame(t, hello, &link.End{})),
		"the end of no list":   string(frame(t, hello, &link.SnapshotEnd{})),
		"a greeting too late":  string(frame(t, hello, hello)),
		"an Open before Hello": string(frame(t, &link.Open{Protocol: link.TCP})),
	} {
		conn := must(net.Dial("tcp", r.address))(t)
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 100); ; {
			if _, err := conn.Read(buf); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the link stays", what)
				}
				break
			}
		}
		_ = conn.Close()
	}
	eventually(t, "the Envoy's link alone is left", func() bool { return r.metric("hubgate_links") == 1 })
}

func TestAnOpenThatNamesNothingOfOursIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	d := newFleet(r, "factory").device("SN-1")
	e := newEnvoy(t, r).link(r)
	odd := e.open(link.Open{Connection: e.next(), Protocol: link.TCP, Session: "s", Hub: "h", Device: "d"})
	eventually(t, "it is logged", func() bool { return r.logged("connection without a session of ours") == 1 })
	// Without a session, but with a device: let in while sessions were off.
	s := e.tcp(e.next(), "", d)
	eventually(t, "it is on record", func() bool { return len(d.live()) == 1 && d.live()[0].Confirmed })
	d.disable()
	s.isEnded(link.AdministrativeAction)
	never(t, "the odd one was ended", func() bool { return !odd.open() })
}

var hello = &link.Hello{Version: link.Version, Node: "stranger", Epoch: "00112233445566778899aabbccddeeff"}

func frame(t *testing.T, messages ...link.Message) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		b = must(link.Append(b, m))(t)
	}
	return b
}
