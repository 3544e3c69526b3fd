package provision_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

func bySerial(issuer, c *x509.Certificate) provision.Revocation {
	return provision.Revocation{Issuer: trust.KeyHashOf(issuer), Serial: c.SerialNumber, At: time.Now()}
}

func byKey(c *x509.Certificate) provision.Revocation {
	return provision.Revocation{Key: trust.KeyHashOf(c), At: time.Now()}
}

// revocations edits what is revoked on a hub.
func (r *rig) revocations(hub provision.HubID, change func(*provision.Revocations) error) {
	r.t.Helper()
	if err := r.store.UpdateRevocations(r.t.Context(), hub, change, func(provision.Hub) provision.Event { return provision.Event{} }); err != nil {
		r.t.Fatal(err)
	}
}

func revoke(v provision.Revocation) func(*provision.Revocations) error {
	return func(r *provision.Revocations) error { return r.Revoke(v) }
}

// putCRL has the authority list what is revoked.
func putCRL(t *testing.T, ca *pki.Authority, number int64, source string, due time.Duration, revoked ...*x509.Certificate) func(*provision.Revocations) error {
	t.Helper()
	der := must[[]byte](t)(ca.CRL(number, revoked, func(l *x509.RevocationList) {
		l.NextUpdate = time.Now().Add(due)
		l.ThisUpdate = l.NextUpdate.Add(-24 * time.Hour)
	}))
	c := must[*trust.CRL](t)(trust.ParseCRL(der, []*x509.Certificate{ca.Certificate}))
	return func(r *provision.Revocations) error { return r.PutCRL(c, source, time.Now()) }
}

// TestRevokedIsDenied: on stored and declared hubs, whether the device is
// recognised or not, and until it is no longer revoked.
func TestRevokedIsDenied(t *testing.T) {
	t.Parallel()
	for _, declared := range []bool{false, true} {
		t.Run(map[bool]string{false: "stored", true: "declared"}[declared], func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			vendor := root(t, "Vendor")
			line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
			hub := provision.Hub{ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "hubgate.yaml", AutoProvisioning: true}
			anchors(vendor.Certificate)(&hub)
			if !declared {
				hub = r.hub("factory", anchors(vendor.Certificate))
			} else if err := r.gate.Declare(t.Context(), []provision.Hub{hub}); err != nil {
				t.Fatal(err)
			}
			dev, other := leaf(t, line, "SN-1"), leaf(t, line, "SN-2")
			r.expect(over(dev), provision.DeviceProvisioned)
			r.expect(over(other), provision.DeviceProvisioned)
			for name, c := range map[string]struct {
				change func(*provision.Revocations) error
				others provision.Reason
			}{
				"leaf by serial":         {revoke(bySerial(line.Certificate, dev.Certificate)), provision.DeviceKnown},
				"leaf by key":            {revoke(byKey(dev.Certificate)), provision.DeviceKnown},
				"intermediate by serial": {revoke(bySerial(vendor.Certificate, line.Certificate)), provision.CertificateRevoked},
				"intermediate by key":    {revoke(byKey(line.Certificate)), provision.CertificateRevoked},
				"leaf by CRL":            {putCRL(t, line, 1, "", time.Hour, dev.Certificate), provision.DeviceKnown},
				"leaf by an old CRL":     {putCRL(t, line, 1, "", -time.Hour, dev.Certificate), provision.DeviceKnown},
				"intermediate by CRL":    {putCRL(t, vendor, 1, "", time.Hour, line.Certificate), provision.CertificateRevoked},
			} {
				r.expect(over(dev), provision.DeviceKnown)
				r.expect(over(dev, leafOnly), provision.DeviceKnown)
				r.revocations(hub.ID, c.change)
				for _, conn := range []provision.Connection{over(dev), over(dev, leafOnly), over(dev, sni("factory.iot.example.com"))} {
					if d := r.expect(conn, provision.CertificateRevoked); d.Hub != hub.ID || d.Certificate == nil {
						t.Errorf("%s: of hub %s, certificate %v", name, d.HubName, d.Certificate)
					}
				}
				r.expect(over(other), c.others)
				// A new chip of the line is not created if the line is revoked.
				if c.others != provision.DeviceKnown {
					r.expect(over(leaf(t, line, "SN-new")), provision.CertificateRevoked)
				}
				if declared { // which a reload must not undo
					if err := r.gate.Declare(t.Context(), []provision.Hub{hub}); err != nil {
						t.Fatal(err)
					}
					r.expect(over(dev), provision.CertificateRevoked)
				}
				r.revocations(hub.ID, func(r *provision.Revocations) error {
					clear(r.ByHand)
					clear(r.CRLs)
					return nil
				})
			}
			r.expect(over(dev), provision.DeviceKnown)
			if n := len(r.devices(hub)); n != 2 {
				t.Errorf("%d devices, want 2", n)
			}
		})
	}
}

// TestNothingIsCreatedAfterARevocation: of whoever was being checked when the
// vendor's line was revoked, nobody is created once that is acknowledged.
func TestNothingIsCreatedAfterARevocation(t *testing.T) {
	t.Parallel()
	for _, declared := range []string{"", "hubgate.yaml"} {
		r := newRig(t)
		vendor := root(t, "Vendor")
		line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
		hub := provision.Hub{ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: declared, AutoProvisioning: true}
		anchors(vendor.Certificate)(&hub)
		if declared == "" {
			hub = r.hub("factory", anchors(vendor.Certificate))
		} else if err := r.gate.Declare(t.Context(), []provision.Hub{hub}); err != nil {
			t.Fatal(err)
		}
		devices := make([]provision.Connection, 200)
		for i := range devices {
			devices[i] = over(leaf(t, line, fmt.Sprintf("SN-%03d", i)))
		}
		var creators sync.WaitGroup
		for worker := range 8 {
			creators.Go(func() {
				for i := worker; i < len(devices); i += 8 {
					r.gate.Admit(t.Context(), devices[i])
				}
			})
		}
		r.eventually("devices are created", func() bool { return len(r.devices(hub)) > 0 })
		r.revocations(hub.ID, revoke(byKey(line.Certificate)))
		before := len(r.devices(hub))
		creators.Wait()
		if after := len(r.devices(hub)); after != before {
			t.Errorf("declared in %q: %d devices were created after the revocation was acknowledged", declared, after-before)
		}
	}
}

// TestWithoutACurrentCRL: what the policy says holds where there should be a CRL
// and is none.
func TestWithoutACurrentCRL(t *testing.T) {
	t.Parallel()
	var ahead time.Duration // of the clock
	r := newRig(t, func(c *provision.GateConfig) { c.Now = func() time.Time { return time.Now().Add(ahead) } })
	vendor := root(t, "Vendor")
	line := must[*pki.Authority](t)(vendor.Intermediate("Line"))
	const source = "https://ca.example.com/line.crl"
	hub := r.hub("factory", anchors(vendor.Certificate))
	set := func(p provision.RevocationPolicy, sources ...string) {
		t.Helper()
		must[provision.Hub](t)(r.store.UpdateHub(t.Context(), hub.ID, func(h *provision.Hub) error {
			h.Policy.Revocation, h.CRLSources = p, sources
			return nil
		}, func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }))
	}
	dev, direct := over(leaf(t, line, "SN-1")), over(leaf(t, vendor, "SN-2"))
	r.expect(dev, provision.DeviceProvisioned)
	r.expect(direct, provision.DeviceProvisioned)

	set(provision.RefuseUnlisted)
	r.expect(dev, provision.DeviceKnown) // no CRL is asked for
	set(provision.AllowUnlisted, source)
	r.expect(dev, provision.DeviceKnown)
	set(provision.RefuseUnlisted, source)
	d := r.expect(dev, provision.RevocationUnknown)
	if want := "no CRL could be had from " + source + " yet"; d.Detail != want {
		t.Errorf("%q, want %q", d.Detail, want)
	}
	r.expect(direct, provision.RevocationUnknown) // whose CRL it is, nobody knows yet
	r.revocations(hub.ID, putCRL(t, line, 1, source, time.Hour))
	r.expect(dev, provision.DeviceKnown)
	r.expect(direct, provision.DeviceKnown)
	ahead = 2 * time.Hour
	r.expect(dev, provision.RevocationUnknown) // recognised as it is
	r.expect(direct, provision.DeviceKnown)
	set(provision.AllowUnlisted, source)
	r.expect(dev, provision.DeviceKnown)
	set(provision.RefuseUnlisted, source)
	r.revocations(hub.ID, putCRL(t, line, 2, source, 4*time.Hour))
	r.expect(dev, provision.DeviceKnown)
	// An uploaded list that is overdue counts as well.
	r.revocations(hub.ID, putCRL(t, vendor, 1, "", time.Hour))
	r.expect(direct, provision.RevocationUnknown)
}

// TestCRLNeverGoesBack is the rule by which a CRL takes another one's place.
func TestCRLNeverGoesBack(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_790_000_000, 0)
	list := func(number int64, made time.Duration, text string) *trust.CRL {
		return &trust.CRL{Number: big.NewInt(number), ThisUpdate: at.Add(made), NextUpdate: at.Add(24 * time.Hour), DER: []byte(text)}
	}
	old := list(5, 0, "five")
	for name, c := range map[string]struct {
		list    *trust.CRL
		source  string
		want    error
		sources []string
	}{
		"the same":                      {old, "a", provision.ErrUnchanged, []string{"a"}},
		"the same, uploaded":            {old, "", provision.ErrUnchanged, []string{"a"}},
		"the same from elsewhere":       {old, "b", nil, []string{"a", "b"}},
		"a higher number":               {list(6, 0, "six"), "a", nil, []string{"a"}},
		"a higher number, made later":   {list(6, time.Minute, "six"), "b", nil, []string{"a", "b"}},
		"a lower number":                {list(4, time.Minute, "four"), "a", provision.ErrCRLGoesBack, []string{"a"}},
		"the same number, another list": {list(5, 0, "other"), "a", provision.ErrCRLGoesBack, []string{"a"}},
		"a higher number, made before":  {list(6, -time.Minute, "six"), "a", provision.ErrCRLGoesBack, []string{"a"}},
	} {
		r := provision.Revocations{CRLs: make(map[trust.KeyHash]provision.StoredCRL)}
		if err := r.PutCRL(old, "a", at); err != nil {
			t.Fatal(err)
		}
		err := r.PutCRL(c.list, c.source, at)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		in := r.CRLs[trust.KeyHash{}]
		want := old
		if c.want == nil {
			want = c.list
		}
		if in.Number.Cmp(want.Number) != 0 || in.Digest != trust.FingerprintOfDER(want.DER) || !slices.Equal(in.Sources, c.sources) {
			t.Errorf("%s: in force is %s of %v, want %s of %v", name, in.Number, in.Sources, want.Number, c.sources)
		}
	}
}

func TestRevocationsAreBounded(t *testing.T) {
	t.Parallel()
	r := provision.Revocations{
		ByHand: make(map[trust.RevocationID]provision.Revocation), CRLs: make(map[trust.KeyHash]provision.StoredCRL),
	}
	for i := range provision.MaxRevoked {
		if err := r.Revoke(provision.Revocation{Serial: big.NewInt(int64(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Revoke(provision.Revocation{Serial: big.NewInt(-1)}); !errors.Is(err, provision.ErrTooManyRevocations) {
		t.Errorf("one too many: %v", err)
	}
	list := func(issuer byte, size int) error {
		return r.PutCRL(&trust.CRL{Issuer: trust.KeyHash{issuer}, Number: big.NewInt(1), DER: make([]byte, size)}, "", time.Now())
	}
	for i := range byte(4) {
		if err := list(i, trust.MaxCRLBytes); err != nil {
			t.Fatal(err)
		}
	}
	if err := list(4, 1); !errors.Is(err, provision.ErrTooManyRevocations) {
		t.Errorf("too many bytes: %v", err)
	}
	clear(r.CRLs)
	for i := range byte(provision.MaxCRLs) {
		if err := list(i, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := list(provision.MaxCRLs, 1); !errors.Is(err, provision.ErrTooManyRevocations) {
		t.Errorf("too many CRLs: %v", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	hub := func(age time.Duration) *provision.Hub {
		return &provision.Hub{Policy: provision.Policy{MaxSessionAge: age}}
	}
	for name, c := range map[string]struct {
		session provision.Session
		hub     *provision.Hub
		ends    time.Time
		reason  provision.EndReason // if it has ended
	}{
		"nothing known":                   {provision.Session{Since: now}, hub(0), time.Time{}, ""},
		"the chain is valid":              {provision.Session{Since: now, Expires: now.Add(time.Hour)}, hub(0), now.Add(time.Hour + 1), ""},
		"the chain is valid to the last":  {provision.Session{Since: now, Expires: now}, hub(0), now.Add(1), ""},
		"the chain has expired":           {provision.Session{Since: now, Expires: now.Add(-time.Second)}, hub(0), now.Add(1 - time.Second), provision.EndChainExpired},
		"young enough":                    {provision.Session{Since: now.Add(-time.Minute)}, hub(time.Hour), now.Add(59 * time.Minute), ""},
		"too old":                         {provision.Session{Since: now.Add(-time.Hour)}, hub(time.Hour), now, provision.EndTooOld},
		"too old before the chain is":     {provision.Session{Since: now.Add(-2 * time.Hour), Expires: now.Add(time.Hour)}, hub(time.Hour), now.Add(-time.Hour), provision.EndTooOld},
		"the chain is before it is old":   {provision.Session{Since: now, Expires: now.Add(time.Minute)}, hub(time.Hour), now.Add(time.Minute + 1), ""},
		"of a device without a chain":     {provision.Session{Since: now.Add(-time.Minute)}, hub(time.Second), now.Add(time.Second - time.Minute), provision.EndTooOld},
		"revoked, but not on another hub": {provision.Session{Since: now, Certificates: []trust.RevocationID{{1}}}, hub(0), time.Time{}, ""},
	} {
		if ends, _ := c.session.EndsAt(c.hub); !ends.Equal(c.ends) {
			t.Errorf("%s: ends at %s, want %s", name, ends, c.ends)
		}
		if reason := c.session.EndedBy(c.hub, now); reason != c.reason {
			t.Errorf("%s: ended by %q, want %q", name, reason, c.reason)
		}
	}
}
