package provision

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Declare replaces the declared hubs. It returns once the checks that began
// under the old settings have ended: after that, nothing is decided by them. It
// changes nothing if a hub is unfit (the error joins every *HubError) or cannot
// be claimed in the store.
func (g *Gate) Declare(ctx context.Context, hubs []Hub) error {
	g.declaring.Lock()
	defer g.declaring.Unlock()
	if err := g.declare(ctx, hubs); err != nil {
		return err
	}
	return g.round.turn(ctx)
}

func (g *Gate) declare(ctx context.Context, hubs []Hub) error {
	// What hubs learn meanwhile must not be lost to what is read here.
	for partition := range g.hubLocks {
		defer g.lockHubs(partition)()
	}
	all := slices.Clone(hubs)
	for _, h := range g.hubs.all() {
		if h.Declared == "" {
			all = append(all, *h.Hub)
		}
	}
	if problems := CheckHubs(all); len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = p
		}
		return errors.Join(errs...)
	}
	fresh := make(map[HubID]*liveHub, len(hubs))
	for _, h := range hubs {
		live, err := g.prepare(ctx, h)
		if err != nil {
			return err
		}
		fresh[h.ID] = live
	}
	for id := range g.declared {
		if _, ok := fresh[id]; !ok {
			g.hubs.drop(id)
			defer g.feed.observer.Changed(Change{Kind: HubChanged, Hub: id})
		}
	}
	for id, live := range fresh {
		if live == g.hubs.id(id) {
			continue
		}
		g.hubs.put(live)
		defer g.feed.observer.Changed(Change{Kind: HubChanged, Hub: id})
	}
	g.declared = make(map[HubID]struct{}, len(fresh))
	for id := range fresh {
		g.declared[id] = struct{}{}
	}
	return nil
}

// prepare claims a declared hub in the store and compiles it. A hub that this
// process has claimed before needs no store: its settings can be changed in a
// file while the store is down. One that is declared as it was stays the one that
// it is, and with it all that was found out about its devices.
func (g *Gate) prepare(ctx context.Context, h Hub) (*liveHub, error) {
	if _, claimed := g.declared[h.ID]; claimed {
		if live := g.hubs.id(h.ID); live != nil && live.Name == h.Name && live.Declared == h.Declared {
			h.Version, h.Revocations, h.revoked = live.Version, live.Revocations, live.revoked
			if reflect.DeepEqual(*live.Hub, h) {
				return live, nil
			}
			return newCompiled(&h, live.learned, live.revoked)
		}
	}
	if err := g.store.ClaimHub(ctx, h); err != nil {
		return nil, fmt.Errorf("declare hub %s: %w", h.Name, err)
	}
	stored, err := g.store.Hub(ctx, h.ID)
	if err != nil && !errors.Is(err, ErrNotFound) { // of which a command that only explains knows none
		return nil, fmt.Errorf("declare hub %s: %w", h.Name, err)
	}
	learned, err := g.store.Learned(ctx, h.ID)
	if err != nil {
		return nil, fmt.Errorf("declare hub %s: %w", h.Name, err)
	}
	h.Version, h.Revocations = stored.Version, stored.Revocations
	revoked, err := g.readRevoked(ctx, &h, g.hubs.id(h.ID))
	if err != nil {
		return nil, err
	}
	return newCompiled(&h, learned, revoked)
}

// Hubs returns all hubs with the settings that are in force, by name.
func (g *Gate) Hubs() []Hub {
	live := g.hubs.all()
	hubs := make([]Hub, len(live))
	for i, h := range live {
		hubs[i] = *h.Hub
	}
	return hubs
}

// Attended returns the hubs that need more than checks, in no order: those that
// are being deleted, and those that have CRLs or sources of them. Unlike Hubs it
// takes no time for all the others, and so can be asked every second.
func (g *Gate) Attended() []Hub { return g.hubs.attendedHubs() }

// HubCount is how many hubs there are.
func (g *Gate) HubCount() int { return g.hubs.count() }

// Hub returns the hub of that ID or name.
func (g *Gate) Hub(idOrName string) (Hub, bool) {
	h := g.hubs.find(idOrName)
	if h == nil {
		return Hub{}, false
	}
	return *h.Hub, true
}

// Refresh puts in force here, at once, what the store has of a hub: whoever
// changed it need not wait for the change feed.
func (g *Gate) Refresh(ctx context.Context, id HubID) error {
	_, err := g.reload(ctx, id)
	return err
}
