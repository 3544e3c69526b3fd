package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/hubgate/hubgate/trust"
)

const (
	// refusalKept is how long a refusal is recognised. It is short because a
	// chain may become acceptable.
	refusalKept = 30 * time.Second
	// acceptanceUnit and refusalUnit are the DER that counts as one entry: a
	// leaf may have 60 KiB, and one device gets an entry for each authority.
	acceptanceUnit = 4 << 10
	refusalUnit    = 1 << 10
)

// recognition remembers what checks have found out about certificates: which
// hub they belong to, and whether they verify. A connection whose evidence was
// seen before needs no decoding, no search and no signature.
//
// What makes it safe: an acceptance is found by all that Envoy attests – the
// leaf, whose key it saw used, and the chain's fingerprints – together with the
// names that chose the hub. What a device presents can only help to find a path,
// so a path that was found holds whatever is presented with the same leaf. It
// counts while the hub is the very one it was found with (a change of the hub,
// its anchors or intermediates makes another), while the directory is
// unchanged if other hubs could have had a claim, and while every certificate of
// the path is valid. A refusal is found by what was presented too, and is kept
// for a short time. What depends on the device, or on the store, is never kept
// here.
type recognition struct {
	accepted *otter.Cache[Digest, *recognized]
	refused  *otter.Cache[Digest, *recognized]
}

// recognized is what was found.
type recognized struct {
	facts Facts // what gathering fills in; of Connection only the certificates
	hub   *liveHub
	// directory is the generation of the directory, if other hubs mattered.
	directory uint64
	until     time.Time // of a refusal
}

func newRecognition(accepted, refused int) (*recognition, error) {
	a, err := otter.New(&otter.Options[Digest, *recognized]{
		MaximumWeight: uint64(accepted),
		Weigher: func(_ Digest, r *recognized) uint32 {
			size := 0
			certs := r.facts.Path.Certificates()
			for _, c := range certs[:len(certs)-1] { // the bundle keeps the anchor
				size += len(c.Raw)
			}
			return uint32(1 + size/acceptanceUnit)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("recognised devices: %w", err)
	}
	r, err := otter.New(&otter.Options[Digest, *recognized]{
		MaximumWeight: uint64(refused),
		Weigher: func(_ Digest, r *recognized) uint32 {
			size := len(r.facts.Connection.Leaf)
			var failure *trust.Error
			for _, err := range []error{r.facts.PathErr, r.facts.ChainErr} {
				if errors.As(err, &failure) && failure.Certificate != nil {
					size += len(failure.Certificate.Raw)
				}
			}
			return uint32(1 + size/refusalUnit)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("recognised refusals: %w", err)
	}
	return &recognition{accepted: a, refused: r}, nil
}

// recognize fills in the facts if the evidence was seen before, and tells
// whether it did. Else the keys are those to remember the facts by.
func (g *Gate) recognize(ctx context.Context, f *Facts) (h *liveHub, keys [2]Digest, ok bool) {
	e := f.Connection.Evidence
	if e == nil || f.Connection.DryRun { // which explains with the chain at hand
		return nil, keys, false
	}
	if keys[0] = e.Identity(); keys[0] == (Digest{}) {
		return nil, keys, false
	}
	if r, found := g.seen.accepted.GetIfPresent(keys[0]); found && r.facts.Path.ValidAt(f.Now) && g.stands(ctx, r, f) {
		return r.hub, keys, true
	}
	keys[1] = e.Presented(keys[0])
	if r, found := g.seen.refused.GetIfPresent(keys[1]); found && f.Now.Before(r.until) && g.stands(ctx, r, f) {
		return r.hub, keys, true
	}
	return nil, keys, false
}

// stands fills in the facts from what was found, if it still holds.
func (g *Gate) stands(ctx context.Context, r *recognized, f *Facts) bool {
	if r.directory != 0 && r.directory != g.hubs.generation.Load() {
		return false
	}
	if r.hub == nil { // which means nothing while hubs may be missing
		if g.Ready() != nil {
			return false
		}
	} else if current, err := g.readThrough(ctx, r.hub, f.Now); err != nil || current != r.hub {
		return false
	}
	c := &f.Connection
	c.Leaf, c.Attested = r.facts.Connection.Leaf, r.facts.Connection.Attested
	f.ChainErr, f.Path, f.PathErr, f.Identity = r.facts.ChainErr, r.facts.Path, r.facts.PathErr, r.facts.Identity
	f.HubFrom, f.NoHub = r.facts.HubFrom, r.facts.NoHub
	f.AuthorityHub, f.AuthorityUnknown = r.facts.AuthorityHub, r.facts.AuthorityUnknown
	g.metrics.recognized.Inc()
	return true
}

// remember keeps what was found, unless it depends on more than the evidence,
// the hubs and the time.
func (g *Gate) remember(keys [2]Digest, f *Facts, h *liveHub, generation uint64) {
	if keys[0] == (Digest{}) || f.Connection.Problem != nil || len(f.Connection.Leaf) == 0 {
		return
	}
	r := &recognized{hub: h, facts: *f}
	r.facts.Connection = Connection{Leaf: f.Connection.Leaf, Attested: f.Connection.Attested}
	r.facts.Chain, r.facts.Hub, r.facts.NameIsHub = nil, nil, nil
	alone := h != nil && f.HubFrom != "issuer" && !f.AuthorityUnknown && (f.AuthorityHub == nil || *f.AuthorityHub == h.ID)
	if !alone {
		r.directory = generation
	}
	if h != nil && f.PathErr == nil && f.ChainErr == nil {
		r.facts.Identity = identify(f.Path, &h.Hub)
		r.facts.Connection.Leaf = f.Path.Leaf().Raw // which the verdict keeps anyway
		g.seen.accepted.Set(keys[0], r)
		return
	}
	if refusalHolds(f) {
		r.until = f.Now.Add(refusalKept)
		g.seen.refused.Set(keys[1], r)
	}
}

// refusalHolds tells whether a refusal is one of the certificates, and will be
// the same in a moment: no fault of ours, not cut short by a budget, and none
// that time mends.
func refusalHolds(f *Facts) bool {
	if f.NoHub.Reason != "" && f.NoHub.Reason.Outcome() != Deny {
		return false
	}
	for _, err := range []error{f.PathErr, f.ChainErr} {
		var failure *trust.Error
		if err != nil && (!errors.As(err, &failure) || failure.Exhausted() || failure.Fault == trust.NotYetValid) {
			return false
		}
	}
	return true
}
