package session_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/session"
)

// slowGate gives the first who asks a hub as it was before something happened.
type slowGate struct {
	*provision.Gate
	once    sync.Once
	happens func()
	asked   atomic.Int32
}

func (g *slowGate) CurrentHub(ctx context.Context, id provision.HubID) (*provision.Hub, error) {
	h, err := g.Gate.CurrentHub(ctx, id)
	g.asked.Add(1)
	g.once.Do(g.happens)
	return h, err
}

// TestAnchorRemovedWhileJudged: the hub changes after a new connection's judge
// has read it, and the change is looked into before that judge is done.
func TestAnchorRemovedWhileJudged(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	f := newFleet(site, "factory")
	other := must(pki.NewRoot("Another root"))(t)
	r := *site
	r.tracker = must(session.New(session.Config{Store: site.store, Logger: slog.New(slog.NewTextHandler(site.log, nil)), Heartbeat: heartbeat}))(t)
	gate := &slowGate{Gate: site.gate}
	gate.happens = func() {
		f.edit(func(h *provision.Hub) { h.Anchors = [][]byte{other.Certificate.Raw} })
		r.tracker.Changed(provision.Change{Kind: provision.HubChanged, Hub: f.hub.ID})
		eventually(t, "somebody looks into the change", func() bool { return gate.asked.Load() > 1 })
		time.Sleep(20 * time.Millisecond) // and judges by it
	}
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	r.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.tracker.Run(ctx, gate) })
	running.Go(func() { _ = r.tracker.Serve(ctx, l) })
	defer running.Wait()
	defer cancel()
	d := f.device("SN-1")
	s := newEnvoy(t, &r).link(&r).mqtt(&r, d)
	s.isEnded(link.NotAuthorized)
}
