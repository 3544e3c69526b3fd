package fleet

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

const (
	// proposalLife is how long a proposal stands before others take it that
	// whoever made it is gone. What they do then is safe either way.
	proposalLife = 30 * time.Second
	// proposalPatience is how long a change of trust waits for another one of
	// the same hub.
	proposalPatience = 3 * time.Second
	proposalPause    = 50 * time.Millisecond
	// withdrawTimeout bounds the withdrawal of a proposal that was refused.
	withdrawTimeout = 5 * time.Second
)

var errBusy = errors.New("another change of the hub's trust is under way")

// changeTrust is Store.UpdateHub for a change that adds to what a hub trusts or
// how it is found. It refuses what does not go with the other hubs, whatever
// they are changed to meanwhile:
//
//	propose ──▶ compare with all hubs, as they are and as they propose to be ──▶ apply, if the proposal still stands
//	                 └──refused──▶ withdraw
//
// Hubs live in partitions of their own, so no step of a store sees two of them.
// But proposals are in the store before their makers look at the other hubs: of
// two that do not go together, the one that was made later is seen to clash with
// the earlier one, or with what became of it. (Perhaps each sees the other, and
// both are refused.) A process that died leaves a proposal. Whoever finds it in
// the way, and old, removes it first: its maker, should it only have been slow,
// finds it gone and does not apply it.
//
// Declared hubs propose nothing, as they are in no store: they count as they are
// declared to this process, and provision.Gate.Declare compares them with the
// stored ones. A link between two CAs that neither hub was given is not seen. A
// chain that verifies on two hubs all the same is refused as hub_ambiguous.
func (f *Fleet) changeTrust(ctx context.Context, p access.Principal, id provision.HubID, edit func(*provision.Hub) error, event func(provision.Hub) provision.Event) (provision.Hub, error) {
	mine := provision.Proposal{ID: uuid.New()}
	proposed, err := f.propose(ctx, id, &mine, edit)
	if err != nil {
		return provision.Hub{}, err
	}
	if err := f.compare(ctx, p, proposed); err != nil {
		f.withdraw(ctx, id, mine.ID)
		return provision.Hub{}, err
	}
	h, err := f.store.UpdateHub(ctx, id,
		func(h *provision.Hub) error {
			if h.Proposal == nil || h.Proposal.ID != mine.ID {
				return fmt.Errorf("%w: it took too long", provision.ErrHubChanged)
			}
			h.Proposal = nil
			return edit(h)
		}, event)
	if err != nil {
		f.withdraw(ctx, id, mine.ID)
		return provision.Hub{}, err
	}
	return h, nil
}

// silent is for a change that no event tells of.
func silent(provision.Hub) provision.Event { return provision.Event{} }

// propose writes the proposal, and returns the hub as it would be.
func (f *Fleet) propose(ctx context.Context, id provision.HubID, mine *provision.Proposal, edit func(*provision.Hub) error) (after provision.Hub, err error) {
	until := time.Now().Add(proposalPatience)
	for {
		mine.At = f.now()
		_, err = f.store.UpdateHub(ctx, id,
			func(h *provision.Hub) error {
				if h.Proposal != nil && mine.At.Sub(h.Proposal.At) < proposalLife {
					return errBusy
				}
				after = *h
				if err := edit(&after); err != nil {
					return err
				}
				mine.Anchors, mine.Intermediates, mine.SNIOnly = after.Anchors, after.Intermediates, after.SNIOnly
				mine.Admission = after.Policy.Admission
				h.Proposal = mine
				return nil
			}, silent)
		if !errors.Is(err, errBusy) {
			return after, err
		}
		if time.Now().After(until) {
			return after, conflict(Conflict, "another change of what the hub trusts is under way: try again")
		}
		select {
		case <-ctx.Done():
			return after, ctx.Err()
		case <-time.After(proposalPause):
		}
	}
}

// withdraw removes the proposal, if it still stands. If that fails it gets old.
func (f *Fleet) withdraw(ctx context.Context, hub provision.HubID, proposal uuid.UUID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	_, err := f.store.UpdateHub(ctx, hub, func(h *provision.Hub) error {
		if h.Proposal == nil || h.Proposal.ID != proposal {
			return errUnchanged
		}
		h.Proposal = nil
		return nil
	}, silent)
	if err != nil && !errors.Is(err, errUnchanged) && !errors.Is(err, provision.ErrNotFound) {
		f.log.WarnContext(ctx, "withdrawing a change of a hub's trust failed; it expires", "hub_id", hub.String(), "error", err)
	}
}

// compare checks the hub, as it would be, against all others as they are and
// as they propose to be.
func (f *Fleet) compare(ctx context.Context, p access.Principal, after provision.Hub) error {
	others, err := f.otherHubs(ctx, after.ID)
	if err != nil {
		return err
	}
	for {
		seen := make([]provision.Hub, len(others))
		for i, o := range others {
			seen[i] = withProposal(o)
		}
		wrong := provision.CheckTrust(after, seen)
		if wrong == nil {
			return nil
		}
		// Perhaps it only clashes with what was proposed long ago.
		old := slices.IndexFunc(others, func(h provision.Hub) bool {
			return h.Proposal != nil && f.now().Sub(h.Proposal.At) >= proposalLife
		})
		if old < 0 {
			return refuseTrust(p, after, wrong)
		}
		f.withdraw(ctx, others[old].ID, others[old].Proposal.ID)
		if others[old], err = f.store.Hub(ctx, others[old].ID); errors.Is(err, provision.ErrNotFound) {
			others = slices.Delete(others, old, old+1)
		} else if err != nil {
			return err
		}
	}
}

// withProposal is a hub with all that it has and may be about to have: what
// widens its trust with what either has, what narrows it with what both have.
func withProposal(h provision.Hub) provision.Hub {
	if p := h.Proposal; p != nil {
		h.Anchors = slices.Concat(h.Anchors, p.Anchors)
		h.Intermediates = slices.Concat(h.Intermediates, p.Intermediates)
		h.SNIOnly = h.SNIOnly && p.SNIOnly
		h.Policy.Admission = slices.DeleteFunc(slices.Clone(h.Policy.Admission), func(r provision.AdmissionRule) bool {
			return !slices.Contains(p.Admission, r)
		})
	}
	return h
}

// refuseTrust says what is wrong, and which the other hub is only to whoever sees
// all hubs.
func refuseTrust(p access.Principal, h provision.Hub, wrong *provision.HubError) error {
	switch {
	case !errors.Is(wrong, provision.ErrRelated):
	case p.Project == uuid.Nil:
		return conflict(AnchorRelated, "%s", wrong)
	default:
		return conflict(AnchorRelated, "hub %s would trust a CA that another hub trusts, or one that issued it or was issued by it: a device of one could enter the other, unless both have sni_only and an admission rule for it", h.Name)
	}
	return conflict(TooMany, "%s", wrong)
}

// otherHubs reads all hubs but one, from the store or as they are declared.
func (f *Fleet) otherHubs(ctx context.Context, but provision.HubID) ([]provision.Hub, error) {
	var others []provision.Hub
	for _, h := range f.gate.Hubs() {
		if h.Declared != "" && h.ID != but {
			others = append(others, h)
		}
	}
	var mu sync.Mutex
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(counters)
	for partition := range f.store.Partitions() {
		group.Go(func() error {
			hubs, err := f.store.Hubs(reading, partition)
			if err != nil {
				return fmt.Errorf("compare with other hubs: %w", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, h := range hubs {
				if h.Declared == "" && h.ID != but {
					others = append(others, *h.Hub)
				}
			}
			return nil
		})
	}
	return others, group.Wait()
}

// bundleOf compiles what a hub trusts.
func bundleOf(h provision.Hub) (*trust.Bundle, error) {
	var parsed [2][]*x509.Certificate
	for i, ders := range [][][]byte{h.Anchors, h.Intermediates} {
		for _, der := range ders {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("hub %s: %w", h.Name, err)
			}
			parsed[i] = append(parsed[i], c)
		}
	}
	bundle, err := trust.NewBundle(parsed[0], parsed[1])
	if err != nil {
		return nil, fmt.Errorf("hub %s: %w", h.Name, err)
	}
	return bundle, nil
}
