package provision_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// TestExpiringAnchors: it is told 30 days ahead that a trust anchor expires,
// once a day, however many processes serve; of declared hubs too.
func TestExpiringAnchors(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	r := newRig(t, func(c *provision.GateConfig) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	valid := func(days int) pki.Option {
		return pki.WithValidity(time.Now().Add(-time.Hour), time.Now().Add(time.Duration(days)*24*time.Hour+time.Hour))
	}
	soon := must[*pki.Authority](t)(pki.NewRoot("Soon", valid(29)))
	declared := must[*pki.Authority](t)(pki.NewRoot("Declared", valid(10)))
	later := must[*pki.Authority](t)(pki.NewRoot("Later", valid(31)))
	past := must[*pki.Authority](t)(pki.NewRoot("Past", pki.WithValidity(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))))
	stored := r.hub("stored", anchors(soon.Certificate, later.Certificate, past.Certificate))
	file := provision.Hub{ID: provision.DeclaredHubID("file"), Name: "file", Declared: "hubgate.yaml"}
	anchors(declared.Certificate)(&file)
	if err := r.gate.Declare(t.Context(), []provision.Hub{file}); err != nil {
		t.Fatal(err)
	}
	messages := func(h provision.Hub) string {
		t.Helper()
		events, err := r.store.Events(t.Context(), h.ID.Partition(r.store.Partitions()), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range events {
			if e.Event.Hub == h.ID && e.Event.Reason == "anchor_expiring" {
				if e.Event.Severity != provision.SeverityError || e.Event.ObjectID != h.ID.String() {
					t.Errorf("event %+v", e.Event)
				}
				all = append(all, e.Event.Message)
			}
		}
		return strings.Join(all, "; ")
	}
	warn := func() {
		t.Helper()
		for range 3 { // processes, and rounds of each
			if err := provision.WarnOfExpiry(t.Context(), r.gate, r.store.Store); err != nil {
				t.Fatal(err)
			}
		}
	}
	warn()
	const first, other = "trust anchor expires in 29 days: CN=Soon", "trust anchor expires in 10 days: CN=Declared"
	if got := messages(stored); got != first {
		t.Errorf("told %q", got)
	}
	if got := messages(file); got != other {
		t.Errorf("told %q", got)
	}
	ahead.Store(int64(23 * time.Hour))
	warn()
	if got := messages(stored); got != first {
		t.Errorf("within a day: %q", got)
	}
	ahead.Store(int64(48 * time.Hour))
	warn()
	if got, want := messages(stored), first+"; trust anchor expires in 27 days: CN=Soon; trust anchor expires in 29 days: CN=Later"; got != want {
		t.Errorf("two days later: %q, want %q", got, want)
	}
}
