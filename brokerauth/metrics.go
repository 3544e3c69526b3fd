package brokerauth

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/provision"
)

type metrics struct {
	checks   *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubgate_broker_checks_total",
			Help: "Questions of MQTT brokers answered, by broker, action and decision; each topic of a SUBSCRIBE is one.",
		}, []string{"broker", "action", "decision"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hubgate_broker_check_duration_seconds",
			Help:    "Time from the arrival of a broker's question to its answer.",
			Buckets: []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1},
		}, []string{"broker"}),
	}
	for _, broker := range []string{"mosquitto", "emqx", "vernemq"} {
		for _, a := range actions {
			for _, outcome := range []provision.Outcome{provision.Allow, provision.Deny, provision.Fault} {
				m.checks.WithLabelValues(broker, string(a), outcome.String())
			}
		}
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.checks), reg.Register(m.duration))
}
