package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// revoked is what a hub's revocations come to in a check. It is immutable; nil
// where nothing is revoked and there is no CRL.
type revoked struct {
	ids     *trust.Revocations
	lists   map[trust.KeyHash]listed
	sources map[string]struct{} // that a list in force came from
}

// listed is what one issuer's CRL says.
type listed struct {
	digest trust.Fingerprint
	name   string
	due    time.Time // when the next list is
	ids    []trust.RevocationID
}

// isRevoked reports whether one of a chain's certificates or keys is revoked.
func (h *Hub) isRevoked(ids []trust.RevocationID) bool {
	return h.revoked != nil && h.revoked.ids.Any(ids)
}

// unlisted says why it is not known whether one of these issuers has revoked
// something: its CRL is overdue, or one of the hub's sources of CRLs, any of
// which may be this issuer's, has not given one yet. It is "" if all is known.
func (h *Hub) unlisted(issuers []trust.KeyHash, now time.Time) string {
	for _, issuer := range issuers {
		l, there := h.list(issuer)
		if there && now.After(l.due) {
			return fmt.Sprintf("a new CRL of %s was due at %s", l.name, l.due.Format(time.RFC3339))
		}
		if there {
			continue
		}
		for _, source := range h.CRLSources {
			if !h.hasListFrom(source) {
				return fmt.Sprintf("no CRL could be had from %s yet", source)
			}
		}
	}
	return ""
}

func (h *Hub) list(issuer trust.KeyHash) (listed, bool) {
	if h.revoked == nil {
		return listed{}, false
	}
	l, there := h.revoked.lists[issuer]
	return l, there
}

func (h *Hub) hasListFrom(source string) bool {
	if h.revoked == nil {
		return false
	}
	_, there := h.revoked.sources[source]
	return there
}

// List is what is known of an issuer's CRL in force.
type List struct {
	Issuer     trust.KeyHash
	Name       string
	Digest     trust.Fingerprint
	NextUpdate time.Time
}

// Lists are the CRLs in force on a hub of the Gate's, in no order.
func (h Hub) Lists() []List {
	if h.revoked == nil {
		return nil
	}
	var all []List
	for issuer, l := range h.revoked.lists {
		all = append(all, List{issuer, l.name, l.digest, l.due})
	}
	return all
}

// readRevoked reads what is revoked on a hub, unless what is in force on live, the
// hub as it is here, nil if it is not, is that already. Lists that are known are
// not read again.
func (g *Gate) readRevoked(ctx context.Context, h *Hub, live *liveHub) (*revoked, error) {
	var known *revoked
	if live != nil {
		if known = live.revoked; live.Revocations == h.Revocations {
			return known, nil
		}
	}
	if h.Revocations == 0 {
		return nil, nil
	}
	start := time.Now()
	r, err := g.compileRevoked(ctx, h.ID, known)
	g.metrics.observeStore("revocations", start, err)
	if err != nil {
		return nil, fmt.Errorf("hub %s: what is revoked: %w", h.Name, err)
	}
	return r, nil
}

func (g *Gate) compileRevoked(ctx context.Context, hub HubID, known *revoked) (*revoked, error) {
	stored, err := g.store.Revocations(ctx, hub)
	if err != nil {
		return nil, err
	}
	r := &revoked{lists: make(map[trust.KeyHash]listed), sources: make(map[string]struct{})}
	var byHand []trust.RevocationID
	for id := range stored.ByHand {
		byHand = append(byHand, id)
	}
	ids := [][]trust.RevocationID{byHand}
	for issuer, c := range stored.CRLs {
		l := listed{digest: c.Digest, name: c.Name, due: c.NextUpdate}
		if known != nil && known.lists[issuer].digest == c.Digest {
			l.ids = known.lists[issuer].ids
		} else if l.ids, err = g.readList(ctx, hub, issuer, c.Digest); err != nil {
			return nil, err
		}
		r.lists[issuer] = l
		ids = append(ids, l.ids)
		for _, source := range c.Sources {
			r.sources[source] = struct{}{}
		}
	}
	r.ids = trust.NewRevocations(ids...)
	return r, nil
}

// errListChanged: a newer list took the place of the one that was to be read.
var errListChanged = errors.New("a CRL has changed while it was read")

func (g *Gate) readList(ctx context.Context, hub HubID, issuer trust.KeyHash, digest trust.Fingerprint) ([]trust.RevocationID, error) {
	der, err := g.store.CRL(ctx, hub, issuer)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return nil, err
	case err != nil || trust.FingerprintOfDER(der) != digest:
		return nil, fmt.Errorf("issuer %s: %w", issuer, errListChanged)
	}
	c, err := trust.ReadCRL(der, issuer)
	if err != nil {
		return nil, fmt.Errorf("CRL of %s: %w", issuer, err)
	}
	return c.Revoked, nil
}
