package sessions

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkModule compares an Envoy with the library to one without it, before
// the same hubgate and broker: memory, memory per open session, connections per
// second, messages per second. Both take turns, and what is reported are
// medians, as nobody has a machine to himself; for the same reason it says how
// much processor time each Envoy took.
//
//	go test -run '^$' -bench Module -benchtime 1x ./e2e/sessions
func BenchmarkModule(b *testing.B) {
	const (
		rounds      = 15
		sessions    = 1000
		connections = 200 // per round
		messages    = 20_000
	)
	h := startHubgate(b, onBolt(b))
	broker, backend := startBroker(b), startBackend(b)
	f := h.fleet(b)
	sides := []*side{{name: "without"}, {name: "with"}}
	for i, s := range sides {
		c := edgeConfig{authz: h.authz, broker: broker, backend: backend}
		if i == 1 {
			c.link = h.link
		}
		s.edge = startEdge(b, c)
		time.Sleep(time.Second)
		s.base = s.edge.rss(b)
	}
	// Without the library the line has to be known.
	teacher := must(f.device(b, "teacher").dial(sides[1].edge, dialing{}))(b)
	teacher.close()
	for b.Loop() {
		for _, s := range sides {
			warm := f.crowd(b, s.edge, "warm-"+s.name, 100)
			before := s.edge.rss(b)
			f.crowd(b, s.edge, "open-"+s.name, sessions)
			s.each = float64(s.edge.rss(b)-before) / sessions
			_ = warm
		}
		for i := range rounds {
			for _, s := range sides {
				start := s.edge.cpu(b)
				s.connects = append(s.connects, s.connect(b, f, connections, i))
				middle := s.edge.cpu(b)
				s.passes = append(s.passes, s.pass(b, f, messages, i))
				s.connecting += middle - start
				s.passing += s.edge.cpu(b) - middle
			}
		}
	}
	ratio := func(of func(*side) []float64) (with, without, quotient float64) {
		var q []float64
		one, two := of(sides[0]), of(sides[1])
		for i := range one {
			q = append(q, two[i]/one[i])
		}
		return median(two), median(one), median(q)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(sides[1].base-sides[0].base)/(1<<20), "MiB-more")
	b.ReportMetric(sides[1].each-sides[0].each, "B-more/session")
	with, without, q := ratio(func(s *side) []float64 { return s.connects })
	b.ReportMetric(q, "x-connections")
	b.Logf("connections/s: with %.0f, without %.0f", with, without)
	with, without, q = ratio(func(s *side) []float64 { return s.passes })
	b.ReportMetric(q, "x-messages")
	b.Logf("messages/s: with %.0f, without %.0f", with, without)
	b.ReportMetric(float64(sides[1].connecting)/float64(sides[0].connecting), "x-cpu/connection")
	b.ReportMetric(float64(sides[1].passing)/float64(sides[0].passing), "x-cpu/message")
	for _, s := range sides {
		b.Logf("%s: Envoy's processor time, a connection %s, a message %s",
			s.name, s.connecting/(rounds*connections), s.passing/(rounds*messages))
		b.Logf("%s: RSS at start %.1f MiB, %.0f B per session; connections/s %.0f; messages/s %.0f",
			s.name, float64(s.base)/(1<<20), s.each, s.connects, s.passes)
	}
}

// side is one of the two Envoys.
type side struct {
	name             string
	edge             *edge
	base             int
	each             float64
	connects, passes []float64
	// Processor time that Envoy took for them.
	connecting, passing time.Duration
}

// connect makes connections, each by a device of its own that is known, and
// gives how many there were in a second.
func (s *side) connect(b *testing.B, f *fleet, n, round int) float64 {
	const workers = 8
	devices := make([]*device, workers)
	for i := range devices {
		devices[i] = f.device(b, fmt.Sprintf("connects-%d-%d", i, round))
	}
	var group sync.WaitGroup
	began := time.Now()
	for _, d := range devices {
		group.Go(func() {
			for range n / workers {
				c, err := d.dial(s.edge, dialing{})
				if err != nil {
					b.Errorf("%s, %s: %v", s.name, d.name, err)
					return
				}
				c.close()
			}
		})
	}
	group.Wait()
	return float64(n) / time.Since(began).Seconds()
}

// pass publishes messages of 100 bytes at QoS 0 and gives how many the broker
// took in a second.
func (s *side) pass(b *testing.B, f *fleet, n, round int) float64 {
	const workers = 4
	var clients []*client
	for i := range workers {
		c, err := f.device(b, fmt.Sprintf("sends-%s-%d-%d", s.name, i, round)).dial(s.edge, dialing{})
		if err != nil {
			b.Fatal(err)
		}
		defer c.close()
		clients = append(clients, c)
	}
	var group sync.WaitGroup
	began := time.Now()
	for _, c := range clients {
		message := packet(0x30, str(c.device.topic("a"))+c.properties()+string(make([]byte, 100)))
		group.Go(func() {
			for range n / workers {
				if _, err := io.WriteString(c.conn, message); err != nil {
					b.Error(err)
					return
				}
			}
			c.ping(b)
		})
	}
	group.Wait()
	return float64(n) / time.Since(began).Seconds()
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
