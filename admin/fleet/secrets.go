package fleet

import (
	"context"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// CreateSecret gives a device a new secret, with which it may connect without TLS
// once it is allowed to, and returns it: nobody is told it again. The one it had
// ends, and so do the device's connections. It takes an Operator.
func (f *Fleet) CreateSecret(ctx context.Context, p access.Principal, hub, idOrName string) (_ provision.Hub, _ provision.Device, secret string, err error) {
	secret, hash := provision.NewSecret()
	h, d, err := f.setSecret(ctx, p, hub, idOrName, hash, provision.SecretCreated)
	if err != nil {
		return h, d, "", err
	}
	return h, d, secret, nil
}

// RemoveSecret takes a device's secret, if it has one, and ends its connections.
// It takes an Operator.
func (f *Fleet) RemoveSecret(ctx context.Context, p access.Principal, hub, idOrName string) error {
	_, _, err := f.setSecret(ctx, p, hub, idOrName, provision.SecretHash{}, provision.SecretRemoved)
	return err
}

func (f *Fleet) setSecret(ctx context.Context, p access.Principal, hub, idOrName string, secret provision.SecretHash, what provision.Act) (_ provision.Hub, _ provision.Device, err error) {
	a := f.act(p, what)
	defer a.end(ctx, &err)
	h, d, err := f.deviceToChange(ctx, p, hub, idOrName, a)
	if err != nil {
		return h, d, err
	}
	now := f.now()
	changed, err := f.store.UpdateDevice(ctx, provision.Update{
		Hub: d.Hub, Device: d.ID,
		Change: func(d *provision.Device) error {
			if d.Secret == secret {
				return errUnchanged
			}
			endBySecret(d, now)
			d.Secret, d.UpdatedAt = secret, now
			return nil
		},
		Event: func(d provision.Device) provision.Event { return what.OnDevice(d, now) },
	})
	if err != nil {
		return h, d, ofDevice(d, err)
	}
	return h, changed, nil
}

// endBySecret ends the connections of a device whose secret is about to count no
// more. Those that are known to have come with it end anyway; of those that an
// Envoy told of anew, after a restart, that need not be known.
func endBySecret(d *provision.Device, now time.Time) {
	if !d.Secret.IsZero() && d.SessionsEndBefore.Before(now) {
		d.SessionsEndBefore = now
	}
}
