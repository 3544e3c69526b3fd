package provision

import (
	"context"
	"log/slog"
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
type decisionLines struct{ known, denied, faults *LineLimit }

func newDecisionLines(all bool) *decisionLines {
	return &decisionLines{NewLineLimit(knownLines, all), NewLineLimit(otherLines, all), NewLineLimit(otherLines, all)}
}

// take tells whether a line may be written, and how many of its kind were not
// since the last one.
func (l *decisionLines) take(r Reason, now time.Time) (ok bool, dropped int64) {
	switch {
	case r == DeviceProvisioned:
		return true, 0
	case r.Outcome() == Allow:
		return l.known.Take(now)
	case r.Outcome() == Deny:
		return l.denied.Take(now)
	}
	return l.faults.Take(now)
}

// LineLimit lets so many log lines pass each second, or all. It is safe for
// concurrent use.
type LineLimit struct {
	most int64
	all  bool

	mu             sync.Mutex
	second         int64
	taken, dropped int64
}

// NewLineLimit makes a limit of most lines each second, or of none at all.
func NewLineLimit(most int64, all bool) *LineLimit { return &LineLimit{most: most, all: all} }

// Take tells whether a line may be written, and how many were not since the last
// one.
func (l *LineLimit) Take(now time.Time) (ok bool, dropped int64) {
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
	dropped = l.dropped
	l.taken, l.dropped = l.taken+1, 0
	return true, dropped
}

// logDecision writes the decision's line: allows at info, denials at info,
// faults at error. Of decisions that may come in floods a bounded number is
// written each second; the next line then tells how many were not.
func (g *Gate) logDecision(ctx context.Context, c *Connection, d *Decision, start time.Time, took time.Duration) {
	level := slog.LevelInfo
	if d.Reason.Outcome() == Fault {
		level = slog.LevelError
	}
	if !g.log.Enabled(ctx, level) {
		return
	}
	ok, dropped := g.lines.take(d.Reason, start)
	if !ok {
		return
	}
	attrs := []slog.Attr{
		slog.String("decision", d.Reason.Outcome().String()),
		slog.String("reason", string(d.Reason)),
		slog.String("decision_id", d.ID),
		slog.String("protocol", string(c.Protocol)),
		slog.String("source", c.Source.String()),
		slog.Duration("took", took),
	}
	for _, a := range []struct{ key, value string }{
		{"hub", d.HubName}, {"device", d.DeviceName}, {"sni", c.SNI}, {"authority", c.Authority},
		{"node", c.Node}, {"connection", c.EnvoyConnection}, {"detail", d.Detail},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	if d.Outage {
		attrs = append(attrs, slog.Bool("outage", true))
	}
	if dropped > 0 {
		attrs = append(attrs, slog.Int64("unlogged", dropped))
	}
	g.log.LogAttrs(ctx, level, "check", attrs...)
}
