package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// SetCustomCertificate gives a device a certificate (PEM) of its own, in place of
// any other: from then on its key alone lets the device in, whether it chains to
// an anchor of the hub or not. The device's connections end. It takes an Operator,
// and a hub whose policy allows it.
func (f *Fleet) SetCustomCertificate(ctx context.Context, p access.Principal, hub, idOrName, pem string) (_ Device, err error) {
	a := f.act(p, provision.CustomSet)
	defer a.end(ctx, &err)
	h, d, err := f.deviceToChange(ctx, p, hub, idOrName, a)
	if err != nil {
		return Device{}, err
	}
	custom, err := readCustom(h, d.Name, pem, f.now())
	if err != nil {
		return Device{}, err
	}
	a.on("key", custom.Key.String())
	if !h.Policy.CustomCertificates {
		return Device{}, conflict(Conflict, "hub %s takes no custom certificates: an admin allows them with `hubgate hub update %s --custom-certificates`", h.Name, h.Name)
	}
	return f.setCustom(ctx, d, custom, provision.CustomSet)
}

// RemoveCustomCertificate takes a device's custom certificate, if it has one, and
// ends its connections: it gets in by the hub's anchors again. It takes an
// Operator.
func (f *Fleet) RemoveCustomCertificate(ctx context.Context, p access.Principal, hub, idOrName string) (err error) {
	a := f.act(p, provision.CustomRemoved)
	defer a.end(ctx, &err)
	_, d, err := f.deviceToChange(ctx, p, hub, idOrName, a)
	if err != nil {
		return err
	}
	_, err = f.setCustom(ctx, d, nil, provision.CustomRemoved)
	return err
}

func (f *Fleet) setCustom(ctx context.Context, d provision.Device, custom *provision.CustomCertificate, what provision.Act) (Device, error) {
	now := f.now()
	changed, err := f.store.UpdateDevice(ctx, provision.Update{
		Hub: d.Hub, Device: d.ID,
		Change: func(is *provision.Device) error {
			d = *is
			if is.Custom.Equal(custom) {
				return errUnchanged
			}
			changeCustom(is, custom, now)
			is.UpdatedAt = now
			return nil
		},
		Event: func(d provision.Device) provision.Event { return what.OnDevice(d, now) },
	})
	switch {
	case errors.Is(err, errUnchanged):
		changed = d
	case err != nil:
		return Device{}, ofDevice(d, err)
	}
	described, derr := f.describeDevice(ctx, changed)
	return described, errors.Join(derr, err)
}

// changeCustom gives a device another custom certificate, or none, and ends its
// connections: of those that an Envoy told of anew, after a restart, it need not
// be known what they came with. No key waits for approval beside one; the device
// brings it again when that is removed.
func changeCustom(d *provision.Device, custom *provision.CustomCertificate, now time.Time) {
	d.Custom = custom
	if custom != nil {
		d.PendingKey = trust.KeyHash{}
	}
	if d.SessionsEndBefore.Before(now) {
		d.SessionsEndBefore = now
	}
}

// readCustom reads what is to be the custom certificate of that device. With a
// zero time, its dates do not matter.
func readCustom(h provision.Hub, name, pem string, now time.Time) (*provision.CustomCertificate, error) {
	const field = "certificate"
	c, err := parseOne(field, pem)
	if err != nil {
		return nil, err
	}
	custom, err := provision.ReadCustomCertificate(c.Raw, name, h.UnicodeNames, now)
	var failure *trust.Error
	switch {
	case errors.As(err, &failure):
		return nil, invalid(field, "%s: %s", field, failure.Detail)
	case err != nil:
		return nil, invalid(field, "%s: %s", field, err)
	}
	return custom, nil
}
