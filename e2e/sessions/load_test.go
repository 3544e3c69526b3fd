package sessions

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

// crowd is so many devices, connected.
func (f *fleet) crowd(t testing.TB, e *edge, prefix string, n int) []*client {
	t.Helper()
	clients := make([]*client, n)
	var connecting sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range clients {
		d := f.device(t, fmt.Sprintf("%s-%d", prefix, i))
		connecting.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			c, err := d.dial(e, dialing{})
			if err != nil {
				t.Errorf("%s: %v", d.name, err)
				return
			}
			clients[i] = c
		})
	}
	connecting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		for _, c := range clients {
			c.close()
		}
	})
	return clients
}

// p99 is the 99th percentile.
func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestManySessions: while a thousand sessions are open, single ones end without
// touching others; then all of them end with their hub. The times are logged,
// not judged: they depend on who else uses the machine.
func TestManySessions(t *testing.T) {
	t.Parallel()
	n := 200
	if soak {
		n = 1000
	}
	for name, on := range storages {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, on(t))
			f := s.fleet(t)
			clients := f.crowd(t, s.edge, "SN", n)
			eventually(t, "all are listed", func() error {
				if got := len(f.listed(t)); got != n {
					return fmt.Errorf("%d of %d", got, n)
				}
				return nil
			})
			single, rest := clients[:n/5], clients[n/5:]
			var took []time.Duration
			for _, c := range single {
				began := time.Now()
				c.device.disable(t)
				c.ends(t, int(link.AdministrativeAction))
				took = append(took, c.closedAt.Sub(began))
			}
			t.Logf("%d ended one by one, %d open: from the order to the device's closed socket, p99 %s, median %s",
				len(single), n, p99(took), took[len(took)/2])
			for _, c := range rest {
				c.ping(t)
			}
			began := time.Now()
			f.edit(t, func(h *provision.Hub) { h.Disabled = true })
			took = took[:0]
			for _, c := range rest {
				c.ends(t, int(link.AdministrativeAction))
				took = append(took, c.closedAt.Sub(began))
			}
			t.Logf("%d ended at once: p99 %s, last %s", len(rest), p99(took), took[len(took)-1])
			f.lists(t)
		})
	}
}

// TestCycles connects and ends again and again while others stay: nothing is
// left behind in Envoy, and nothing of the others is touched. Some may be no
// older than a minute, which takes a long run to show.
func TestCycles(t *testing.T) {
	t.Parallel()
	cycles, others, aging := 200, 50, 0
	if soak {
		cycles, others, aging = 10_000, 1000, 20
	}
	s := newSite(t, onBolt(t))
	young := s.fleet(t)
	young.edit(t, func(h *provision.Hub) { h.Policy.MaxSessionAge = provision.MinSessionAge })
	young.known(t)
	began := time.Now()
	old := young.crowd(t, s.edge, "ages", aging)
	stay := s.fleet(t)
	staying := stay.crowd(t, s.edge, "stays", others)
	f := s.fleet(t)
	const devices = 16
	round := func(n int) {
		var group sync.WaitGroup
		for i := range devices {
			d := f.device(t, fmt.Sprintf("SN-%d", i))
			group.Go(func() {
				for range n / devices {
					c, err := d.dial(s.edge, dialing{})
					if err != nil {
						t.Errorf("%s: %v", d.name, err)
						return
					}
					d.order(t)
					c.ends(t, int(link.AdministrativeAction))
				}
			})
		}
		group.Wait()
	}
	warm := cycles / 5
	round(warm)
	before := s.edge.rss(t)
	round(cycles - warm)
	after := s.edge.rss(t)
	t.Logf("Envoy's RSS: %d KiB after %d cycles, %d KiB after %d, with %d connections open", before>>10, warm, after>>10, cycles, others)
	if after > before+before/10 {
		t.Errorf("it has grown by more than 10 %%: from %d to %d KiB", before>>10, after>>10)
	}
	for _, c := range old {
		time.Sleep(time.Until(began.Add(provision.MinSessionAge))) // if the cycles were quicker
		c.ends(t, int(link.MaximumConnectTime))
		if age := c.closedAt.Sub(began); age < provision.MinSessionAge {
			t.Errorf("%s was ended after %s", c.device.name, age)
		}
	}
	for _, c := range staying {
		c.ping(t)
	}
	f.lists(t)
	if got := len(stay.listed(t)); got != others {
		t.Errorf("%d of those that stay are listed, want %d", got, others)
	}
}
