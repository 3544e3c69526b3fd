package provision

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/hubgate/hubgate/trust"
)

// findHub finds the connection's hub by hint, SNI or issuer, in that order, and
// verifies the chain against its anchors. It fills in the facts. Before the hubs
// are loaded, and on a store that is another one, not to find a hub means
// nothing.
func (g *Gate) findHub(ctx context.Context, c *Connection, f *Facts) *liveHub {
	h := g.searchHub(ctx, c, f)
	if h == nil && f.NoHub.Reason.Outcome() == Deny {
		if err := g.Ready(); err != nil {
			f.NoHub = Problem{StoreUnavailable, err.Error()}
		}
	}
	return h
}

func (g *Gate) searchHub(ctx context.Context, c *Connection, f *Facts) *liveHub {
	var h *liveHub
	switch label, ok := g.label(c.SNI); {
	case c.HubHint != "":
		if h = g.usableNamed(ctx, c.HubHint); h == nil {
			f.NoHub = Problem{HubUnknown, fmt.Sprintf("Envoy's configuration names hub %q, which does not exist", c.HubHint)}
			return nil
		}
		f.HubFrom = "hint"
	case ok:
		if h = g.usableNamed(ctx, label); h == nil {
			f.NoHub = Problem{HubUnknown, fmt.Sprintf("SNI %q names hub %q, which does not exist", c.SNI, label)}
			return nil
		}
		f.HubFrom = "SNI"
	default:
		if h = g.findByIssuer(ctx, f); h == nil {
			return nil
		}
		f.HubFrom = "issuer"
	}
	current, err := g.readThrough(ctx, h, f.Now)
	switch current = g.usable(ctx, current); {
	case err != nil:
		f.NoHub = Problem{StoreUnavailable, err.Error()}
		return nil
	case current == nil:
		f.NoHub = Problem{HubUnknown, fmt.Sprintf("hub %s was deleted, or cannot be used", h.Name)}
		return nil
	case current != h: // what was verified under the old anchors is void
		h, f.Path, f.PathErr = current, trust.Path{}, nil
	}
	g.checkAuthority(h, f)
	if f.Path.Leaf() == nil && f.PathErr == nil {
		f.Path, f.PathErr = g.verify(ctx, h, f, nil)
	}
	return h
}

// findByIssuer finds the one hub whose anchors signed the chain. Only
// signatures count: a look-alike CA never makes a hub ambiguous, and a chain
// that is signed but expired still tells its hub, if it is valid for no other: else
// whoever cross-signs a line, and revokes that, would make it ambiguous. Where
// several hubs have a path, the best claim counts: a hub of which the device sent
// the whole path beats one that brings an intermediate of its own.
func (g *Gate) findByIssuer(ctx context.Context, f *Facts) *liveHub {
	type signer struct {
		hub     *liveHub
		claim   claim
		path    trust.Path
		pathErr error
	}
	var (
		signed    []signer // those of the best claim
		refusal   error    // of a hub that did not sign
		budget    trust.Budget
		exhausted bool // the budget, before all were tried
		learned   bool // a hub has a path through what it has learned only
	)
	candidates := g.candidates(ctx, f)
	for _, h := range candidates {
		path, err := g.verify(ctx, h, f, &budget)
		found := signer{h, refused, path, err}
		if err == nil {
			found.claim = h.claimTo(path, &f.Connection)
		}
		var failure *trust.Error
		switch errors.As(err, &failure); {
		case err == nil && found.claim == noClaim:
			learned = true
		case err == nil, failure != nil && failure.Signed:
			if len(signed) > 0 && found.claim > signed[0].claim {
				signed = nil
			}
			if len(signed) == 0 || found.claim == signed[0].claim {
				signed = append(signed, found)
			}
		case failure == nil: // no verdict
			f.PathErr = err
			found := chainFinding(err, &Decision{})
			f.NoHub = Problem{found.reason, found.detail}
			return nil
		case failure.Exhausted():
			exhausted = true
		case refusal == nil || failure.Fault != trust.Untrusted: // what tells more
			refusal = err
		}
	}
	switch {
	case len(signed) == 1:
		f.Path, f.PathErr = signed[0].path, signed[0].pathErr
		return signed[0].hub
	case len(signed) > 1:
		f.NoHub = Problem{HubAmbiguous, fmt.Sprintf("hubs %s and %s both trust this chain", signed[0].hub.Name, signed[1].hub.Name)}
		return nil
	case learned:
		f.NoHub = Problem{ChainIncomplete, "the device sent its leaf alone, and a hub knows the issuer only from other devices: " +
			"let the device name its hub in SNI, or upload the intermediate to the hub"}
		return nil
	case exhausted || len(candidates) == maxCandidates:
		f.NoHub = Problem{HubAmbiguous, "too many hubs know a CA of the issuer's name to try them all"}
		return nil
	case len(candidates) == 0:
		_, refusal = noAnchors.Verify(f.Chain, trust.Options{Now: f.Now})
	}
	f.PathErr = refusal
	reason := HubUnknown
	var failure *trust.Error
	if errors.As(refusal, &failure) && failure.Fault != trust.Untrusted {
		reason = chainReasons[failure.Fault] // incomplete or unsupported
	}
	f.NoHub = Problem{reason, fmt.Sprintf("no hub trusts this chain: %v", refusal)}
	return nil
}

// candidates returns the hubs that may lead to the chain, all of them compiled.
func (g *Gate) candidates(ctx context.Context, f *Facts) []*liveHub {
	for {
		found, open := g.hubs.candidates(f.Chain, f.Connection.Attested)
		if len(open) == 0 {
			return found
		}
		for _, h := range open {
			g.usable(ctx, h)
		}
	}
}

// usableNamed returns the hub of that ID or name, compiled; nil if there is none
// that can be used.
func (g *Gate) usableNamed(ctx context.Context, idOrName string) *liveHub {
	return g.usable(ctx, g.hubs.find(idOrName))
}

// usable compiles what the hub trusts. It returns nil, and the hub is dropped,
// if that cannot be.
func (g *Gate) usable(ctx context.Context, h *liveHub) *liveHub {
	if h == nil || h.trusted() != nil {
		return h
	}
	h.compiling.Lock()
	defer h.compiling.Unlock()
	if h.trusted() != nil {
		return h
	}
	t, err := h.compile()
	if err != nil {
		g.reject(ctx, h, err)
		return nil
	}
	g.hubs.settle(h, t)
	return h
}

// reject drops a hub whose record this version cannot use.
func (g *Gate) reject(ctx context.Context, h *liveHub, err error) {
	if g.hubs.dropThis(h) {
		g.log.ErrorContext(ctx, "hub cannot be used", "hub", h.Name, "error", err)
	}
}

// noAnchors trusts nothing; it tells what a chain that no hub knows lacks.
var noAnchors, _ = trust.NewBundle(nil, nil)

func (g *Gate) verify(ctx context.Context, h *liveHub, f *Facts, budget *trust.Budget) (trust.Path, error) {
	path, result, err := g.verdicts.Verify(ctx, h.trusted().Bundle, f.Chain, trust.Options{
		Now: f.Now, Attested: f.Connection.Attested, Budget: budget,
	})
	g.metrics.verdicts.WithLabelValues(result.String()).Inc()
	return path, err
}

// checkAuthority notes which hub the HTTP authority names. It is the request's,
// not the connection's, so it is looked at each time.
func (g *Gate) checkAuthority(h *liveHub, f *Facts) {
	c := &f.Connection
	switch {
	case c.Protocol != HTTP || c.Authority == "":
		return
	case f.HubFrom == "SNI" && c.Authority == c.SNI: // as nearly always
		f.AuthorityHub = &h.ID
		return
	}
	host := c.Authority
	if strings.Contains(host, ":") { // else the error costs more than the rest
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	label, ok := g.label(host)
	if !ok {
		return
	}
	named := g.hubs.find(label)
	if named == nil {
		f.AuthorityUnknown = true
		return
	}
	f.AuthorityHub = &named.ID
}

// label returns what stands before the domain in a host name, and whether the
// name is under the domain at all. It may have dots in it: then it names no
// hub, and no other way of finding one applies either.
func (g *Gate) label(host string) (string, bool) {
	if g.domain == "" {
		return "", false
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	label, ok := strings.CutSuffix(host, "."+g.domain)
	return label, ok
}

func (g *Gate) isHub(name string) bool {
	if len(name) != 36 { // nearly every device's; the error below costs more
		return false
	}
	id, err := ParseHubID(strings.ToLower(name))
	return err == nil && g.hubs.id(id) != nil
}
