package provision_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// TestDecideWithoutTLS is the decision table of connections without TLS.
func TestDecideWithoutTLS(t *testing.T) {
	t.Parallel()
	_, right := provision.NewSecret()
	_, wrong := provision.NewSecret()
	hub := provision.Hub{ID: provision.NewHubID(), Name: "factory", AutoProvisioning: true}
	device := func(edit func(*provision.Device)) *provision.Device {
		d := &provision.Device{
			ID: provision.DeviceIDOf(hub.ID, "SN-1"), Hub: hub.ID, Name: "SN-1", AllowInsecure: true, Secret: right,
		}
		edit(d)
		return d
	}
	asIs := func(*provision.Device) {}
	secret := func(h provision.SecretHash) *provision.Credentials {
		return &provision.Credentials{User: "factory/SN-1", Secret: h}
	}
	for name, tt := range map[string]struct {
		credentials *provision.Credentials
		user        string // the device it names; "" = SN-1
		device      *provision.Device
		edit        func(*provision.Facts)
		want        provision.Reason
		nameless    bool // the decision names no device
	}{
		"flag and secret":             {credentials: secret(right), device: device(asIs), want: provision.DeviceKnown},
		"it need not have a key":      {credentials: secret(right), device: device(func(d *provision.Device) { d.Anchor = trust.KeyHash{1} }), want: provision.DeviceKnown},
		"no credentials":              {device: device(asIs), want: provision.NoCertificate, nameless: true},
		"wrong secret":                {credentials: secret(wrong), device: device(asIs), want: provision.SecretInvalid},
		"no secret presented":         {credentials: secret(provision.SecretHashOf("")), device: device(asIs), want: provision.SecretInvalid},
		"the ID is no secret":         {credentials: secret(provision.SecretHashOf(provision.DeviceIDOf(hub.ID, "SN-1").String())), device: device(asIs), want: provision.SecretInvalid},
		"flag without a secret":       {credentials: secret(right), device: device(func(d *provision.Device) { d.Secret = provision.SecretHash{} }), want: provision.SecretInvalid},
		"no secret, none presented":   {credentials: secret(provision.SecretHash{}), device: device(func(d *provision.Device) { d.Secret = provision.SecretHash{} }), want: provision.SecretInvalid},
		"secret without the flag":     {credentials: secret(right), device: device(func(d *provision.Device) { d.AllowInsecure = false }), want: provision.InsecureNotAllowed},
		"auto-provisioned":            {credentials: secret(wrong), device: device(func(d *provision.Device) { d.AllowInsecure, d.Secret = false, provision.SecretHash{} }), want: provision.InsecureNotAllowed},
		"unknown, on a hub that does": {credentials: secret(right), want: provision.InsecureNotAllowed, nameless: true},
		"disabled device":             {credentials: secret(right), device: device(func(d *provision.Device) { d.Disabled = true }), want: provision.DeviceDisabled},
		"disabled, wrong secret":      {credentials: secret(wrong), device: device(func(d *provision.Device) { d.Disabled = true }), want: provision.SecretInvalid},
		"disabled hub":                {credentials: secret(right), device: device(asIs), edit: func(f *provision.Facts) { f.Hub.Disabled = true }, want: provision.HubDisabled, nameless: true},
		"a hub that is going":         {credentials: secret(right), device: device(asIs), edit: func(f *provision.Facts) { f.Hub.Deleting = true }, want: provision.HubDisabled, nameless: true},
		"no name":                     {credentials: secret(right), user: "a/b", want: provision.InsecureNotAllowed, nameless: true},
		"a name beyond ASCII":         {credentials: secret(right), user: "größe", want: provision.InsecureNotAllowed, nameless: true},
		"another authority": {credentials: secret(right), device: device(asIs), edit: func(f *provision.Facts) { f.AuthorityUnknown = true },
			want: provision.AuthorityMismatch, nameless: true},
		"another connection is open": {credentials: secret(right), device: device(asIs), want: provision.DeviceKnown,
			edit: func(f *provision.Facts) { f.Sought, f.Other = true, &provision.Session{} }},
		"the same on a hub that rejects": {credentials: secret(right), device: device(asIs), want: provision.DeviceAlreadyConnected,
			edit: func(f *provision.Facts) {
				f.Sought, f.Other, f.Hub.Policy.Connections = true, &provision.Session{}, provision.Reject
			}},
		"the store does not answer": {credentials: secret(right), edit: func(f *provision.Facts) { f.StoreErr = provision.ErrUnavailable }, want: provision.StoreUnavailable},
		"the edge's problem": {credentials: secret(right), device: device(asIs), want: provision.Overloaded, nameless: true,
			edit: func(f *provision.Facts) { f.Connection.Problem = &provision.Problem{Reason: provision.Overloaded} }},
		"a certificate is not looked at": {device: device(asIs), want: provision.NoCertificate, nameless: true,
			edit: func(f *provision.Facts) { f.Connection.Leaf = []byte{0x30} }},
	} {
		own := hub
		f := &provision.Facts{
			Connection: provision.Connection{Protocol: provision.TCP, Credentials: tt.credentials},
			Now:        time.Now(), Hub: &own, HubFrom: "user name", UserDevice: "SN-1", Looked: true, Device: tt.device,
		}
		if tt.user != "" {
			f.UserDevice = tt.user
		}
		if tt.edit != nil {
			tt.edit(f)
		}
		d, decided := provision.Decide(f)
		if !decided || d.Reason != tt.want || (d.DeviceName == "") != tt.nameless {
			t.Errorf("%s: %s (%s), device %q, decided %t; want %s", name, d.Reason, d.Detail, d.DeviceName, decided, tt.want)
		}
	}
	if got := provision.InsecureNotAllowed.Message(); got != "mutual TLS authentication is required" {
		t.Errorf("a device without the flag is told %q", got)
	}
}

// plain is a connection without TLS.
func plain(user, secret string, edit ...func(*provision.Connection)) provision.Connection {
	c := provision.Connection{Protocol: provision.HTTP, Source: source, Credentials: &provision.Credentials{
		User: user, Secret: provision.SecretHashOf(secret),
	}}
	for _, e := range edit {
		e(&c)
	}
	return c
}

// allowInsecure lets a device connect without TLS, and returns its secret.
func (r *rig) allowInsecure(h provision.Hub, name string) string {
	r.t.Helper()
	secret, hash := provision.NewSecret()
	id := provision.DeviceIDOf(h.ID, name)
	must[provision.Device](r.t)(r.store.UpdateDevice(r.t.Context(), provision.Update{
		Hub: h.ID, Device: id,
		Change: func(d *provision.Device) error {
			d.AllowInsecure, d.Secret = true, hash
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.SecretCreated.OnDevice(d, time.Now()) },
	}))
	r.eventually("checks know the secret", func() bool {
		return r.gate.Admit(r.t.Context(), plain(h.Name+"/"+name, secret)).Allowed()
	})
	return secret
}

// tracked keeps the sessions that a gate tells of.
type tracked struct {
	sessions
	told []provision.Session
}

func (s *tracked) Allowed(_ context.Context, one provision.Session) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, one)
	return one.ID
}

func (s *tracked) last() provision.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[len(s.told)-1]
}

// TestInsecureConnections: the hub is found by the user name or the hint, nothing
// is created or bound, and what is refused is told.
func TestInsecureConnections(t *testing.T) {
	t.Parallel()
	sessions := &tracked{}
	r := newRig(t, denials(time.Hour, 64, nil), func(c *provision.GateConfig) { c.Sessions = sessions })
	vendor := root(t, "Vendor")
	h, other := r.hub("factory", anchors(vendor.Certificate)), r.hub("other")
	chip := leaf(t, vendor, "chip-1")
	r.expect(over(chip), provision.DeviceProvisioned)
	hint := func(hub string) func(*provision.Connection) {
		return func(c *provision.Connection) { c.HubHint = hub }
	}
	refused := r.expect(plain("factory/chip-1", "any"), provision.InsecureNotAllowed)
	events := r.told(h.ID)
	if len(events) != 1 || events[0].Message != "mutual TLS authentication is required" || events[0].ObjectName != "chip-1" ||
		events[0].Reason != "insecure_not_allowed" || events[0].Decision != refused.ID {
		t.Errorf("the hub was told %+v", events)
	}

	secret := r.allowInsecure(h, "chip-1")
	unbound := provision.Device{ID: provision.DeviceIDOf(h.ID, "aa:bb"), Hub: h.ID, Name: "aa:bb", Version: 1}
	if _, created, err := r.store.CreateDevice(t.Context(), provision.Creation{Device: unbound, HubVersion: h.Version, Event: provision.Created.OnDevice(unbound, time.Now())}); !created {
		t.Fatal(err)
	}
	never := r.allowInsecure(h, "aa:bb")
	for name, tt := range map[string]struct {
		conn provision.Connection
		want provision.Reason
	}{
		"hub by name":               {plain("factory/chip-1", secret), provision.DeviceKnown},
		"hub by ID":                 {plain(h.ID.String()+"/chip-1", secret), provision.DeviceKnown},
		"hint alone":                {plain("chip-1", secret, hint("factory")), provision.DeviceKnown},
		"hint and hub":              {plain(h.ID.String()+"/chip-1", secret, hint("factory")), provision.DeviceKnown},
		"never bound":               {plain("factory/aa:bb", never), provision.DeviceKnown},
		"hint of another hub":       {plain("factory/chip-1", secret, hint("other")), provision.InsecureNotAllowed},
		"hint to nowhere":           {plain("factory/chip-1", secret, hint("gamma")), provision.HubUnknown},
		"no hub":                    {plain("chip-1", secret), provision.InsecureNotAllowed},
		"hub that is not there":     {plain("gamma/chip-1", secret), provision.InsecureNotAllowed},
		"another hub":               {plain("other/chip-1", secret), provision.InsecureNotAllowed},
		"the device's ID":           {plain("factory/"+provision.DeviceIDOf(h.ID, "chip-1").String(), secret), provision.InsecureNotAllowed},
		"the device's ID as secret": {plain("factory/chip-1", provision.DeviceIDOf(h.ID, "chip-1").String()), provision.SecretInvalid},
		"another's secret":          {plain("factory/chip-1", never), provision.SecretInvalid},
		"authority of another hub":  {plain("factory/chip-1", secret, func(c *provision.Connection) { c.Authority = "other.iot.example.com" }), provision.AuthorityMismatch},
		"unknown":                   {plain("factory/chip-2", secret), provision.InsecureNotAllowed},
		"nobody":                    {plain("factory/", secret), provision.InsecureNotAllowed},
		"a dry run":                 {plain("factory/chip-1", secret, func(c *provision.Connection) { c.DryRun = true }), provision.DeviceKnown},
	} {
		if d := r.gate.Admit(t.Context(), tt.conn); d.Reason != tt.want {
			t.Errorf("%s: %s (%s), want %s", name, d.Reason, d.Detail, tt.want)
		}
	}
	// With TLS, nothing has changed; the secret is nothing there.
	r.expect(over(chip), provision.DeviceKnown)
	if s := sessions.last(); !s.Secret.IsZero() {
		t.Errorf("a session over TLS: %+v", s)
	}
	r.expect(over(chip, func(c *provision.Connection) {
		c.Leaf, c.Presented, c.Attested = nil, nil, nil
		c.Credentials = &provision.Credentials{User: "factory/chip-1", Secret: provision.SecretHashOf(secret)}
	}), provision.NoCertificate)
	r.expect(plain("factory/chip-1", secret), provision.DeviceKnown)
	if s := sessions.last(); s.Secret != provision.SecretHashOf(secret).Mark() {
		t.Errorf("a session without TLS: %+v", s)
	}

	if n := len(r.devices(h)) + len(r.devices(other)); n != 2 {
		t.Errorf("%d devices, want the two that were made", n)
	}
	for _, d := range r.devices(h) {
		if d.Bound() != (d.Name == "chip-1") {
			t.Errorf("%s: bound %t", d.Name, d.Bound())
		}
	}
	for _, never := range []string{secret, never, fmt.Sprintf("%x", provision.SecretHashOf(secret))} {
		if strings.Contains(r.log.String(), never) {
			t.Errorf("the log has %s:\n%s", never, r.log)
		}
	}
}

// TestMustEndWithoutTLS: such a session goes by the flag and the secret, and not
// by anchors.
func TestMustEndWithoutTLS(t *testing.T) {
	t.Parallel()
	_, secret := provision.NewSecret()
	_, next := provision.NewSecret()
	now := time.Now()
	session := provision.Session{Secret: secret.Mark(), Since: now}
	for name, tt := range map[string]struct {
		device provision.Device
		want   provision.EndReason
	}{
		"as it was":           {provision.Device{AllowInsecure: true, Secret: secret}, ""},
		"bound meanwhile":     {provision.Device{AllowInsecure: true, Secret: secret, Anchor: trust.KeyHash{1}}, ""},
		"flag taken away":     {provision.Device{Secret: secret}, provision.EndSecretChanged},
		"another secret":      {provision.Device{AllowInsecure: true, Secret: next}, provision.EndSecretChanged},
		"no secret any more":  {provision.Device{AllowInsecure: true}, provision.EndSecretChanged},
		"disabled":            {provision.Device{AllowInsecure: true, Secret: secret, Disabled: true}, provision.EndDeviceDisabled},
		"ended by somebody":   {provision.Device{AllowInsecure: true, Secret: secret, SessionsEndBefore: now.Add(1)}, provision.EndOrdered},
		"made anew meanwhile": {provision.Device{}, provision.EndSecretChanged},
	} {
		if got := provision.MustEnd(session, &provision.Hub{}, &tt.device, now); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got := provision.MustEnd(provision.Session{}, &provision.Hub{}, &provision.Device{AllowInsecure: true, Secret: secret}, now); got != provision.EndDeviceGone {
		t.Errorf("a session over TLS of a device without a key: %q", got)
	}
}
