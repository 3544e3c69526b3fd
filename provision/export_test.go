package provision

import "context"

// WarnOfExpiry is a round of a process of its own.
func WarnOfExpiry(ctx context.Context, g *Gate, store Warnings) error {
	return (&expiry{gate: g, store: store, owner: newID()}).warn(ctx, g.now())
}
