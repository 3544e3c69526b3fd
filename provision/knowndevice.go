package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// knownDevice is step 7 of the design: whether a device that the hub knows is
// the one that connects.
func knownDevice(f *Facts) finding {
	d, i := f.Device, f.Identity
	switch {
	case d.Disabled:
		return finding{DeviceDisabled, "an operator disabled the device"}
	case d.Custom != nil:
		return customDevice(f)
	case !d.Bound():
		return finding{DeviceKnown, "known device, first connection: it binds the device to this key and anchor"}
	case !f.Rules.together(d.Anchor, i.Anchor):
		return finding{DeviceIssuerChanged, fmt.Sprintf("this chain ends at %s; another anchor admitted the device", f.Path.Anchor().Subject)}
	case f.Rules.keys == PinKeys && i.Key != d.FirstKey:
		return finding{DeviceKeyChanged, fmt.Sprintf("the key is %s; the hub pins the device's first one, %s", i.Key, d.FirstKey)}
	case f.Rules.keys == ApproveKeys && i.Key != d.CurrentKey:
		return finding{DeviceKeyChanged, fmt.Sprintf("the key is %s; no operator has approved another than %s", i.Key, d.CurrentKey)}
	}
	return finding{DeviceKnown, "known device"}
}

// rebindPause is how long a device that was changed is not bound anew: two
// certificates that take turns must not cost a step of the store each time.
const rebindPause = time.Minute

// mustBind reports whether an accepted connection is to bind its device: one
// that is not bound, or that comes with another certificate.
func mustBind(f *Facts) bool {
	d, i := f.Device, f.Identity
	switch {
	case !f.Connection.TLS: // there is nothing to bind it to
		return false
	case d.Custom != nil: // whose key is not the device's for good
		return false
	case !d.Bound():
		return true
	case d.CurrentKey == i.Key && d.Anchor == i.Anchor && d.Issuer == i.Issuer:
		return false
	}
	return d.Version == 1 || f.Now.Sub(d.UpdatedAt) >= rebindPause
}

// bind binds a device to what its connection brought: at the first one of a
// device that an administrator created, and when an accepted one brings another
// certificate. It returns true if the check has to be decided anew.
func (g *Gate) bind(ctx context.Context, f *Facts, d Decision, id string) (Decision, bool) {
	if !mustBind(f) {
		return d, false
	}
	was := *f.Device
	limited, cancel := patience(ctx, was.Bound()) // which is admitted as it is
	defer cancel()
	mark := g.devices.reading(was.ID)
	start := time.Now()
	bound, err := g.store.BindDevice(limited, Binding{
		Hub: f.Hub.ID, Device: was.ID, HubVersion: f.Hub.Version,
		WasKey: was.CurrentKey, WasAnchor: was.Anchor,
		Key:    f.Identity.Key,
		Anchor: f.Identity.Anchor,
		Issuer: f.Identity.Issuer,
		From:   f.Connection.Source, At: f.Now,
		Event: func(d Device) Event { return boundEvent(was, d, f.Connection.Source, id, f.Now) },
	})
	g.metrics.observeStore("bind", start, err)
	switch {
	case errors.Is(err, ErrHubChanged):
		if _, reloadErr := g.reload(ctx, f.Hub.ID); reloadErr == nil {
			return d, true
		}
	case errors.Is(err, ErrNotFound): // deleted a moment ago
		g.devices.forget(was.ID)
		return d, true
	}
	switch {
	case err == nil:
		// What the cache has is void once the feed tells of it; until then it
		// would only be bound again, in vain.
		g.devices.put(&bound, mark)
		f.Device = &bound // another connection may have been first, or it was disabled
	case was.Bound() && !errors.Is(err, ErrHubChanged):
		g.log.WarnContext(ctx, "binding a device to its new certificate failed; its next connection tries again",
			"hub", f.Hub.Name, "device", was.Name, "error", err)
	default:
		f.StoreErr = err
	}
	d, _ = Decide(f)
	return d, false
}

// awaitApproval notes the key that a device was refused for, where an operator
// can approve it: the last one, and none more often than once a minute, as whoever
// has certificates of the device's name can bring many.
func (g *Gate) awaitApproval(ctx context.Context, f *Facts, id string) {
	d, key := f.Device, f.Identity.Key
	if f.Rules.keys != ApproveKeys || d.Custom != nil || d.PendingKey == key ||
		d.PendingKey != (trust.KeyHash{}) && f.Now.Sub(d.UpdatedAt) < rebindPause {
		return
	}
	ctx, cancel := patience(ctx, true)
	defer cancel()
	mark := g.devices.reading(d.ID)
	start := time.Now()
	noted, err := g.store.BindDevice(ctx, Binding{
		Hub: f.Hub.ID, Device: d.ID, HubVersion: f.Hub.Version, WasKey: d.CurrentKey, WasAnchor: d.Anchor,
		Key: key, Pending: true, At: f.Now,
		Event: func(d Device) Event {
			e := KeyPending.OnDevice(d, f.Now)
			e.SourceAddress, e.Decision = f.Connection.Source.String(), id
			return e
		},
	})
	g.metrics.observeStore("bind", start, err)
	if err != nil {
		g.log.WarnContext(ctx, "noting a key that waits for approval failed; the next connection tries again",
			"hub", f.Hub.Name, "device", d.Name, "error", err)
		return
	}
	g.devices.put(&noted, mark)
}
