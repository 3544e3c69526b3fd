package crl

import (
	"time"

	"github.com/hubgate/hubgate/provision"
)

const (
	// readers bounds the sources that are read at once, each of which may take
	// tens of megabytes.
	readers = 4
	// doubters bounds those of them that read a source that failed the last time.
	doubters = readers / 2
)

// turns says which source is read next. Owners of hubs choose what hubgate waits
// for, and may mean others ill. So hubs take turns, with one source at a time
// each, and sources that failed the last time leave half of the readers to the
// rest, however many hubs they are of. It is not safe for concurrent use.
type turns struct {
	hubs    map[provision.HubID]*turn
	ended   uint64 // turns so far
	reading int    // sources that are being read
	doubted int    // those of them that failed the last time
}

// turn is a hub's.
type turn struct {
	last    uint64 // how many had ended when it had its last one, or came
	reading bool
	sources map[string]*state
}

// state is what is known of a source.
type state struct {
	next    time.Time // when it is asked again
	failure string    // what was told last, "" after a success
}

// work is a source to read.
type work struct {
	hub     provision.Hub
	source  string
	doubted bool
}

// keep notes hubs and sources that are new, and forgets those that are gone.
func (t *turns) keep(hubs []provision.Hub) {
	there := make(map[provision.HubID]struct{})
	for _, h := range hubs {
		if len(h.CRLSources) == 0 {
			continue
		}
		there[h.ID] = struct{}{}
		its := t.hubs[h.ID]
		if its == nil {
			its = &turn{last: t.ended}
			t.hubs[h.ID] = its
		}
		sources := make(map[string]*state, len(h.CRLSources))
		for _, text := range h.CRLSources {
			if sources[text] = its.sources[text]; sources[text] == nil {
				sources[text] = new(state)
			}
		}
		its.sources = sources
	}
	for id, its := range t.hubs {
		if _, ok := there[id]; ok {
			continue
		}
		if its.sources = nil; !its.reading {
			delete(t.hubs, id)
		}
	}
}

// begin returns a source that is to be read now, if there is one and room for it:
// of the hubs that were kept, that of the one whose turn is the longest ago, and
// of its sources the one that waits the longest.
func (t *turns) begin(hubs []provision.Hub, now time.Time) (next work, ok bool) {
	if t.reading == readers {
		return work{}, false
	}
	var first *turn
	for _, h := range hubs {
		its := t.hubs[h.ID]
		if its == nil || its.reading || first != nil && its.last >= first.last {
			continue
		}
		var since time.Time
		for text, s := range its.sources {
			doubted := s.failure != ""
			if now.Before(s.next) || doubted && t.doubted == doubters || first == its && !s.next.Before(since) {
				continue
			}
			first, since, next = its, s.next, work{h, text, doubted}
		}
	}
	if first == nil {
		return work{}, false
	}
	first.reading = true
	t.reading++
	if next.doubted {
		t.doubted++
	}
	return next, true
}

// end notes that the source was read. It returns what is known of it, nil if it
// is no source any more.
func (t *turns) end(w work) *state {
	t.reading--
	if w.doubted {
		t.doubted--
	}
	t.ended++
	its := t.hubs[w.hub.ID]
	its.last, its.reading = t.ended, false
	return its.sources[w.source]
}
