package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// connection is one thing that the demo shows.
type connection struct {
	protocol string
	device   *device
	what     string
	want     provision.Reason
	headers  map[string]string // of the HTTPS request
}

const (
	https = "HTTPS"
	mqtt  = "MQTT"
)

// story is what happens in the demo, in order.
func story(f *factory) []connection {
	return []connection{
		{https, f.first, "first connection", provision.DeviceProvisioned, nil},
		{https, f.first, "second connection", provision.DeviceKnown, nil},
		{https, f.first, "forges x-device-id and others", provision.DeviceKnown, forged},
		{mqtt, f.first, "same device, other protocol", provision.DeviceKnown, nil},
		{mqtt, f.second, "first connection", provision.DeviceProvisioned, nil},
		{mqtt, f.second, "second connection", provision.DeviceKnown, nil},
		{mqtt, f.newLine, "first of a never-seen line", provision.DeviceProvisioned, nil},
		{https, f.foreign, "same name, from a foreign CA", provision.ChainUntrusted, nil},
		{mqtt, f.foreign, "same name, from a foreign CA", provision.ChainUntrusted, nil},
		{https, f.expired, "certificate of last year", provision.CertificateExpired, nil},
		{mqtt, f.expired, "certificate of last year", provision.CertificateExpired, nil},
		{https, f.unknown, "unknown, hub creates none", provision.DeviceUnknown, nil},
		{mqtt, f.unknown, "unknown, hub creates none", provision.DeviceUnknown, nil},
	}
}

// row is what became of a connection.
type row struct {
	connection
	outcome string
	reason  provision.Reason
	err     error // it is not what should have been
}

// play makes the connections, one after the other. The error is that of a
// context that ended.
func (s *site) play(ctx context.Context, story []connection) ([]row, error) {
	var rows []row
	for _, c := range story {
		r := s.tell(ctx, c)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// tell makes one connection, and compares what the device saw with what hubgate
// decided and what should have been.
func (s *site) tell(ctx context.Context, c connection) row {
	before := s.decisions.count()
	saw, refused, err := s.connect(ctx, c)
	if err != nil {
		return row{connection: c, outcome: "failed", err: err}
	}
	said, err := s.decisions.of(ctx, c.device.source, before)
	r := row{connection: c, reason: provision.Reason(said.Reason), err: err}
	switch {
	case refused:
		r.outcome = "refused, " + saw
	case r.reason == provision.DeviceProvisioned:
		r.outcome = "created, " + saw
	default:
		r.outcome = "admitted, " + saw
	}
	allowed := r.reason.Outcome() == provision.Allow
	switch {
	case err != nil:
	case r.reason != c.want:
		r.err = fmt.Errorf("hubgate said %s, want %s", r.reason, c.want)
	case allowed == refused:
		r.err = fmt.Errorf("hubgate said %s, but the device was %s", r.reason, r.outcome)
	}
	return r
}

// ban disables a device while it is connected, sees its connection end, and
// enables it again.
func (s *site) ban(ctx context.Context, d *device) row {
	r := row{connection: connection{protocol: mqtt, device: d, what: "disabled while connected"}, reason: provision.DeviceDisabled}
	lost := make(chan struct{})
	client, err := s.dial(ctx, d, func() { close(lost) })
	if err != nil {
		r.err = err
		return r
	}
	defer client.Disconnect(0)
	if _, err := s.ask(ctx, "device", "disable", openHub, d.name); err != nil {
		r.err = err
		return r
	}
	select {
	case <-lost:
		r.outcome = "connection ended"
	case <-ctx.Done():
		r.err = ctx.Err()
	case <-time.After(connectTimeout):
		r.outcome, r.err = "still connected", fmt.Errorf("the connection did not end within %s", connectTimeout)
	}
	_, err = s.ask(ctx, "device", "enable", openHub, d.name)
	r.err = errors.Join(r.err, err)
	return r
}

// connect connects as the device and returns what it saw.
func (s *site) connect(ctx context.Context, c connection) (saw string, refused bool, err error) {
	if c.protocol == https {
		status, err := s.get(ctx, c.device, c.headers)
		return fmt.Sprintf("status %d", status), status != http.StatusOK, err
	}
	switch err := s.converse(ctx, c.device); {
	case err == nil:
		return "broker was told its name", false, nil
	case isAlert(err):
		return "TLS alert", true, nil
	default:
		return "", false, err
	}
}
