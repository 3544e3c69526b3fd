package session_test

import (
	"testing"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// TestSessionsWithoutTLS: they go by their secret, and by no anchor; also those
// that another replica let in.
func TestSessionsWithoutTLS(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	other := newReplica(t, r.store)
	f := newFleet(r, "factory")
	secure, plain, afar := f.device("SN-1"), f.device("SN-2"), f.device("SN-3")
	for _, d := range []*chip{plain, afar} {
		_, d.Secret = provision.NewSecret()
		d.edit(func(is *provision.Device) { is.AllowInsecure, is.Secret = true, d.Secret })
	}
	e := newEnvoy(t, r, other).link(r)
	tls, here := e.mqtt(r, secure), e.mqtt(r, plain)
	n := e.next()
	there := e.tcp(n, e.check(other, afar, provision.TCP, n), afar)
	for _, d := range []*chip{secure, plain, afar} {
		eventually(t, "the session of "+d.Name, func() bool { return len(d.live()) == 1 && d.live()[0].Confirmed })
	}
	for _, d := range []*chip{plain, afar} {
		if got := d.live()[0].Secret; got != d.Secret.Mark() {
			t.Errorf("%s: the record has the mark %x", d.Name, got)
		}
	}

	f.edit(func(h *provision.Hub) { h.Anchors = [][]byte{must(pki.NewRoot("Another root"))(t).Certificate.Raw} })
	tls.isEnded(link.NotAuthorized)
	if !here.open() || !there.open() {
		t.Error("a session without TLS went by an anchor")
	}
	plain.edit(func(d *provision.Device) { _, d.Secret = provision.NewSecret() })
	here.isEnded(link.NotAuthorized)
	afar.edit(func(d *provision.Device) { d.AllowInsecure = false })
	there.isEnded(link.NotAuthorized)
}
