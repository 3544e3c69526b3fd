package provision

import (
	"testing"
	"time"
)

func TestDecisionLines(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	count := func(l *decisionLines, r Reason, at time.Time, n int) (logged int, unlogged int64) {
		for range n {
			ok, dropped := l.take(r, at)
			if ok {
				logged++
			}
			unlogged += dropped
		}
		return logged, unlogged
	}
	l := newDecisionLines(false)
	for _, tt := range []struct {
		reason Reason
		want   int
	}{{DeviceKnown, knownLines}, {ChainUntrusted, otherLines}, {StoreUnavailable, otherLines}, {DeviceProvisioned, 1000}} {
		if got, _ := count(l, tt.reason, now, 1000); got != tt.want {
			t.Errorf("%s: %d of 1000 logged in a second, want %d", tt.reason, got, tt.want)
		}
	}
	if got, unlogged := count(l, DeviceKnown, now.Add(time.Second), 1); got != 1 || unlogged != 1000-knownLines {
		t.Errorf("a second later: %d logged, %d told of", got, unlogged)
	}
	if got, _ := count(newDecisionLines(true), DeviceKnown, now, 1000); got != 1000 {
		t.Errorf("%d of 1000 logged where all are asked for", got)
	}
}
