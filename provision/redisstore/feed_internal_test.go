package redisstore

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

// callLog notes a sink's calls in short.
type callLog []string

func (l *callLog) Changed(_ int, c provision.Change) { *l = append(*l, fmt.Sprint("changed ", c.Kind)) }
func (l *callLog) Lost(int)                          { *l = append(*l, "lost") }
func (l *callLog) Fresh(int, time.Time)              { *l = append(*l, "fresh") }

// TestAdvance: what each answer of the server proves. The reader is at change
// 7, whose link is "g"; change n has the n-th letter.
func TestAdvance(t *testing.T) {
	t.Parallel()
	at := func(seq uint64, link string) head { return head{id: "store", seq: seq, link: link} }
	change := func(seq int, link, before string) redis.XMessage {
		return redis.XMessage{ID: fmt.Sprintf("%d-0", seq), Values: map[string]any{
			"c": string(encodeHubChange(provision.NewHubID())), "l": link, "p": before}}
	}
	odd := change(8, "h", "g")
	odd.Values["c"] = "\x09 of a newer version"
	for name, test := range map[string]struct {
		head    head
		entries []redis.XMessage
		want    []string
		seq     uint64
	}{
		"nothing new":                   {at(7, "g"), nil, []string{"fresh"}, 7},
		"one change":                    {at(8, "h"), []redis.XMessage{change(8, "h", "g")}, []string{"changed 1", "fresh"}, 8},
		"a change after the head":       {at(7, "g"), []redis.XMessage{change(8, "h", "g")}, []string{"changed 1", "fresh"}, 8},
		"more than one batch":           {at(9, "i"), []redis.XMessage{change(8, "h", "g")}, []string{"changed 1"}, 8},
		"entries were trimmed":          {at(10, "j"), []redis.XMessage{change(10, "j", "i")}, []string{"changed 1", "lost", "fresh"}, 10},
		"all entries were trimmed":      {at(9, "i"), nil, []string{"lost", "fresh"}, 9},
		"history went back":             {at(5, "e"), nil, []string{"lost", "fresh"}, 5},
		"history was written anew":      {at(7, "G"), nil, []string{"lost", "fresh"}, 7},
		"history was overtaken":         {at(8, "H"), []redis.XMessage{change(8, "H", "G")}, []string{"changed 1", "lost", "fresh"}, 8},
		"history was lost in the round": {at(7, "g"), []redis.XMessage{change(8, "H", "G")}, []string{"changed 1", "lost", "fresh"}, 8},
		"a change of a newer version":   {at(8, "h"), []redis.XMessage{odd}, []string{"lost", "fresh"}, 8},
		"another store":                 {head{id: "other", seq: 7, link: "g"}, nil, []string{"lost"}, 7},
		"an empty store":                {head{}, nil, []string{"lost"}, 7},
	} {
		var calls callLog
		r := &feedReader{store: &Store{id: "store", foreign: make([]atomic.Bool, 1)}, sink: &calls}
		p := &position{joined: true, seq: 7, link: "g"}
		r.advance(p, test.head, test.entries, time.Now())
		if !slices.Equal(calls, test.want) || p.seq != test.seq {
			t.Errorf("%s: %q, position %d, want %q, %d", name, calls, p.seq, test.want, test.seq)
		}
	}
}

// TestAdvanceReturns: a partition of another store is lost once, and lost again
// when the pinned one is back, as what was read between is the other's.
func TestAdvanceReturns(t *testing.T) {
	t.Parallel()
	var calls callLog
	r := &feedReader{store: &Store{id: "store", foreign: make([]atomic.Bool, 1)}, sink: &calls}
	p := &position{}
	for _, h := range []head{{id: "store", seq: 3}, {}, {}, {id: "other"}, {id: "store", seq: 3}, {id: "store", seq: 3}} {
		r.advance(p, h, nil, time.Now())
		if want := h.id != "store"; r.store.Replaced() != want {
			t.Errorf("after head %+v: replaced is %t", h, !want)
		}
	}
	if want := []string{"fresh", "lost", "lost", "fresh", "fresh"}; !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}
