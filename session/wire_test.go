package session_test

import (
	"context"
	"sync"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// wire is the way to a store, which can be cut.
type wire struct {
	backend
	mu    sync.Mutex
	down  bool
	hangs bool // calls take as long as they may
}

func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

func (w *wire) hang() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangs = true
}

func (w *wire) err(ctx context.Context) error {
	w.mu.Lock()
	down, hangs := w.down, w.hangs
	w.mu.Unlock()
	if hangs {
		<-ctx.Done()
	}
	if down || hangs {
		return provision.ErrUnavailable
	}
	return nil
}

func (w *wire) PutSession(ctx context.Context, s provision.Session) (provision.Device, bool, error) {
	if err := w.err(ctx); err != nil {
		return provision.Device{}, false, err
	}
	return w.backend.PutSession(ctx, s)
}

func (w *wire) ClaimSession(ctx context.Context, s provision.Session) (*provision.Session, error) {
	if err := w.err(ctx); err != nil {
		return nil, err
	}
	return w.backend.ClaimSession(ctx, s)
}

func (w *wire) RemoveSession(ctx context.Context, s provision.Session) error {
	return cmpErr(w.err(ctx), func() error { return w.backend.RemoveSession(ctx, s) })
}

func (w *wire) RenewEnvoy(ctx context.Context, e provision.EnvoyID, lease time.Duration) error {
	return cmpErr(w.err(ctx), func() error { return w.backend.RenewEnvoy(ctx, e, lease) })
}

func (w *wire) DeviceSessions(ctx context.Context, h provision.HubID, d provision.DeviceID) ([]provision.Session, error) {
	if err := w.err(ctx); err != nil {
		return nil, err
	}
	return w.backend.DeviceSessions(ctx, h, d)
}

func (w *wire) EnvoySessions(ctx context.Context, e provision.EnvoyID) ([]provision.Session, error) {
	if err := w.err(ctx); err != nil {
		return nil, err
	}
	return w.backend.EnvoySessions(ctx, e)
}

func cmpErr(err error, otherwise func() error) error {
	if err != nil {
		return err
	}
	return otherwise()
}
