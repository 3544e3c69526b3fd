package authz

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are of the port itself; what was decided is the Gate's to count.
type metrics struct {
	dropped prometheus.Counter
	panics  prometheus.Counter
	refused prometheus.Counter
	open    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, inFlight func() float64) (*metrics, error) {
	m := &metrics{
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubgate_checks_dropped_total",
			Help: "Checks not evaluated because Envoy had stopped waiting when their turn came.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubgate_checks_panicked_total",
			Help: "Checks answered with an internal fault because reading them or answering panicked.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubgate_authz_connections_refused_total",
			Help: "Connections of Envoys closed at once because of authz.max_connections.",
		}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hubgate_authz_connections",
			Help: "Open connections of Envoys.",
		}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(
		r.Register(m.dropped), r.Register(m.panics), r.Register(m.refused), r.Register(m.open),
		r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "hubgate_checks_in_flight",
			Help: "Checks being evaluated; authz.max_in_flight bounds them.",
		}, inFlight)),
	)
}
