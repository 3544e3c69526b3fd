package events

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the figures of the relays. Names and labels are a contract; the
// label sink has the sinks of the configuration as values.
type metrics struct {
	relayed, failures, buried, lost *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, r *Relays) (*metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hubgate_events_" + name, Help: help}, []string{"sink"})
	}
	m := &metrics{
		relayed:  counter("relayed_total", "Events that a sink has taken."),
		failures: counter("delivery_failures_total", "Attempts to deliver events that failed."),
		buried:   counter("dead_letters_total", "Events that were given up, as the sink refuses them for good."),
		lost:     counter("lost_total", "Events that retention took before the sink had them."),
	}
	var errs []error
	for _, c := range []*prometheus.CounterVec{m.relayed, m.failures, m.buried, m.lost} {
		for _, relay := range r.relays {
			c.WithLabelValues(relay.name)
		}
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(append(errs, reg.Register(backlogs{r}))...)
}

// backlogs reports what the sinks do not have yet, of the partitions that this
// process relays: the sum over replicas is the whole.
type backlogs struct{ relays *Relays }

var (
	backlogDesc = prometheus.NewDesc("hubgate_events_backlog",
		"Events that the sink does not have yet, in the partitions that this process relays.", []string{"sink"}, nil)
	oldestDesc = prometheus.NewDesc("hubgate_events_oldest_age_seconds",
		"Age of the oldest event that is being delivered to the sink, 0 if none is.", []string{"sink"}, nil)
	ownedDesc = prometheus.NewDesc("hubgate_events_partitions",
		"Partitions with events that this process relays to the sink.", []string{"sink"}, nil)
)

// Describe implements prometheus.Collector.
func (backlogs) Describe(ch chan<- *prometheus.Desc) {
	ch <- backlogDesc
	ch <- oldestDesc
	ch <- ownedDesc
}

// Collect implements prometheus.Collector.
func (b backlogs) Collect(ch chan<- prometheus.Metric) {
	now := b.relays.now()
	for _, relay := range b.relays.relays {
		backlog, oldest, owned := uint64(0), 0.0, 0
		relay.each(func(w *worker) {
			s := w.state()
			backlog += s.backlog
			if s.owns {
				owned++
			}
			if !s.oldest.IsZero() {
				oldest = max(oldest, now.Sub(s.oldest).Seconds())
			}
		})
		ch <- prometheus.MustNewConstMetric(backlogDesc, prometheus.GaugeValue, float64(backlog), relay.name)
		ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, oldest, relay.name)
		ch <- prometheus.MustNewConstMetric(ownedDesc, prometheus.GaugeValue, float64(owned), relay.name)
	}
}
