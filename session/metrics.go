package session

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/provision"
)

// maxHubLabels bounds the values of the label "hub"; the hubs beyond the first
// so many are counted together as "other".
const maxHubLabels = 100

// otherHubs is that label.
const otherHubs = "other"

type metrics struct {
	ended   *prometheus.CounterVec
	took    prometheus.Histogram
	dropped prometheus.Counter
	refused prometheus.Counter
}

func newMetrics(r prometheus.Registerer, t *Tracker) (*metrics, error) {
	m := &metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubgate_sessions_ended_total",
			Help: "Sessions that hubgate ended, by reason.",
		}, []string{"reason"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "hubgate_session_end_duration_seconds",
			Help:    "Time from the order to end a session to the word that its connection is closed.",
			Buckets: []float64{1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1, 5, 15},
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubgate_session_writes_dropped_total",
			Help: "Sessions not written at their check because too many waited; their Envoy tells of them later.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubgate_links_refused_total",
			Help: "Links of Envoys closed because of a limit.",
		}),
	}
	for _, reason := range []provision.EndReason{
		provision.EndHubGone, provision.EndHubDisabled, provision.EndDeviceGone, provision.EndDeviceDisabled,
		provision.EndAnchorRemoved, provision.EndElsewhere, provision.EndOrdered,
	} {
		m.ended.WithLabelValues(string(reason))
	}
	if r == nil {
		return m, nil
	}
	gauge := func(name, help string, value func() int) error {
		return r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			t.mu.Lock()
			defer t.mu.Unlock()
			return float64(value())
		}))
	}
	return m, errors.Join(
		r.Register(m.ended), r.Register(m.took), r.Register(m.dropped), r.Register(m.refused),
		r.Register(sessionsPerHub{t}),
		gauge("hubgate_links", "Envoys linked to this process.", func() int { return len(t.links) }),
		gauge("hubgate_sessions_held", "Connections of MQTT that wait until an older one of their device is closed, or it is known that there is none.",
			func() int { return len(t.held) }),
		gauge("hubgate_sessions_unsettled", "Open connections that the store could not be told of yet.",
			func() int { return len(t.unsettled) }),
	)
}

// sessionsPerHub counts the connections of known devices whose Envoys are
// linked, or log, to this process.
type sessionsPerHub struct{ tracker *Tracker }

var sessionsDesc = prometheus.NewDesc("hubgate_sessions",
	"Open connections of devices, by hub; of the Envoys that are linked to this process.", []string{"hub"}, nil)

// Describe implements prometheus.Collector.
func (sessionsPerHub) Describe(ch chan<- *prometheus.Desc) { ch <- sessionsDesc }

// Collect implements prometheus.Collector.
func (s sessionsPerHub) Collect(ch chan<- prometheus.Metric) {
	counts := map[string]int{}
	s.tracker.mu.Lock()
	for name := range s.tracker.labels {
		counts[name] = 0
	}
	for _, h := range s.tracker.hubs {
		name := h.name
		if _, ok := s.tracker.labels[name]; !ok {
			name = otherHubs
		}
		counts[name] += len(h.connections)
	}
	s.tracker.mu.Unlock()
	for name, n := range counts {
		ch <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(n), name)
	}
}
