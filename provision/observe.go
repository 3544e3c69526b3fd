package provision

import "context"

// Observer is told of changes, made by any process, that may concern whoever is
// connected: of what the store's change feed says, and of declared hubs, which
// are in no feed. What it then asks the Gate and the store is no older than the
// change. Its methods must not block.
type Observer interface {
	// Changed tells of a change of a hub, a device, or a device's sessions.
	Changed(c Change)
	// Lost tells that changes of a partition may have been missed.
	Lost(partition int)
}

// unobserved is the Observer of a Gate that nobody observes.
type unobserved struct{}

func (unobserved) Changed(Change) {}
func (unobserved) Lost(int)       {}

// CurrentHub returns the hub as it is now, nil if it is gone. While the store
// does not answer, what was known counts for the outage window; after that, and
// for a hub that was never known, the error is ErrUnavailable.
func (g *Gate) CurrentHub(ctx context.Context, id HubID) (*Hub, error) {
	var err error
	h := g.hubs.id(id)
	if h == nil {
		h, err = g.reload(ctx, id)
	} else {
		h, err = g.readThrough(ctx, h, g.now())
	}
	if h == nil || err != nil {
		return nil, err
	}
	return h.Hub, nil
}

// CurrentDevice returns the hub's device of that name as it is now, nil if the
// hub does not know it, or is gone. While the store does not answer, what was known counts
// for the outage window; after that the error is ErrUnavailable.
func (g *Gate) CurrentDevice(ctx context.Context, hub HubID, name string) (*Device, error) {
	h := g.hubs.id(hub)
	if h == nil {
		return nil, g.Ready() // a hub that is not loaded is none that is gone
	}
	d, _, err := g.lookUp(ctx, h, DeviceIDOf(hub, name), name, false)
	return d, err
}
