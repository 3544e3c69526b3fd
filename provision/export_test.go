package provision

import (
	"context"
	"time"
)

// WarnOfExpiry is a round of a process of its own.
func WarnOfExpiry(ctx context.Context, g *Gate, store Warnings) error {
	return (&expiry{gate: g, store: store, owner: newID()}).warn(ctx, g.now())
}

// KeepBusy has a Gate find that known devices keep its processors busy, and that a
// chain takes so long.
func KeepBusy(g *Gate, chain time.Duration) {
	g.courtesy.scarce.Store(true)
	g.courtesy.cost.Store(int64(chain))
}
