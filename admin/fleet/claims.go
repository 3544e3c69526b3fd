package fleet

import (
	"context"
	"errors"
	"log/slog"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// Claims are a page of a hub's claim list.
type Claims struct {
	Claims []provision.Claim
	Next   string // cursor of the next page, "" at the end
	Total  int    // names on the list
}

// Claims lists the claim list of a hub.
func (f *Fleet) Claims(ctx context.Context, p access.Principal, hub, cursor string, limit int) (Claims, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return Claims{}, err
	}
	var list Claims
	if list.Claims, list.Next, err = f.store.ListClaims(ctx, h.ID, cursor, limit); err != nil {
		return Claims{}, named(h, err)
	}
	list.Total, err = f.store.CountClaims(ctx, h.ID)
	return list, err
}

// ClaimImport is one import of names into a hub's claim list. It is for one
// goroutine. Importing the same again changes nothing.
type ClaimImport struct {
	// Counts are those of the names so far: Created are new on the list.
	Counts ImportCounts
	fleet  *Fleet
	act    *act
	hub    provision.Hub
}

// ImportClaims begins an import of claims. It takes an Operator. The caller has
// to call End.
func (f *Fleet) ImportClaims(ctx context.Context, p access.Principal, hub string) (_ *ClaimImport, err error) {
	a := f.act(p, provision.ClaimsAdded)
	defer func() {
		if err != nil {
			a.end(ctx, &err)
		}
	}()
	h, err := f.hubOfClaims(ctx, p, hub, a)
	if err != nil {
		return nil, err
	}
	return &ClaimImport{fleet: f, act: a, hub: h}, nil
}

// hubOfClaims finds a hub for an act that takes an Operator.
func (f *Fleet) hubOfClaims(ctx context.Context, p access.Principal, hub string, a *act) (provision.Hub, error) {
	h, err := f.findFor(ctx, p, hub, a)
	if err != nil {
		return h, err
	}
	return h, p.Need(access.Operator)
}

// Hub is the hub whose claims are imported.
func (i *ClaimImport) Hub() provision.Hub { return i.hub }

// Put puts names on the list. What became of each is in the results: a *Refusal
// is the name's fault, and the others are put all the same.
func (i *ClaimImport) Put(ctx context.Context, names []string) ([]provision.PutResult, error) {
	results := make([]provision.PutResult, len(names))
	fit := make([]string, 0, len(names))
	for n, name := range names {
		if err := provision.CheckDeviceName(name, i.hub.UnicodeNames); err != nil {
			results[n].Err = invalid("name", "name: %s", err)
			i.Counts.Refused++
			continue
		}
		results[n].Outcome = provision.PutUnchanged
		fit = append(fit, name)
	}
	added, err := i.fleet.store.PutClaims(ctx, i.hub.ID, fit)
	if errors.Is(err, provision.ErrTooManyClaims) {
		return nil, conflict(Conflict, "hub %s: a claim list holds at most %d names: remove those that are not needed", i.hub.Name, provision.MaxClaims)
	}
	if err != nil {
		return nil, named(i.hub, err)
	}
	i.Counts.Created += added
	i.Counts.Unchanged += len(fit) - added
	return results, nil
}

// End ends the import, whole or cut short by the error: a hub event tells how
// many names are new. It returns the error, or why the event could not be stored.
func (i *ClaimImport) End(ctx context.Context, err error) error {
	c := i.Counts
	i.act.object = append(i.act.object, slog.Int("added", c.Created), slog.Int("unchanged", c.Unchanged), slog.Int("refused", c.Refused))
	err = errors.Join(err, i.fleet.tellOfClaims(ctx, i.hub, provision.ClaimsAdded, c.Created))
	i.act.end(ctx, &err)
	return err
}

// tellOfClaims appends the event of an act on some claims.
func (f *Fleet) tellOfClaims(ctx context.Context, h provision.Hub, what provision.Act, count int) error {
	if count == 0 {
		return nil
	}
	event := what.OnHub(h, f.now())
	event.Count = count
	return f.store.AppendEvents(ctx, h.ID.Partition(f.store.Partitions()), []provision.Event{event})
}

// RemoveClaims takes names off a hub's claim list, in one step, and returns how
// many were on it. It takes an Operator.
func (f *Fleet) RemoveClaims(ctx context.Context, p access.Principal, hub string, names []string) (removed int, err error) {
	a := f.act(p, provision.ClaimsRemoved)
	defer a.end(ctx, &err)
	h, err := f.hubOfClaims(ctx, p, hub, a)
	if err != nil {
		return 0, err
	}
	if removed, err = f.store.RemoveClaims(ctx, h.ID, names); err != nil {
		return 0, named(h, err)
	}
	a.object = append(a.object, slog.Int("removed", removed))
	return removed, f.tellOfClaims(ctx, h, provision.ClaimsRemoved, removed)
}

// ClearClaims takes all names off a hub's claim list. It takes an Operator.
func (f *Fleet) ClearClaims(ctx context.Context, p access.Principal, hub string) (err error) {
	a := f.act(p, provision.ClaimsRemoved)
	defer a.end(ctx, &err)
	h, err := f.hubOfClaims(ctx, p, hub, a)
	if err != nil {
		return err
	}
	n, err := f.store.CountClaims(ctx, h.ID)
	if err != nil {
		return named(h, err)
	}
	if n == 0 {
		return errUnchanged
	}
	if err := f.store.ClearClaims(ctx, h.ID); err != nil {
		return named(h, err)
	}
	return f.tellOfClaims(ctx, h, provision.ClaimsRemoved, n)
}
