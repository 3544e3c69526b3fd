package brokerauth

import (
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// facts are a device that is connected to its hub through an Envoy with the
// library.
type facts struct {
	hub      provision.Hub
	device   provision.Device
	sessions []provision.Session
}

func connected(t *testing.T, name string) *facts {
	t.Helper()
	ca, err := pki.NewRoot("Vendor Root")
	if err != nil {
		t.Fatal(err)
	}
	f := &facts{hub: provision.Hub{ID: provision.NewHubID(), Name: "factory", Anchors: [][]byte{ca.Certificate.Raw}}}
	f.device = provision.Device{
		ID: provision.DeviceIDOf(f.hub.ID, name), Hub: f.hub.ID, Name: name, Anchor: trust.KeyHashOf(ca.Certificate),
	}
	f.sessions = []provision.Session{{
		Hub: f.hub.ID, Device: f.device.ID, DeviceName: name, Protocol: provision.TCP,
		Envoy: provision.EnvoyID{Node: "edge", Epoch: "1f"}, Connection: 7, Since: time.Now(),
	}}
	return f
}

func TestConnect(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*facts)
		want   reason
	}{
		"connected":                 {func(*facts) {}, allowed},
		"confirmed":                 {func(f *facts) { f.sessions[0].Confirmed = true }, allowed},
		"one of two sessions":       {func(f *facts) { f.sessions = append([]provision.Session{{Protocol: provision.HTTP}}, f.sessions...) }, allowed},
		"hub disabled":              {func(f *facts) { f.hub.Disabled = true }, hubDisabled},
		"hub being deleted":         {func(f *facts) { f.hub.Deleting = true }, hubUnknown},
		"device disabled":           {func(f *facts) { f.device.Disabled = true }, deviceDisabled},
		"no session":                {func(f *facts) { f.sessions = nil }, noSession},
		"session of HTTP":           {func(f *facts) { f.sessions[0].Protocol = provision.HTTP }, noSession},
		"Envoy without the library": {func(f *facts) { f.sessions[0].Envoy.Epoch = "" }, noSession},
		"Envoy that only logs":      {func(f *facts) { f.sessions[0].Envoy.Epoch = provision.LoggedEpoch + "1" }, noSession},
		"session to be ended":       {func(f *facts) { f.device.SessionsEndBefore = time.Now().Add(time.Minute) }, noSession},
		"anchor removed":            {func(f *facts) { f.hub.Anchors = nil }, noSession},
		"never connected itself":    {func(f *facts) { f.device.Anchor = trust.KeyHash{} }, noSession},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := connected(t, "SN-1")
			test.change(f)
			if got := judgeConnect(&f.hub, &f.device, f.sessions, time.Now()); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
	f := connected(t, "SN-1")
	if got := judgeConnect(nil, nil, f.sessions, time.Now()); got != hubUnknown {
		t.Errorf("without a hub: %s", got)
	}
	if got := judgeConnect(&f.hub, nil, f.sessions, time.Now()); got != deviceUnknown {
		t.Errorf("without a device: %s", got)
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	filters := &provision.Filters{Publish: provision.Filter{Topics: []string{"up/#"}}, Subscribe: provision.Filter{Topics: []string{"down/#"}}}
	for _, test := range []struct {
		action                   action
		up, upAll, down, downAll bool
	}{
		{publish, true, false, false, false},
		{subscribe, false, false, true, true},
		{receive, false, false, true, false},
		{readwrite, false, false, false, false},
		{unsubscribe, true, true, true, true},
		{connect, false, false, false, false},
		{superuser, false, false, false, false},
	} {
		for topic, want := range map[string]bool{"up/a": test.up, "up/#": test.upAll, "down/a": test.down, "down/#": test.downAll} {
			if got := judgeTopic(filters, test.action, topic) == allowed; got != want {
				t.Errorf("%s %s: %t", test.action, topic, got)
			}
		}
	}
	if judgeTopic(nil, readwrite, "a") != allowed || judgeTopic(nil, readwrite, "#") == allowed {
		t.Error("readwrite without filters")
	}
}
