package sessions

import (
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkModule compares an Envoy with the library to one without it, before
// the same hubgate and broker: memory, memory per open session, connections per
// second, messages per second. Nobody has a machine to himself, so there are
// many short rounds, in which the two take turns at going first; what is
// reported are medians over the pairs of rounds, with the quartiles beside
// them. For the same reason it says how much processor time Envoy itself took,
// which others change less.
//
// The case envoy-mqtt of the harness in bench measures new connections, too: there
// on one worker thread, beside asking a stock server and nobody. Memory and
// messages are measured here alone; connections warm an Envoy up for them, and
// tell what the library takes of Envoy itself.
//
//	go test -run '^$' -bench Module -benchtime 1x ./e2e/sessions
func BenchmarkModule(b *testing.B) {
	const (
		pairs       = 30
		sessions    = 1000
		connections = 160    // per round
		messages    = 12_000 // per round, each through Envoy twice
	)
	h := startHubgate(b, onBolt(b))
	broker, backend := startBroker(b, allTopics), startBackend(b)
	f := h.fleet(b)
	without := &side{name: "without", config: edgeConfig{authz: h.authz, broker: broker, backend: backend}}
	with := &side{name: "with", config: edgeConfig{authz: h.authz, broker: broker, backend: backend, link: h.link}}
	sides := []*side{without, with}
	for _, s := range sides {
		s.edge = startEdge(b, s.config)
	}
	// Without the library the line has to be known.
	must(f.device(b, "teacher").dial(with.edge, dialing{}))(b).close()
	for _, s := range sides {
		for i := range 8 {
			s.devices = append(s.devices, f.device(b, fmt.Sprintf("%s-%d", s.name, i)))
		}
	}
	for b.Loop() {
		for _, s := range sides {
			s.started = s.edge.settled(b)
			s.connect(b, 800)
			s.pass(b, messages)
			s.connects, s.passes = nil, nil
		}
		for _, s := range sides {
			before := s.edge.settled(b)
			f.crowd(b, s.edge, "open-"+s.name, sessions)
			s.each = float64(s.edge.settled(b)-before) / sessions
		}
		for i := range pairs {
			order := slices.Clone(sides)
			if i%2 == 1 {
				slices.Reverse(order)
			}
			for _, s := range order {
				s.connect(b, connections)
			}
			for _, s := range order {
				s.pass(b, messages)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(with.started-without.started)/(1<<20), "MiB-more")
	b.Logf("RSS after the start: with %.1f MiB, without %.1f", float64(with.started)/(1<<20), float64(without.started)/(1<<20))
	chain := base64.StdEncoding.EncodedLen(len(with.devices[0].cert.Certificate[0])) + 1 + base64.StdEncoding.EncodedLen(len(with.devices[0].cert.Certificate[1]))
	b.ReportMetric(with.each-without.each-float64(chain), "B-more/session")
	b.Logf("RSS per session: with %.0f B (%d of it the chain), without %.0f", with.each, chain, without.each)
	compare := func(what, metric string, of func(*side) []measure) {
		var rates, costs []float64
		for i, m := range of(without) {
			rates = append(rates, of(with)[i].rate/m.rate)
			costs = append(costs, of(with)[i].cost-m.cost)
		}
		b.ReportMetric(quartile(rates, 2), "x-"+metric+"/s")
		ratio := quartile(pick(of(with), cost), 2) / quartile(pick(of(without), cost), 2)
		b.ReportMetric(ratio, "x-cpu/"+metric)
		b.Logf("%s/s: ratio %s; with %s; without %s", what, spread(rates, "%.3f"), spread(pick(of(with), rate), "%.0f"), spread(pick(of(without), rate), "%.0f"))
		b.Logf("Envoy's processor time per %s, µs: ratio %.3f; more %s; with %s; without %s",
			metric, ratio, spread(costs, "%.2f"), spread(pick(of(with), cost), "%.2f"), spread(pick(of(without), cost), "%.2f"))
	}
	compare("connections", "connection", func(s *side) []measure { return s.connects })
	compare("messages", "message", func(s *side) []measure { return s.passes })
}

// side is one of the two Envoys.
type side struct {
	name             string
	config           edgeConfig
	edge             *edge
	devices          []*device
	started          int // RSS
	each             float64
	connects, passes []measure
}

// measure is a round: how many there were in a second, and the time that Envoy
// computed for one, in microseconds.
type measure struct{ rate, cost float64 }

func rate(m measure) float64 { return m.rate }
func cost(m measure) float64 { return m.cost }

func (s *side) measure(b *testing.B, n int, run func()) measure {
	began, cpu := time.Now(), s.edge.cpu(b)
	run()
	took, used := time.Since(began), s.edge.cpu(b)-cpu
	return measure{rate: float64(n) / took.Seconds(), cost: float64(used.Nanoseconds()) / 1e3 / float64(n)}
}

// connect makes connections, by devices that are known, and ends them.
func (s *side) connect(b *testing.B, n int) {
	s.connects = append(s.connects, s.measure(b, n, func() {
		var group sync.WaitGroup
		for _, d := range s.devices {
			group.Go(func() {
				for range n / len(s.devices) {
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
	}))
}

// pass publishes messages of 100 bytes at QoS 0 to whom they come from, some at
// a time.
func (s *side) pass(b *testing.B, n int) {
	const workers, ahead = 4, 32
	var clients []*client
	for _, d := range s.devices[:workers] {
		c := must(d.dial(s.edge, dialing{}))(b)
		defer c.close()
		c.subscribe(b, d.topic("bench"))
		clients = append(clients, c)
	}
	s.passes = append(s.passes, s.measure(b, n, func() {
		var group sync.WaitGroup
		for _, c := range clients {
			message := packet(0x30, str(c.device.topic("bench"))+c.properties()+string(make([]byte, 100)))
			window := make(chan struct{}, ahead)
			group.Go(func() {
				for range n / workers {
					window <- struct{}{}
					if _, err := io.WriteString(c.conn, message); err != nil {
						b.Error(err)
						return
					}
				}
			})
			group.Go(func() {
				for range n / workers {
					select {
					case <-c.messages:
						<-window
					case <-c.closed:
						b.Errorf("%s: %s is closed", s.name, c.device.name)
						return
					case <-time.After(patience):
						b.Errorf("%s: %s waits for its messages", s.name, c.device.name)
						return
					}
				}
			})
		}
		group.Wait()
	}))
}

func pick(all []measure, of func(measure) float64) []float64 {
	var values []float64
	for _, m := range all {
		values = append(values, of(m))
	}
	return values
}

// quartile gives the first, the second (the median), or the third.
func quartile(values []float64, n int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)*n/4]
}

func spread(values []float64, format string) string {
	return fmt.Sprintf(format+" ("+format+" to "+format+")", quartile(values, 2), quartile(values, 1), quartile(values, 3))
}
