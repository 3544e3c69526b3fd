package sessions

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	fleets "github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// customCertificates: a device that an operator gave a certificate of a stranger
// gets in with that one alone, over HTTPS and MQTT, and once it is taken away,
// with its factory's again; what came with the other is ended.
func customCertificates(t *testing.T, s *site) {
	f := s.fleet(t)
	d := f.device(t, "SN-1")
	admins := must(fleets.New(fleets.Config{Gate: s.gate, Store: s.store, Logger: slog.New(slog.NewTextHandler(s.log, nil))}))(t)
	operator := access.Principal{Name: "operator", Role: access.Operator}
	stranger := must(pki.NewRoot("Anybody"))(t)
	own, forged := *d, *d
	for _, one := range []*device{&own, &forged} {
		one.identity = must(stranger.Leaf("SN-1"))(t)
		one.cert = one.identity.TLS()
	}

	before := d.connect(t, s.edge, dialing{})
	own.denied(t, s.edge, provision.ChainIncomplete)
	set := func() error {
		_, err := admins.SetCustomCertificate(t.Context(), operator, f.hub.Name, "SN-1", string(pki.EncodeCertificates(own.identity.Certificate)))
		return err
	}
	if err := set(); err == nil {
		t.Fatal("a hub takes custom certificates that should take none")
	}
	f.edit(t, func(h *provision.Hub) { h.Policy.CustomCertificates = true })
	if err := set(); err != nil {
		t.Fatal(err)
	}
	before.ends(t, int(link.NotAuthorized))
	d.denied(t, s.edge, provision.DeviceKeyChanged)
	own.admitted(t, s.edge)
	forged.denied(t, s.edge, provision.ChainIncomplete)

	c := own.connect(t, s.edge, dialing{})
	c.publish(t, d.topic("own"), "21.5")
	f.lists(t, "SN-1")
	f.changeRevoked(t, func(r *provision.Revocations) error {
		return r.Revoke(provision.Revocation{Key: trust.KeyHashOf(own.identity.Certificate), At: time.Now()})
	})
	c.ends(t, int(link.NotAuthorized))
	own.denied(t, s.edge, provision.CertificateRevoked)
	f.changeRevoked(t, func(r *provision.Revocations) error {
		clear(r.ByHand)
		return nil
	})
	own.admitted(t, s.edge)

	c = own.connect(t, s.edge, dialing{})
	if err := admins.RemoveCustomCertificate(t.Context(), operator, f.hub.Name, "SN-1"); err != nil {
		t.Fatal(err)
	}
	c.ends(t, int(link.NotAuthorized))
	own.denied(t, s.edge, provision.ChainIncomplete)
	d.admitted(t, s.edge)
}
