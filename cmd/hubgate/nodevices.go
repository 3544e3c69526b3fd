package main

import (
	"context"
	"errors"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// noDevices is the store of an explanation where there is none yet: every
// device in it is unknown, and nothing can be changed.
type noDevices struct {
	provision.HubRegistry // never reached, as are the others: explain is all that is asked
	provision.DeviceRegistry
	provision.Announcer
	provision.Outbox
	provision.Cursors
	provision.Sessions
	provision.Claims
	tokenStore
}

// tokenStore has a name that its methods do not have.
type tokenStore interface{ provision.Tokens }

// Partitions implements provision.Store.
func (noDevices) Partitions() int { return provision.DefaultPartitions }

// Remote implements provision.Store.
func (noDevices) Remote() bool { return false }

// Replaced implements provision.Store.
func (noDevices) Replaced() bool { return false }

// Hub implements provision.Store.
func (noDevices) Hub(context.Context, provision.HubID) (provision.Hub, error) {
	return provision.Hub{}, provision.ErrNotFound
}

// Hubs implements provision.Store.
func (noDevices) Hubs(context.Context, int) ([]provision.StoredHub, error) { return nil, nil }

// Learned implements provision.Store.
func (noDevices) Learned(context.Context, provision.HubID) ([][]byte, error) { return nil, nil }

// Revocations implements provision.Store.
func (noDevices) Revocations(context.Context, provision.HubID) (provision.Revocations, error) {
	return provision.Revocations{}, nil
}

// CRL implements provision.Store.
func (noDevices) CRL(context.Context, provision.HubID, trust.KeyHash) ([]byte, error) {
	return nil, provision.ErrNotFound
}

// ClaimHub implements provision.Store.
func (noDevices) ClaimHub(context.Context, provision.Hub) error { return nil }

// Device implements provision.Store.
func (noDevices) Device(context.Context, provision.HubID, string) (provision.Device, error) {
	return provision.Device{}, provision.ErrNotFound
}

// CreateDevice implements provision.Store: whether it could is not known.
func (noDevices) CreateDevice(context.Context, provision.Creation) (provision.Device, bool, error) {
	return provision.Device{}, false, errors.ErrUnsupported
}

// BindDevice implements provision.Store.
func (noDevices) BindDevice(context.Context, provision.Binding) (provision.Device, error) {
	return provision.Device{}, provision.ErrUnavailable
}

// Learn implements provision.Store.
func (noDevices) Learn(context.Context, provision.HubID, [][]byte) error {
	return provision.ErrUnavailable
}

// Watch implements provision.Store: nothing ever changes.
func (noDevices) Watch(ctx context.Context, sink provision.Sink) error {
	for p := range provision.DefaultPartitions {
		sink.Fresh(p, time.Now())
	}
	<-ctx.Done()
	return ctx.Err()
}
