package crl

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSeries bounds the lists that are measured each; those of later hubs, in the
// order of names, are not.
const maxSeries = 500

var dueDesc = prometheus.NewDesc("hubgate_crl_next_update_timestamp_seconds",
	"When the next certificate revocation list of an issuer is due on a hub, Unix time.", []string{"hub", "issuer"}, nil)

// due is when the next list of an issuer is due.
type due struct {
	hub, issuer string
	at          time.Time
}

// dueMetric tells when lists are due, as of the last look.
type dueMetric struct {
	mu  sync.Mutex
	all []due
}

func newDueMetric() *dueMetric { return new(dueMetric) }

func (m *dueMetric) set(all []due) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = all[:min(len(all), maxSeries)]
}

// Describe implements prometheus.Collector.
func (m *dueMetric) Describe(ch chan<- *prometheus.Desc) { ch <- dueDesc }

// Collect implements prometheus.Collector.
func (m *dueMetric) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.all {
		ch <- prometheus.MustNewConstMetric(dueDesc, prometheus.GaugeValue, float64(d.at.Unix()), d.hub, d.issuer)
	}
}
