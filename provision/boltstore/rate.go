package boltstore

import (
	"time"

	"github.com/hubgate/hubgate/provision"
)

// rates are the buckets of first connections, one per hub that has a rate. Only
// the writer looks at them. They are in memory: one process owns the file, and
// its start costs no hub more than one full bucket.
//
// A bucket is kept as one number: the time at which it will be full again. A
// token moves it on by the time that one token takes to come.
type rates struct {
	now  func() time.Time
	full map[provision.HubID]time.Time
}

func newRates(now func() time.Time) *rates {
	return &rates{now: now, full: map[provision.HubID]time.Time{}}
}

// take takes a token out of a bucket that holds perSecond of them, or says when
// there will be one.
func (r *rates) take(hub provision.HubID, perSecond int) error {
	each := (time.Second + time.Duration(perSecond) - 1) / time.Duration(perSecond)
	now := r.now()
	full := r.full[hub]
	if full.Before(now) {
		full = now
	}
	// No bucket lacks more than all its tokens, whatever the clock does.
	if empty := now.Add(time.Duration(perSecond) * each); full.After(empty) {
		full = empty
	}
	if wait := full.Add(each).Sub(now) - time.Duration(perSecond)*each; wait > 0 {
		return &provision.RateError{After: wait}
	}
	r.full[hub] = full.Add(each)
	return nil
}

// forget drops a hub's bucket.
func (r *rates) forget(hub provision.HubID) { delete(r.full, hub) }
