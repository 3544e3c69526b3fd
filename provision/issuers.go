package provision

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/hubgate/hubgate/trust"
)

// maxSameSubject bounds the trust anchors of one subject that are searched by
// issuer. A fifth is refused at installation, so that look-alike CAs cannot
// crowd out the real one; its hub has to be reached by SNI.
const maxSameSubject = 4

// maxCandidates bounds the hubs that one chain is tried on. The signature
// budget is shared among them.
const maxCandidates = 16

// issuerIndex finds the hubs that know a CA, by its fingerprint and by its name.
// Who is found there is a candidate and no more. The directory guards it.
type issuerIndex struct {
	seed maphash.Seed
	at   map[uint64][]listing // by the hash of a fingerprint or of a name
}

// listing is a hub that knows a CA. Where it is found by the CA's name, keyID is the hash
// of the CA's key ID, which is empty if it has none.
type listing struct {
	hub   *liveHub
	keyID uint64
}

// place is where a hub is listed, and under which key ID.
type place struct{ key, keyID uint64 }

// placesOfCA is how many places a hub of one CA has.
const placesOfCA = 2

func newIssuerIndex() issuerIndex {
	return issuerIndex{seed: maphash.MakeSeed(), at: make(map[uint64][]listing)}
}

// placesOf returns where the hub is to be found, each place once. A hub that is
// found by SNI only has none. Of one that is not compiled yet all that it may
// trust counts; what does not parse is left out.
func (x *issuerIndex) placesOf(h *liveHub) []place {
	if h.SNIOnly {
		return nil
	}
	places := make([]place, 0, placesOfCA)
	add := func(print trust.Fingerprint, name, keyID []byte) {
		places = append(places, place{x.hash(print[:]), 0}, place{x.hash(name), x.hash(keyID)})
	}
	if t := h.trusted(); t != nil {
		for _, c := range slices.Concat(t.Anchors(), t.Intermediates()) {
			add(trust.FingerprintOf(c), c.RawSubject, c.SubjectKeyId)
		}
	} else {
		for _, ders := range [...][][]byte{h.Anchors, h.Intermediates, h.learned} {
			for _, der := range ders {
				if o, ok := trust.ReadOutline(der); ok {
					add(trust.FingerprintOfDER(der), o.Subject, o.KeyID)
				}
			}
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.keyID, b.keyID)) })
	return slices.Compact(places)
}

func (x *issuerIndex) hash(b []byte) uint64 { return maphash.Bytes(x.seed, b) }

// add lists the hub at its places.
func (x *issuerIndex) add(h *liveHub) {
	for _, p := range h.places {
		x.at[p.key] = append(x.at[p.key], listing{h, p.keyID})
	}
}

// remove undoes add.
func (x *issuerIndex) remove(h *liveHub) {
	for _, p := range h.places {
		rest := slices.DeleteFunc(x.at[p.key], func(l listing) bool { return l.hub == h })
		if len(rest) == 0 {
			delete(x.at, p.key)
		} else {
			x.at[p.key] = rest
		}
	}
}

// candidates returns the hubs that may lead to the chain, the likeliest first:
// those that know a CA that the device presented, then those that know one of
// the name and key ID asked for, or without a key ID. Only if there are none,
// those whose CA has the name and another key: vendors' CAs often share a name.
//
// Hubs that are not compiled yet are returned apart, as they may not know the CA
// after all. While there are any, found is not to be used.
func (x *issuerIndex) candidates(chain *trust.Chain, attested []trust.Fingerprint) (found, open []*liveHub) {
	take := func(key uint64, fits func(keyID uint64) bool) {
		for _, l := range x.at[key] {
			if !fits(l.keyID) {
				continue
			}
			into := &found
			if l.hub.trusted() == nil {
				into = &open
			}
			if len(*into) == maxCandidates {
				return
			}
			if !slices.Contains(*into, l.hub) {
				*into = append(*into, l.hub)
			}
		}
	}
	all := func(uint64) bool { return true }
	for _, print := range attested {
		take(x.hash(print[:]), all)
	}
	issuers, none := chain.Issuers(), x.hash(nil)
	for _, i := range issuers {
		name := x.hash(i.Name)
		if len(i.KeyID) == 0 {
			take(name, all)
			continue
		}
		asked := x.hash(i.KeyID)
		take(name, func(keyID uint64) bool { return keyID == asked })
		take(name, func(keyID uint64) bool { return keyID == none })
	}
	if len(found) == 0 && len(open) == 0 {
		for _, i := range issuers {
			take(x.hash(i.Name), all)
		}
	}
	return found, open
}
