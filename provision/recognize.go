package provision

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/hubgate/hubgate/trust"
)

const (
	// refusalKept is how long a refusal is recognised. It is short because a
	// chain may become acceptable.
	refusalKept = 30 * time.Second
	// acceptanceUnit and refusalUnit are the certificates that count as one
	// entry: a leaf may have 60 KiB.
	acceptanceUnit = 4 << 10
	refusalUnit    = 1 << 10
)

// recognition remembers what checks have found out about certificates: which
// hub they belong to, and whether they verify. A connection whose evidence was
// seen before needs no decoding, no search and no signature.
//
// What makes it safe: an acceptance is found by all that Envoy attests – the
// leaf, whose key it saw used, and the chain's fingerprints – together with the
// names that chose the hub, and each byte of it is compared: the hash only
// finds it. What a device presents can only help to find a path,
// so a path that was found holds whatever is presented with the same leaf. It
// counts while the hub is the very one it was found with (a change of the hub,
// its anchors or intermediates makes another), while the directory is
// unchanged if other hubs could have had a claim, and while every certificate of
// the path is valid. A refusal is found by what was presented too, and is kept
// for a short time; of what was presented the hash is enough, as whoever made two
// chains of one leaf with the same hash could only have himself refused. What
// depends on the device, on the store, or on the HTTP request, is never kept
// here. A refusal of the chain alone may still be of a device that gets in with a
// custom certificate: its key is attested, and the device is looked up each time.
type recognition struct {
	seed     maphash.Seed // secret, so that nobody can choose what displaces what
	accepted *otter.Cache[uint64, *recognized]
	refused  *otter.Cache[uint64, *recognized]
}

// testimony is what a check is recognised by.
type testimony struct {
	// leaf and prints are what Envoy attests, in its own words.
	leaf, prints string
	// hint and label are what names the hub; named is whether label does.
	hint, label string
	named       bool
}

// mark is what the outcome of a check is remembered by.
type mark struct {
	told              testimony
	accepted, refused uint64 // the hashes
}

// recognized is what was found.
type recognized struct {
	told  testimony
	facts Facts // what gathering fills in; of Connection only the certificates
	hub   *liveHub
	// directory is the generation of the directory, if other hubs mattered.
	directory uint64
	// owned is set of a device that its custom certificate let in; mark is what it
	// is kept by.
	owned bool
	mark  *mark
	// from and until are when it holds.
	from, until time.Time
}

func newRecognition(accepted, refused int) (*recognition, error) {
	a, err := otter.New(&otter.Options[uint64, *recognized]{
		MaximumWeight: uint64(accepted),
		Weigher: func(_ uint64, r *recognized) uint32 {
			size := len(r.told.leaf)
			certs := r.facts.Path.Certificates()             // none of a custom certificate
			for _, c := range certs[:max(0, len(certs)-1)] { // the bundle keeps the anchor
				size += len(c.Raw)
			}
			return uint32(1 + size/acceptanceUnit)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("recognised devices: %w", err)
	}
	r, err := otter.New(&otter.Options[uint64, *recognized]{
		MaximumWeight: uint64(refused),
		Weigher: func(_ uint64, r *recognized) uint32 {
			size := len(r.told.leaf) + len(r.facts.Connection.Leaf)
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
	return &recognition{seed: maphash.MakeSeed(), accepted: a, refused: r}, nil
}

// testimony returns what the evidence says, in memory that is the edge's.
func (g *Gate) testimony(c *Connection) testimony {
	leaf, prints := c.Evidence.Attested()
	t := testimony{leaf: leaf, prints: prints, hint: c.HubHint}
	if t.hint == "" {
		t.label, t.named = g.label(c.SNI)
	}
	return t
}

// own returns a copy that outlives the check.
func (t testimony) own() testimony {
	t.leaf, t.prints = strings.Clone(t.leaf), strings.Clone(t.prints)
	t.hint, t.label = strings.Clone(t.hint), strings.Clone(t.label)
	return t
}

// recognize fills in the facts if the evidence was seen before, and tells
// whether it did. Else the mark, nil if there is none, is what to remember the
// facts by.
func (g *Gate) recognize(ctx context.Context, f *Facts) (r *recognized, m *mark) {
	e := f.Connection.Evidence
	if e == nil || f.Connection.DryRun { // which explains with the chain at hand
		return nil, nil
	}
	told := g.testimony(&f.Connection)
	if told.leaf == "" || told.prints == "" {
		return nil, nil
	}
	var hash maphash.Hash
	hash.SetSeed(g.seen.seed)
	for _, s := range [...]string{told.leaf, told.prints, told.hint, told.label} {
		_, _ = hash.WriteString(s)
	}
	accepted := hash.Sum64()
	if r, ok := g.seen.accepted.GetIfPresent(accepted); ok && g.stands(ctx, r, told, f) {
		return r, nil
	}
	for _, s := range e.Presented() {
		_, _ = hash.WriteString(s)
		_ = hash.WriteByte(0)
	}
	refused := hash.Sum64()
	if r, ok := g.seen.refused.GetIfPresent(refused); ok && g.stands(ctx, r, told, f) {
		return r, nil
	}
	return nil, &mark{told, accepted, refused}
}

// stands fills in the facts from what was found, if it is about this evidence
// and still holds.
func (g *Gate) stands(ctx context.Context, r *recognized, told testimony, f *Facts) bool {
	if r.told != told || f.Now.Before(r.from) || f.Now.After(r.until) {
		return false
	}
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
	f.HubFrom, f.NoHub, f.learned = r.facts.HubFrom, r.facts.NoHub, r.facts.learned
	if r.hub != nil {
		g.checkAuthority(r.hub, f)
	}
	if f.Path.Leaf() != nil {
		g.courtesy.known.Add(1)
	}
	g.metrics.recognized.Inc()
	return true
}

// remember keeps what was found, unless it depends on more than the evidence,
// the hubs and the time. It returns what it keeps, if that may become a device's.
func (g *Gate) remember(m *mark, f *Facts, h *liveHub, generation uint64) *recognized {
	if m == nil || f.Connection.Problem != nil || len(f.Connection.Leaf) == 0 {
		return nil
	}
	r := &recognized{told: m.told.own(), hub: h, facts: *f}
	r.facts.Connection = Connection{Leaf: f.Connection.Leaf, Attested: f.Connection.Attested}
	r.facts.Chain, r.facts.Hub, r.facts.NameIsHub, r.facts.AuthorityHub = nil, nil, nil, nil
	if h == nil || f.HubFrom == "issuer" {
		r.directory = generation
	}
	if h != nil && f.PathErr == nil && f.ChainErr == nil {
		r.facts.Identity = identify(f.Path, h.Hub)
		r.facts.Connection.Leaf = f.Path.Leaf().Raw // which the verdict keeps anyway
		r.from, r.until = f.Path.Valid()
		r.facts.learned = len(h.unknown(f.Path)) == 0
		g.seen.accepted.Set(m.accepted, r)
		return nil
	}
	if refusalHolds(f) {
		r.until = f.Now.Add(refusalKept)
		if f.alone() && f.Identity.Expires.Before(r.until) {
			r.until = f.Identity.Expires
		}
		g.seen.refused.Set(m.refused, r)
		if f.alone() {
			return &recognized{told: r.told, facts: r.facts, hub: h, owned: true, mark: m, until: f.Identity.Expires}
		}
	}
	return nil
}

// own keeps, as long as that of any device, what was found of one that its custom
// certificate let in. The device is looked up each time: what is recognised are
// its certificates, not its right to them.
func (r *recognition) own(f *Facts) {
	if f.stranger && f.remembered != nil {
		r.accepted.Set(f.remembered.mark.accepted, f.remembered)
	}
}

// disown forgets it once the device is refused.
func (r *recognition) disown(f *Facts) {
	if !f.stranger && f.remembered != nil {
		r.accepted.Invalidate(f.remembered.mark.accepted)
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
