package provision_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// editDevice changes a device in the store.
func (r *rig) editDevice(h provision.Hub, name string, change func(*provision.Device)) {
	r.t.Helper()
	must[provision.Device](r.t)(r.store.UpdateDevice(r.t.Context(), provision.Update{
		Hub: h.ID, Device: provision.DeviceIDOf(h.ID, name),
		Change: func(d *provision.Device) error {
			change(d)
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.CustomSet.OnDevice(d, time.Now()) },
	}))
}

// becomes waits until the answer is the given one.
func (r *rig) becomes(c provision.Connection, want provision.Reason) {
	r.t.Helper()
	r.eventually(string(want), func() bool { return r.gate.Admit(r.t.Context(), sealed(c, nil)).Reason == want })
}

func customOf(t *testing.T, c *x509.Certificate) *provision.CustomCertificate {
	t.Helper()
	return must[*provision.CustomCertificate](t)(provision.ReadCustomCertificate(c.Raw, c.Subject.CommonName, false, time.Time{}))
}

// TestCustomCertificate: a device that has one gets in with its key, whoever
// signed it, and with no other.
func TestCustomCertificate(t *testing.T) {
	t.Parallel()
	sessions := &tracked{}
	r := newRig(t, func(c *provision.GateConfig) { c.Sessions = sessions })
	vendor, stranger := root(t, "Vendor"), root(t, "Stranger")
	hub := r.hub("factory", anchors(vendor.Certificate), func(h *provision.Hub) { h.Policy.CustomCertificates = true })
	strict := r.hub("strict", anchors(root(t, "Other").Certificate))
	factory, own, forged := leaf(t, vendor, "SN-1"), leaf(t, stranger, "SN-1"), leaf(t, stranger, "SN-1")
	r.expect(over(factory, sni("factory.iot.example.com")), provision.DeviceProvisioned)
	if d := r.expect(over(own, sni("factory.iot.example.com")), provision.ChainIncomplete); d.DeviceName != "" {
		t.Errorf("the word of a stranger counts: it is named %q", d.DeviceName)
	}
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Custom = customOf(t, own.Certificate) })
	r.becomes(over(own, sni("factory.iot.example.com")), provision.DeviceKnown)

	read := 0
	for range 5 {
		if d := r.gate.Admit(t.Context(), sealed(over(own, sni("factory.iot.example.com")), &read)); d.Reason != provision.DeviceKnown {
			t.Fatalf("%s (%s)", d.Reason, d.Detail)
		}
	}
	if read > 1 {
		t.Errorf("its certificate was read %d times", read)
	}
	if s := sessions.last(); !s.Custom || len(s.Certificates) != 1 || !s.Expires.Equal(own.Certificate.NotAfter) {
		t.Errorf("its session is %+v", s)
	}
	r.expect(over(own, func(c *provision.Connection) { c.HubHint = "factory" }), provision.DeviceKnown)
	r.expect(over(factory, sni("factory.iot.example.com")), provision.DeviceKeyChanged)
	for name, tt := range map[string]struct {
		c    provision.Connection
		want provision.Reason
	}{
		"another key":            {over(forged, sni("factory.iot.example.com")), provision.ChainIncomplete},
		"no hub is named":        {over(own), provision.ChainIncomplete},
		"another hub":            {over(own, sni("strict.iot.example.com")), provision.ChainIncomplete},
		"an unknown device":      {over(leaf(t, stranger, "SN-2"), sni("factory.iot.example.com")), provision.ChainIncomplete},
		"a name that is none":    {over(leaf(t, stranger, "SN+2"), sni("factory.iot.example.com")), provision.ChainIncomplete},
		"the ID of a hub":        {over(leaf(t, stranger, strict.ID.String()), sni("factory.iot.example.com")), provision.ChainIncomplete},
		"not for authentication": {over(leaf(t, stranger, "SN-1", pki.WithTemplate(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), sni("factory.iot.example.com")), provision.ChainIncomplete},
	} {
		if d := r.gate.Admit(t.Context(), tt.c); d.Reason != tt.want || d.DeviceName != "" {
			t.Errorf("%s: %s (%s), device %q; want %s", name, d.Reason, d.Detail, d.DeviceName, tt.want)
		}
	}
	// It is bound to nothing by it, and a dry run tells.
	if d := r.devices(hub)[0]; d.CurrentKey != trust.KeyHashOf(factory.Certificate) || d.PendingKey != (trust.KeyHash{}) {
		t.Errorf("the device became %+v", d)
	}
	dry := over(own, sni("factory.iot.example.com"))
	dry.DryRun = true
	if d := r.expect(dry, provision.DeviceKnown); !strings.Contains(d.Detail, "custom certificate") {
		t.Errorf("explained as %q", d.Detail)
	}
	if n := len(r.devices(hub)); n != 1 {
		t.Errorf("there are %d devices", n)
	}

	// Renewed with the same key it is the same; one that an anchor signed, too.
	r.expect(over(leaf(t, root(t, "Anybody"), "SN-1", pki.WithSigner(own.Key)), sni("factory.iot.example.com")), provision.DeviceKnown)
	r.expect(over(leaf(t, vendor, "SN-1", pki.WithSigner(own.Key))), provision.DeviceKnown)

	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Disabled = true })
	r.becomes(over(own, sni("factory.iot.example.com")), provision.DeviceDisabled)
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Disabled, d.Custom.Expires = false, time.Now().Add(-time.Minute) })
	r.becomes(over(own, sni("factory.iot.example.com")), provision.CertificateExpired)
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Custom = customOf(t, own.Certificate) })
	r.becomes(over(own, sni("factory.iot.example.com")), provision.DeviceKnown)
	r.revocations(hub.ID, revoke(byKey(own.Certificate)))
	r.becomes(over(own, sni("factory.iot.example.com")), provision.CertificateRevoked)
	r.revocations(hub.ID, func(v *provision.Revocations) error { v.ByHand = nil; return nil })
	r.becomes(over(own, sni("factory.iot.example.com")), provision.DeviceKnown)
	must[provision.Hub](t)(r.store.UpdateHub(t.Context(), hub.ID, func(h *provision.Hub) error {
		h.Policy.CustomCertificates = false
		return nil
	}, func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }))
	r.becomes(over(own, sni("factory.iot.example.com")), provision.ChainIncomplete)
	// The device still has it, so the factory's key is still no good.
	r.expect(over(factory, sni("factory.iot.example.com")), provision.DeviceKeyChanged)
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Custom = nil })
	r.becomes(over(factory, sni("factory.iot.example.com")), provision.DeviceKnown)
}

// TestCustomCertificateFailures: a device with a custom certificate fails
// nothing; whoever tries names with certificates of his own
// is limited as any stranger is.
func TestCustomCertificateFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *provision.GateConfig) { c.FailuresPerMinute = 3 })
	vendor, stranger := root(t, "Vendor"), root(t, "Stranger")
	hub := r.hub("factory", anchors(vendor.Certificate), func(h *provision.Hub) { h.Policy.CustomCertificates = true })
	own := leaf(t, stranger, "SN-1")
	r.expect(over(leaf(t, vendor, "SN-1")), provision.DeviceProvisioned)
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Custom = customOf(t, own.Certificate) })
	r.becomes(over(own, sni("factory.iot.example.com"), from("2001:db8::1")), provision.DeviceKnown)
	for range 6 { // each is looked at
		r.expect(over(leaf(t, stranger, "SN-1", pki.WithSigner(own.Key)), sni("factory.iot.example.com")), provision.DeviceKnown)
	}
	for range 3 {
		r.expect(over(leaf(t, stranger, "SN-1"), sni("factory.iot.example.com")), provision.ChainIncomplete)
	}
	r.expect(over(leaf(t, stranger, "SN-1"), sni("factory.iot.example.com")), provision.RateLimited)
}

func TestReadCustomCertificate(t *testing.T) {
	t.Parallel()
	ca := root(t, "Anybody")
	day := 24 * time.Hour
	for name, tt := range map[string]struct {
		der  []byte
		want string // in the error; "" = none
	}{
		"a device's":        {leaf(t, ca, "SN-1").Certificate.Raw, ""},
		"another name":      {leaf(t, ca, "SN-2").Certificate.Raw, `"SN-2"`},
		"no name":           {leaf(t, ca, "").Certificate.Raw, "common name"},
		"a CA":              {ca.Certificate.Raw, "is a CA"},
		"expired":           {leaf(t, ca, "SN-1", pki.WithValidity(time.Now().Add(-2*day), time.Now().Add(-day))).Certificate.Raw, "expired"},
		"not yet valid":     {leaf(t, ca, "SN-1", pki.WithValidity(time.Now().Add(day), time.Now().Add(2*day))).Certificate.Raw, "valid from"},
		"for servers alone": {leaf(t, ca, "SN-1", pki.WithTemplate(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })).Certificate.Raw, "client authentication"},
		"SHA-1":             {leaf(t, ca, "SN-1", pki.WithSHA1()).Certificate.Raw, "SHA1"},
		"garbage":           {[]byte("garbage"), "parse"},
	} {
		got, err := provision.ReadCustomCertificate(tt.der, "SN-1", false, time.Now())
		if tt.want == "" && (err != nil || got.Key == trust.KeyHash{}) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %+v, %v; want %q", name, got, err, tt.want)
		}
	}
}

// TestMustEndWithCustomCertificates: sessions end that came with what counts no
// more.
func TestMustEndWithCustomCertificates(t *testing.T) {
	t.Parallel()
	vendor := root(t, "Vendor")
	anchor := trust.KeyHashOf(vendor.Certificate)
	key, other := trust.KeyHash{1}, trust.KeyHash{2}
	own := &provision.CustomCertificate{Key: key}
	bound := provision.Device{Anchor: anchor}
	ids := func(k trust.KeyHash, more ...trust.RevocationID) []trust.RevocationID {
		return append(more, trust.KeyID(k))
	}
	byCustom := provision.Session{Custom: true, Certificates: ids(key)}
	byAnchor := provision.Session{Certificates: ids(other, trust.RevocationID{7})}
	for name, tt := range map[string]struct {
		session provision.Session
		device  provision.Device
		off     bool // the hub's policy
		want    provision.EndReason
	}{
		"as it came":                  {byCustom, provision.Device{Custom: own}, false, ""},
		"never bound":                 {byCustom, provision.Device{Custom: own, Anchor: trust.KeyHash{9}}, false, ""},
		"another certificate":         {byCustom, provision.Device{Custom: &provision.CustomCertificate{Key: other}}, false, provision.EndCustomChanged},
		"taken away":                  {byCustom, bound, false, provision.EndCustomChanged},
		"the policy is off":           {byCustom, provision.Device{Custom: own}, true, provision.EndCustomChanged},
		"by the anchor before it":     {byAnchor, provision.Device{Anchor: anchor, Custom: own}, false, provision.EndCustomChanged},
		"by the anchor with its key":  {provision.Session{Anchor: anchor, Certificates: ids(key, trust.RevocationID{7})}, provision.Device{Custom: own}, true, ""},
		"by an anchor that is gone":   {provision.Session{Anchor: trust.KeyHash{9}, Certificates: ids(key, trust.RevocationID{7})}, provision.Device{Anchor: anchor, Custom: own}, false, provision.EndAnchorRemoved},
		"by an anchor of before":      {provision.Session{Anchor: trust.KeyHash{9}, Certificates: ids(other)}, bound, false, provision.EndAnchorRemoved},
		"nobody knows how it came":    {provision.Session{}, provision.Device{Custom: own}, false, ""},
		"by the anchor, none is set":  {byAnchor, bound, false, ""},
		"disabled":                    {byCustom, provision.Device{Custom: own, Disabled: true}, false, provision.EndDeviceDisabled},
		"by a secret, without TLS":    {provision.Session{Secret: provision.SecretMark{1}}, provision.Device{Custom: own, AllowInsecure: true, Secret: provision.SecretHash{1}}, false, ""},
		"its end was ordered":         {byCustom, provision.Device{Custom: own, SessionsEndBefore: time.Now()}, false, provision.EndOrdered},
		"created anew, not connected": {byCustom, provision.Device{}, false, provision.EndDeviceGone},
		"nobody knows, policy off":    {provision.Session{}, provision.Device{Custom: own}, true, provision.EndCustomChanged},
	} {
		hub := &provision.Hub{Anchors: [][]byte{vendor.Certificate.Raw}, Policy: provision.Policy{CustomCertificates: !tt.off}}
		if got := provision.MustEnd(tt.session, hub, &tt.device, time.Now()); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestCustomCertificateLeavesNothing: whatever its chain leads to, it does not
// become the device's key.
func TestCustomCertificateLeavesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vendor := root(t, "Vendor")
	hub := r.hub("factory", anchors(vendor.Certificate), func(h *provision.Hub) {
		h.Policy.CustomCertificates, h.Policy.Keys = true, provision.PinKeys
	})
	factory, own := leaf(t, vendor, "SN-1"), leaf(t, vendor, "SN-1")
	r.byHand(hub, "SN-1")
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Custom = customOf(t, own.Certificate) })
	r.becomes(over(own), provision.DeviceKnown)
	r.becomes(over(factory), provision.DeviceKeyChanged)
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Custom = nil })
	r.becomes(over(factory), provision.DeviceKnown)
	r.expect(over(own), provision.DeviceKeyChanged)
}

// TestCustomCertificateAmongStrangers: a device that its custom certificate let
// in is recognised as any is, and not held to what strangers of its network do.
func TestCustomCertificateAmongStrangers(t *testing.T) {
	t.Parallel()
	clock := newClock()
	r := newRig(t, func(c *provision.GateConfig) { c.Now, c.FailuresPerMinute = clock.now, 3 })
	stranger := root(t, "Stranger")
	hub := r.hub("factory", anchors(root(t, "Vendor").Certificate), func(h *provision.Hub) { h.Policy.CustomCertificates = true })
	own := leaf(t, root(t, "Own"), "SN-1")
	c := over(own, sni("factory.iot.example.com"))
	r.byHand(hub, "SN-1")
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Custom = customOf(t, own.Certificate) })
	r.becomes(c, provision.DeviceKnown)
	clock.advance(time.Minute) // longer than a refusal is recognised
	again := over(leaf(t, stranger, "SN-2"), sni("factory.iot.example.com"))
	for range 3 {
		r.expect(again, provision.ChainIncomplete) // looked up each time, and counted
	}
	r.expect(again, provision.RateLimited)
	r.expect(c, provision.DeviceKnown)
	r.editDevice(hub, "SN-1", func(d *provision.Device) { d.Custom = nil })
	r.becomes(c, provision.RateLimited) // a stranger, too, from then on
}
