package provision

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// presumeNew takes a device that nothing is known of here for one that the hub
// does not know either, and so for one to create: the store finds it, if it is
// known after all, in the step that would create it, and it is decided anew. That
// spares a first connection the round trip of a look-up. It presumes nothing
// where the device could not be created, as a known one is let in there, nor
// where a hook has to be asked first.
//
// First connections come in crowds, and so do known devices after a restart: what
// the last one on the hub was is what the next one is taken for.
func (g *Gate) presumeNew(f *Facts, h *liveHub, d Decision) bool {
	if f.Connection.DryRun || !g.store.Remote() || h.knew.Load() || g.creating.full() {
		return false
	}
	if _, cached := g.devices.get(d.Device, f.Now, g.outage); cached {
		return false
	}
	f.Looked = true
	presumed, decided := Decide(f)
	f.Looked = decided && presumed.Reason == DeviceProvisioned
	return f.Looked
}

// create creates the device. It returns true if the hub changed meanwhile, so
// that the check has to be decided anew.
func (g *Gate) create(ctx context.Context, f *Facts, d Decision, id string) (Decision, bool) {
	if !g.creating.enter() {
		return crowded(d, "a quarter of what authz.max_in_flight allows are first connections"), false
	}
	defer g.creating.leave()
	device := newDevice(f.Hub.ID, d.DeviceName, f.Path, f.Connection.Source, f.Now)
	mark := g.devices.reading(device.ID)
	start := time.Now()
	policy := &f.Hub.Policy
	existing, created, err := g.store.CreateDevice(ctx, Creation{
		Device:     device,
		HubVersion: f.Hub.Version,
		Event:      provisionedEvent(device, f.Connection.Source, id, f.Now),
		Claim:      f.Rules.claim(f.Identity.Anchor),
		MaxDevices: cmp.Or(policy.MaxDevices, DefaultMaxDevices),
		PerSecond:  policy.FirstConnectionsPerSecond,
		DryRun:     f.Connection.DryRun,
	})
	g.metrics.observeStore("create", start, err)
	switch {
	case errors.Is(err, ErrHubChanged):
		if _, err = g.reload(ctx, f.Hub.ID); err == nil {
			return d, true
		}
	case f.Connection.DryRun:
		return wouldCreate(f, d, existing, created, err), false
	case err == nil && !created: // known after all: another connection, or an administrator, was first
		if h := g.hubs.id(f.Hub.ID); h != nil {
			h.knew.Store(true)
		}
		g.devices.put(&existing, mark)
		f.Device = &existing
		if d, _ = Decide(f); !d.Allowed() {
			return d, false
		}
		return g.bind(ctx, f, d, id)
	}
	if err != nil {
		f.StoreErr = err
		d, _ = Decide(f)
		return d, false
	}
	g.devices.put(&device, mark)
	g.metrics.provisioned.WithLabelValues(g.metrics.hubLabel(d.HubName)).Inc()
	return d, false
}

// wouldCreate is what a dry run makes of what the store says.
func wouldCreate(f *Facts, d Decision, existing Device, created bool, err error) Decision {
	switch {
	case errors.Is(err, errors.ErrUnsupported): // there is no store to ask
		return d
	case err != nil:
		f.StoreErr = err
	case created:
		f.Creatable = true
	default: // known by now
		f.Device = &existing
	}
	d, _ = Decide(f)
	return d
}

// learn remembers the path's intermediates that the hub does not know yet, so
// that a connection that brings the leaf alone verifies as well. The decision
// stands even if it fails.
func (g *Gate) learn(ctx context.Context, h *liveHub, path trust.Path) {
	var unknown [][]byte
	var key strings.Builder
	for _, c := range h.unknown(path) {
		f := trust.FingerprintOf(c)
		unknown = append(unknown, c.Raw)
		key.Write(f[:])
	}
	if len(unknown) == 0 || len(h.learned) >= MaxLearned {
		return
	}
	_, err, _ := g.learning.Do(h.ID.String()+key.String(), func() (any, error) {
		start := time.Now()
		err := g.store.Learn(ctx, h.ID, unknown)
		g.metrics.observeStore("learn", start, err)
		if err != nil {
			return nil, err
		}
		return nil, g.relearn(ctx, h.ID)
	})
	if err != nil {
		g.log.WarnContext(ctx, "learning an intermediate failed", "hub", h.Name, "error", err)
	}
}
