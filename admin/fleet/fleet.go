// Package fleet is what administrators may do to hubs and devices: one method
// per act. The native API, the Scaleway-compatible one and the local socket all
// call it, so that they cannot differ in who may do what (package access), in
// the rules of what a hub may trust, or in what is told of an act: a hub event
// in the same step of the store, and one line in the log.
//
// Errors are those of packages provision and access, and *Refusal.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// Gate tells of the hubs in force. *provision.Gate is one.
type Gate interface {
	// Hubs are all hubs, by name.
	Hubs() []provision.Hub
	// Attended are those that are being deleted, among others.
	Attended() []provision.Hub
	// Hub finds one by ID or name.
	Hub(idOrName string) (provision.Hub, bool)
	// Refresh puts in force what the store has of a hub.
	Refresh(ctx context.Context, id provision.HubID) error
}

// Store is what administration of hubs and devices needs of a store.
type Store interface {
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Claims
	provision.Announcer
	Partitions() int
	Hub(ctx context.Context, id provision.HubID) (provision.Hub, error)
	Hubs(ctx context.Context, partition int) ([]provision.StoredHub, error)
	Learned(ctx context.Context, hub provision.HubID) ([][]byte, error)
	Revocations(ctx context.Context, hub provision.HubID) (provision.Revocations, error)
	Device(ctx context.Context, hub provision.HubID, name string) (provision.Device, error)
	CreateDevice(ctx context.Context, c provision.Creation) (provision.Device, bool, error)
	DeviceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) ([]provision.Session, error)
	HubSessions(ctx context.Context, hub provision.HubID, cursor string, limit int) ([]provision.Session, string, error)
}

// Config is what a Fleet is made of. Gate and Store are required.
type Config struct {
	Gate  Gate
	Store Store
	// Logger gets one line per act. Nil: slog.Default.
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Fleet administers hubs and devices. Its methods are safe for concurrent use.
type Fleet struct {
	gate      Gate
	store     Store
	log       *slog.Logger
	now       func() time.Time
	connected counts
	lists     *access.Slots
}

// New makes a Fleet; nothing runs before Run.
func New(c Config) (*Fleet, error) {
	if c.Gate == nil || c.Store == nil {
		return nil, errors.New("fleet: needs a gate and a store")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Fleet{
		gate: c.Gate, store: c.Store, log: c.Logger, now: c.Now,
		lists: access.NewSlots("too_many_lists", "costly lists are being made", "try again", maxLists),
	}, nil
}

// maxLists bounds the costly lists made at once, of each principal to a quarter.
const maxLists = 16

// Costly takes a slot for a list that reads many more devices than it tells of,
// and returns what gives it back, or a *access.Busy.
func (f *Fleet) Costly(p access.Principal) (done func(), err error) { return f.lists.Take(p) }

// sweepInterval is how often unfinished deletions of hubs are looked for.
const sweepInterval = 2 * time.Second

// Run finishes deletions of hubs that were cut short, by whichever process,
// until the context ends, and returns its error.
func (f *Fleet) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		for _, h := range f.gate.Attended() {
			if !h.Deleting {
				continue
			}
			if err := f.finishDeletion(ctx, h); err != nil && ctx.Err() == nil {
				f.log.WarnContext(ctx, "deleting a hub failed, trying again", "hub", h.Name, "hub_id", h.ID.String(), "error", err)
			}
		}
	}
}

func (f *Fleet) finishDeletion(ctx context.Context, h provision.Hub) error {
	err := f.store.DeleteHub(ctx, h.ID, provision.Deleted.OnHub(h, f.now()))
	if err != nil && !errors.Is(err, provision.ErrNotFound) {
		return fmt.Errorf("hub %s: %w", h.Name, err)
	}
	return f.gate.Refresh(ctx, h.ID)
}
