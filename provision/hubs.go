package provision

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hubgate/hubgate/trust"
)

// maxSameSubject bounds the trust anchors of one subject that are searched by
// issuer. A fifth is refused at installation, so that look-alike CAs cannot
// crowd out the real one; its hub has to be reached by SNI.
const maxSameSubject = 4

// maxCandidates bounds the hubs that one chain is tried on. The signature
// budget is shared among them.
const maxCandidates = 16

// liveHub is a hub as checks use it: immutable, replaced as a whole.
type liveHub struct {
	Hub
	slot    uint16 // of its ID, which takes a hash to compute
	bundle  *trust.Bundle
	rules   *Rules
	learned [][]byte
	// uploaded are the intermediates that the hub's owner vouches for, as
	// opposed to those that a device brought.
	uploaded map[trust.Fingerprint]struct{}
	// knew: the hub knew the last device that the Gate did not have in memory.
	knew atomic.Bool
}

// newLiveHub compiles a hub's trust, what of that is revoked, and its rules.
func newLiveHub(h Hub, learned [][]byte, revoked *revoked) (*liveHub, error) {
	if err := CheckPolicy(h.Policy); err != nil {
		return nil, fmt.Errorf("hub %s: %w", h.Name, err)
	}
	h.revoked = revoked
	anchors, err := parseAll(h.Anchors)
	if err != nil {
		return nil, fmt.Errorf("hub %s: trust anchors: %w", h.Name, err)
	}
	uploaded, err := parseAll(h.Intermediates)
	if err != nil {
		return nil, fmt.Errorf("hub %s: intermediates: %w", h.Name, err)
	}
	rules, err := NewRules(h)
	if err != nil {
		return nil, fmt.Errorf("hub %s: %w", h.Name, err)
	}
	live := &liveHub{Hub: h, slot: h.ID.slot(), rules: rules, learned: learned, uploaded: make(map[trust.Fingerprint]struct{})}
	for _, c := range uploaded {
		live.uploaded[trust.FingerprintOf(c)] = struct{}{}
	}
	for _, der := range learned {
		// Another version of hubgate may have been able to read it.
		if c, err := x509.ParseCertificate(der); err == nil {
			uploaded = append(uploaded, c)
		}
	}
	if live.bundle, err = trust.NewBundle(anchors, uploaded); err != nil {
		return nil, fmt.Errorf("hub %s: %w", h.Name, err)
	}
	if revoked != nil {
		live.bundle = live.bundle.Without(revoked.ids)
	}
	return live, nil
}

// claim is how good a hub's claim to a chain is that nothing but the chain's
// issuer ties to it.
type claim uint8

// The claims, from the worst to the best.
const (
	noClaim claim = iota
	vouched       // the path needs an intermediate that only the hub's owner vouches for
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
		if _, ok := h.uploaded[print]; !ok {
			return noClaim
		}
		best = vouched
	}
	return best
}

// unknown returns the path's intermediates that the hub does not know.
func (h *liveHub) unknown(path trust.Path) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(path.Intermediates()), func(c *x509.Certificate) bool {
		return h.bundle.Knows(trust.FingerprintOf(c))
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

// directory finds hubs by ID, by name and by what may have issued a chain. It
// is safe for concurrent use.
type directory struct {
	// generation changes, from 1 up, before anything else here does.
	generation atomic.Uint64

	mu     sync.RWMutex
	byID   map[HubID]*liveHub
	byName map[string]*liveHub
	// byIssuer finds the hubs that know a CA, by its fingerprint, by its name
	// and key ID, and by its name alone.
	byIssuer map[issuerKey][]*liveHub
	// stored are the hubs that are not declared, by partition.
	stored []map[HubID]struct{}
}

// issuerKey is one of the ways to look a CA up.
type issuerKey struct {
	print  trust.Fingerprint
	name   string // raw subject
	keyID  string // "" if it has none
	anyKey bool   // by name alone
}

func newDirectory(partitions int) *directory {
	dir := &directory{
		stored:   make([]map[HubID]struct{}, partitions),
		byID:     make(map[HubID]*liveHub),
		byName:   make(map[string]*liveHub),
		byIssuer: make(map[issuerKey][]*liveHub),
	}
	for i := range dir.stored {
		dir.stored[i] = make(map[HubID]struct{})
	}
	dir.generation.Store(1)
	return dir
}

// issuerKeys returns what the hub is found under, each once. A hub that is found
// by SNI only is found under nothing.
func (h *liveHub) issuerKeys() map[issuerKey]struct{} {
	keys := make(map[issuerKey]struct{})
	if h.SNIOnly {
		return keys
	}
	for _, c := range slices.Concat(h.bundle.Anchors(), h.bundle.Intermediates()) {
		name := string(c.RawSubject)
		keys[issuerKey{print: trust.FingerprintOf(c)}] = struct{}{}
		keys[issuerKey{name: name, keyID: string(c.SubjectKeyId)}] = struct{}{}
		keys[issuerKey{name: name, anyKey: true}] = struct{}{}
	}
	return keys
}

// put adds the hub or replaces the one of that ID.
func (dir *directory) put(h *liveHub) {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	dir.generation.Add(1)
	dir.remove(h.ID)
	dir.byID[h.ID] = h
	dir.byName[h.Name] = h
	if h.Declared == "" {
		dir.storedBeside(h.ID)[h.ID] = struct{}{}
	}
	for key := range h.issuerKeys() {
		dir.byIssuer[key] = append(dir.byIssuer[key], h)
	}
}

// drop removes the hub of that ID, if it is there.
func (dir *directory) drop(id HubID) {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	dir.generation.Add(1)
	dir.remove(id)
}

func (dir *directory) remove(id HubID) {
	h, ok := dir.byID[id]
	if !ok {
		return
	}
	delete(dir.byID, id)
	delete(dir.storedBeside(id), id)
	if dir.byName[h.Name] == h {
		delete(dir.byName, h.Name)
	}
	for key := range h.issuerKeys() {
		rest := slices.DeleteFunc(dir.byIssuer[key], func(o *liveHub) bool { return o == h })
		if len(rest) == 0 {
			delete(dir.byIssuer, key)
			continue
		}
		dir.byIssuer[key] = rest
	}
}

func (dir *directory) id(id HubID) *liveHub {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	return dir.byID[id]
}

// find returns the hub of that ID or name, nil if there is none. Neither is
// case-sensitive, as in DNS.
func (dir *directory) find(idOrName string) *liveHub {
	idOrName = strings.ToLower(idOrName)
	if id, err := ParseHubID(idOrName); err == nil {
		return dir.id(id)
	}
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	return dir.byName[idOrName]
}

// candidates returns the hubs that may lead to the chain, the likeliest first:
// those that know a CA that the device presented, then those that know one of
// the name and key ID asked for, or without a key ID. Only if there are none,
// those whose CA has the name and another key: vendors' CAs often share a name.
func (dir *directory) candidates(chain *trust.Chain, attested []trust.Fingerprint) []*liveHub {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	var found []*liveHub
	take := func(key issuerKey) {
		for _, h := range dir.byIssuer[key] {
			if len(found) == maxCandidates {
				return
			}
			if !slices.Contains(found, h) {
				found = append(found, h)
			}
		}
	}
	for _, print := range attested {
		take(issuerKey{print: print})
	}
	issuers := chain.Issuers()
	for _, i := range issuers {
		if len(i.KeyID) > 0 {
			take(issuerKey{name: string(i.Name), keyID: string(i.KeyID)})
			take(issuerKey{name: string(i.Name)})
		} else {
			take(issuerKey{name: string(i.Name), anyKey: true})
		}
	}
	if len(found) == 0 {
		for _, i := range issuers {
			take(issuerKey{name: string(i.Name), anyKey: true})
		}
	}
	return found
}

// all returns every hub, by name.
func (dir *directory) all() []*liveHub {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	hubs := make([]*liveHub, 0, len(dir.byID))
	for _, h := range dir.byID {
		hubs = append(hubs, h)
	}
	slices.SortFunc(hubs, func(a, b *liveHub) int { return cmp.Compare(a.Name, b.Name) })
	return hubs
}

// storedIn returns the IDs of the stored hubs of a partition.
func (dir *directory) storedIn(partition int) []HubID {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	return slices.Collect(maps.Keys(dir.stored[partition]))
}

// storedBeside are the stored hubs of the hub's partition.
func (dir *directory) storedBeside(id HubID) map[HubID]struct{} {
	return dir.stored[id.Partition(len(dir.stored))]
}
