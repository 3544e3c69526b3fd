package provision

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hubgate/hubgate/trust"
)

// directory finds hubs by ID, by name and by what may have issued a chain. It
// is safe for concurrent use.
type directory struct {
	// generation changes, from 1 up, before anything else here does.
	generation atomic.Uint64

	mu       sync.RWMutex
	byID     map[HubID]*liveHub
	byName   map[string]*liveHub
	byIssuer issuerIndex
	attended map[*liveHub]struct{} // see Gate.Attended
	room     int                   // hubs that there was made room for
	// stored are the hubs that are not declared, by partition.
	stored []map[HubID]struct{}
}

func newDirectory(partitions int) *directory {
	dir := &directory{
		stored:   make([]map[HubID]struct{}, partitions),
		byID:     make(map[HubID]*liveHub),
		byName:   make(map[string]*liveHub),
		byIssuer: newIssuerIndex(),
		attended: make(map[*liveHub]struct{}),
	}
	for i := range dir.stored {
		dir.stored[i] = make(map[HubID]struct{})
	}
	dir.generation.Store(1)
	return dir
}

// expect makes room for that many hubs, roughly, before the first of them come.
func (dir *directory) expect(hubs int) {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	if hubs < 2*dir.room {
		return
	}
	dir.room = hubs
	dir.byID, dir.byName = roomy(dir.byID, hubs), roomy(dir.byName, hubs)
	dir.byIssuer.at = roomy(dir.byIssuer.at, placesOfCA*hubs)
}

func roomy[K comparable, V any](m map[K]V, n int) map[K]V {
	larger := make(map[K]V, n)
	maps.Copy(larger, m)
	return larger
}

// put adds the hub or replaces the one of that ID.
func (dir *directory) put(h *liveHub) {
	h.places = dir.byIssuer.placesOf(h)
	dir.mu.Lock()
	defer dir.mu.Unlock()
	dir.generation.Add(1)
	dir.remove(h.ID)
	dir.byID[h.ID] = h
	dir.byName[h.Name] = h
	if h.Declared == "" {
		dir.storedBeside(h)[h.ID] = struct{}{}
	}
	if h.Deleting || len(h.CRLSources) > 0 || h.revoked != nil {
		dir.attended[h] = struct{}{}
	}
	dir.byIssuer.add(h)
}

// settle gives the hub what it trusts, compiled. From then on it is found under that
// alone: before, also under intermediates that chain to none of its anchors.
func (dir *directory) settle(h *liveHub, t *trusted) {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	h.compiled.Store(t)
	if dir.byID[h.ID] != h {
		return
	}
	if places := dir.byIssuer.placesOf(h); !slices.Equal(places, h.places) {
		dir.byIssuer.remove(h)
		h.places = places
		dir.byIssuer.add(h)
	}
}

// dropThis removes the hub unless it was replaced, and tells whether it did.
func (dir *directory) dropThis(h *liveHub) bool {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	if dir.byID[h.ID] != h {
		return false
	}
	dir.generation.Add(1)
	dir.remove(h.ID)
	return true
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
	delete(dir.storedBeside(h), id)
	delete(dir.attended, h)
	if dir.byName[h.Name] == h {
		delete(dir.byName, h.Name)
	}
	dir.byIssuer.remove(h)
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

// candidates returns the hubs that may lead to the chain; see issuerIndex.
func (dir *directory) candidates(chain *trust.Chain, attested []trust.Fingerprint) (found, open []*liveHub) {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	return dir.byIssuer.candidates(chain, attested)
}

// named returns the hubs of those names.
func (dir *directory) named(names []string) []*liveHub {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	var hubs []*liveHub
	for _, name := range names {
		if h := dir.byName[name]; h != nil {
			hubs = append(hubs, h)
		}
	}
	return hubs
}

// open returns the hubs that are not compiled yet.
func (dir *directory) open() []*liveHub {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	var hubs []*liveHub
	for _, h := range dir.byID {
		if h.trusted() == nil {
			hubs = append(hubs, h)
		}
	}
	return hubs
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

func (dir *directory) attendedHubs() []Hub {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	hubs := make([]Hub, 0, len(dir.attended))
	for h := range dir.attended {
		hubs = append(hubs, *h.Hub)
	}
	return hubs
}

func (dir *directory) count() int {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	return len(dir.byID)
}

// storedIn returns the IDs of the stored hubs of a partition.
func (dir *directory) storedIn(partition int) map[HubID]struct{} {
	dir.mu.RLock()
	defer dir.mu.RUnlock()
	return maps.Clone(dir.stored[partition])
}

// storedBeside are the stored hubs of the hub's partition.
func (dir *directory) storedBeside(h *liveHub) map[HubID]struct{} {
	return dir.stored[int(h.slot)%len(dir.stored)]
}
