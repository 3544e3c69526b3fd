package provision

import (
	"sync"
	"time"
)

// Lines logged each second, at most, about known devices, and about denials and
// faults each: a flood must not fill the disk, or cost more than it costs its
// sender.
const (
	knownLines = 10
	otherLines = 200
)

// decisionLines bounds what is logged of decisions, apart for those that must
// not displace each other. What creates a device is always logged.
type decisionLines struct{ known, denied, faults lineLimit }

func newDecisionLines(all bool) *decisionLines {
	l := &decisionLines{lineLimit{most: knownLines}, lineLimit{most: otherLines}, lineLimit{most: otherLines}}
	for _, limit := range []*lineLimit{&l.known, &l.denied, &l.faults} {
		limit.all = all
	}
	return l
}

// take tells whether a line may be written, and how many of its kind were not
// since the last one.
func (l *decisionLines) take(r Reason, now time.Time) (ok bool, dropped int64) {
	switch {
	case r == DeviceProvisioned:
		return true, 0
	case r.Outcome() == Allow:
		return l.known.take(now)
	case r.Outcome() == Deny:
		return l.denied.take(now)
	}
	return l.faults.take(now)
}

// lineLimit lets so many lines pass each second, or all.
type lineLimit struct {
	most int64
	all  bool

	mu             sync.Mutex
	second         int64
	taken, dropped int64
}

func (l *lineLimit) take(now time.Time) (bool, int64) {
	if l.all {
		return true, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := now.Unix(); s != l.second {
		l.second, l.taken = s, 0
	}
	if l.taken >= l.most {
		l.dropped++
		return false, 0
	}
	dropped := l.dropped
	l.taken, l.dropped = l.taken+1, 0
	return true, dropped
}
