package provision

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hubgate/hubgate/trust"
)

// liveHub is a hub as checks use it: immutable, replaced as a whole. What it
// trusts is compiled when a check first needs it, as to parse the certificates of
// all hubs is most of what a start would take.
type liveHub struct {
	*Hub
	slot    uint16 // of its ID, which takes a hash to compute
	rules   *Rules
	learned [][]byte
	// knew: the hub knew the last device that the Gate did not have in memory.
	knew atomic.Bool
	// asking counts its first connections that wait for hooks.
	asking atomic.Int32
	places []place // where it is found by issuer; the directory's

	compiling sync.Mutex // serializes it
	compiled  atomic.Pointer[trusted]
}

// trusted is what a hub trusts, less what of that is revoked.
type trusted struct {
	*trust.Bundle
	// uploaded are the intermediates that somebody vouches for, as
	// opposed to those that a device brought.
	uploaded map[trust.Fingerprint]struct{}
}

// newLiveHub compiles a hub's rules, not yet what it trusts. It takes the hub.
func newLiveHub(h *Hub, learned [][]byte, revoked *revoked) (*liveHub, error) {
	if err := CheckPolicy(h.Policy); err != nil {
		return nil, fmt.Errorf("hub %s: %w", h.Name, err)
	}
	h.revoked = revoked
	rules, err := NewRules(*h)
	if err != nil {
		return nil, fmt.Errorf("hub %s: %w", h.Name, err)
	}
	return &liveHub{Hub: h, slot: h.ID.slot(), rules: rules, learned: learned}, nil
}

// newCompiled is newLiveHub for a hub that is used at once.
func newCompiled(h *Hub, learned [][]byte, revoked *revoked) (*liveHub, error) {
	live, err := newLiveHub(h, learned, revoked)
	if err != nil {
		return nil, err
	}
	t, err := live.compile()
	if err != nil {
		return nil, err
	}
	live.compiled.Store(t)
	return live, nil
}

// trusted is what the hub trusts; nil until that is compiled. Of a hub that a
// check has found it is.
func (h *liveHub) trusted() *trusted { return h.compiled.Load() }

func (h *liveHub) compile() (*trusted, error) {
	anchors, err := parseAll(h.Anchors)
	if err != nil {
		return nil, fmt.Errorf("hub %s: trust anchors: %w", h.Name, err)
	}
	uploaded, err := parseAll(h.Intermediates)
	if err != nil {
		return nil, fmt.Errorf("hub %s: intermediates: %w", h.Name, err)
	}
	t := &trusted{uploaded: make(map[trust.Fingerprint]struct{})}
	for _, c := range uploaded {
		t.uploaded[trust.FingerprintOf(c)] = struct{}{}
	}
	for _, der := range h.learned {
		// Another version of hubgate may have been able to read it.
		if c, err := x509.ParseCertificate(der); err == nil {
			uploaded = append(uploaded, c)
		}
	}
	if t.Bundle, err = trust.NewBundle(anchors, uploaded); err != nil {
		return nil, fmt.Errorf("hub %s: %w", h.Name, err)
	}
	if h.revoked != nil {
		t.Bundle = t.Without(h.revoked.ids)
	}
	return t, nil
}

// claim is how good a hub's claim to a chain is that nothing but the chain's
// issuer ties to it.
type claim uint8

// The claims, from the worst to the best.
const (
	noClaim claim = iota
	refused       // the chain is signed under the hub's anchors, and not valid there; perhaps by what it has learned
	vouched       // the path needs an intermediate that was uploaded or declared
	sent          // the device sent every intermediate of the path itself
)

// claimTo judges a verified path. What a hub has learned gives it no claim: its
// owner could make it learn a certificate that he issued for another vendor's
// line, and take that line's devices over.
func (h *liveHub) claimTo(path trust.Path, c *Connection) claim {
	best := sent
	for _, cert := range path.Intermediates() {
		print := trust.FingerprintOf(cert)
		if slices.Contains(c.Attested, print) ||
			slices.ContainsFunc(c.Presented, func(der []byte) bool { return bytes.Equal(der, cert.Raw) }) {
			continue
		}
		if _, ok := h.trusted().uploaded[print]; !ok {
			return noClaim
		}
		best = vouched
	}
	return best
}

// unknown returns the path's intermediates that the hub does not know.
func (h *liveHub) unknown(path trust.Path) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(path.Intermediates()), func(c *x509.Certificate) bool {
		return h.trusted().Knows(trust.FingerprintOf(c))
	})
}

func parseAll(ders [][]byte) ([]*x509.Certificate, error) {
	certs := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
		certs[i] = c
	}
	return certs, nil
}
