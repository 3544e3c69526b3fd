package session

import (
	"context"

	"github.com/hubgate/hubgate/provision"
)

// DeviceSessions returns live sessions of a device: those that the Envoys linked
// here have open, which the store may not know yet; if there is none, those on
// record, whoever made them.
func (t *Tracker) DeviceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) ([]provision.Session, error) {
	t.mu.Lock()
	var open []provision.Session
	for _, c := range t.ofDevice(device) {
		if c.link != nil && c.opened && c.ending == "" && c.session.Hub == hub {
			open = append(open, c.session)
		}
	}
	t.mu.Unlock()
	if len(open) > 0 {
		return open, nil
	}
	return t.store.DeviceSessions(ctx, hub, device)
}
