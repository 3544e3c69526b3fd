package session_test

import (
	"testing"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// TestSessionsGoByTheirAnchor: a session ends with the anchor that it came in
// under, though its device was admitted by another since.
func TestSessionsGoByTheirAnchor(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	next := must(pki.NewRoot("Next root"))(t).Certificate
	f.edit(func(h *provision.Hub) { h.Anchors = append(h.Anchors, next.Raw) })
	d, other := f.device("SN-1"), f.device("SN-2")
	e := newEnvoy(t, r).link(r)
	s := e.mqtt(r, d)
	eventually(t, "its session", func() bool { return len(d.live()) == 1 && d.live()[0].Confirmed })
	for _, moved := range []*chip{d, other} {
		moved.edit(func(d *provision.Device) { d.Anchor = trust.KeyHashOf(next) })
	}
	// One that nobody has a record of goes by its device's.
	unknown := e.tcp(e.next(), newSessionID(), other)
	eventually(t, "the session that is told anew", func() bool { return len(other.live()) == 1 && other.live()[0].Confirmed })
	f.edit(func(h *provision.Hub) { h.Anchors = h.Anchors[1:] })
	s.isEnded(link.NotAuthorized)
	if !unknown.open() {
		t.Error("a session ended with an anchor that its device has left")
	}
}

// TestSessionsByCustomCertificate: after a restart nobody knows what a device with
// a custom certificate came with; its session goes on until its hub takes none.
func TestSessionsByCustomCertificate(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	f := newFleet(r, "factory")
	f.edit(func(h *provision.Hub) { h.Policy.CustomCertificates = true })
	bound, unbound := f.device("SN-1"), f.device("SN-2")
	own := &provision.CustomCertificate{DER: []byte{0x30}, Key: leafKey}
	bound.edit(func(d *provision.Device) { d.Custom = own })
	unbound.edit(func(d *provision.Device) { d.Custom, d.Anchor = own, trust.KeyHash{} })
	e := newEnvoy(t, r).link(r)
	var open []*socket
	for _, d := range []*chip{bound, unbound} {
		open = append(open, e.tcp(e.next(), newSessionID(), d))
		eventually(t, "its session", func() bool { return len(d.live()) == 1 && d.live()[0].Confirmed })
	}
	// Any other change of the hub leaves them; what comes after it tells that it
	// was looked at.
	f.edit(func(h *provision.Hub) { h.Anchors = [][]byte{must(pki.NewRoot("Next root"))(t).Certificate.Raw} })
	plain := f.device("SN-3")
	e.mqtt(r, plain).isEnded(link.NotAuthorized)
	for _, s := range open {
		if !s.open() {
			t.Error("a session ended that may be of a custom certificate")
		}
	}
	f.edit(func(h *provision.Hub) { h.Policy.CustomCertificates = false })
	for _, s := range open {
		s.isEnded(link.NotAuthorized)
	}
}
