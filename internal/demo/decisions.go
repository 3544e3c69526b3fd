package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"
)

// decision is what hubgate logged about a connection.
type decision struct {
	Message string     `json:"msg"`
	Reason  string     `json:"reason"`
	Source  netip.Addr `json:"source"`
}

// decisions reads hubgate's log as it is written, since over MQTT a refused
// device learns no more than that it is refused. It passes the log on.
type decisions struct {
	next io.Writer

	mu      sync.Mutex
	rest    []byte // an unfinished line
	all     []decision
	changed chan struct{} // closed and replaced when all grows
}

func newDecisions(next io.Writer) *decisions {
	return &decisions{next: next, changed: make(chan struct{})}
}

func (d *decisions) Write(b []byte) (int, error) {
	d.mu.Lock()
	d.rest = append(d.rest, b...)
	for {
		line, rest, ok := bytes.Cut(d.rest, []byte("\n"))
		if !ok {
			break
		}
		d.rest = rest
		var found decision
		if json.Unmarshal(line, &found) == nil && found.Message == "check" {
			d.all = append(d.all, found)
			close(d.changed)
			d.changed = make(chan struct{})
		}
	}
	d.mu.Unlock()
	return d.next.Write(b)
}

// count is how many decisions there have been.
func (d *decisions) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

// logTimeout bounds the wait for a line that has been written already.
const logTimeout = 5 * time.Second

// of waits for the first decision on a source address after the first n.
func (d *decisions) of(ctx context.Context, source netip.Addr, n int) (decision, error) {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	for {
		d.mu.Lock()
		all, changed := d.all, d.changed
		d.mu.Unlock()
		for _, found := range all[n:] {
			if found.Source == source {
				return found, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return decision{}, fmt.Errorf("hubgate logged no decision about %s", source)
		}
	}
}
