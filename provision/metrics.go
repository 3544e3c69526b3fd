package provision

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/trust"
)

// maxHubLabels bounds the values of the label "hub"; the hubs beyond the first
// so many are counted together as "other".
const maxHubLabels = 100

// metrics are the Gate's figures. Names and labels are a contract.
type metrics struct {
	checks      *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	provisioned *prometheus.CounterVec
	store       *prometheus.HistogramVec
	verdicts    *prometheus.CounterVec
	recognized  prometheus.Counter // of verdicts
	hooks       *prometheus.HistogramVec
	outage      map[Protocol]prometheus.Counter
	unseen      prometheus.Counter
	decided     map[Protocol]map[Reason]decided

	mu     sync.Mutex
	labels map[string]struct{} // hub names seen as label values
}

// decided are the figures of one reason on one protocol: looking them up by
// their labels would cost more than to count.
type decided struct {
	checks   prometheus.Counter
	duration prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, g *Gate) (*metrics, error) {
	m := &metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubgate_checks_total",
			Help: "Checks decided, by protocol, decision and reason.",
		}, []string{"protocol", "decision", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "hubgate_check_duration_seconds",
			Help:                            "Time from the arrival of a check to its decision.",
			Buckets:                         []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"protocol", "decision"}),
		provisioned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubgate_devices_provisioned_total",
			Help: "Devices that created themselves, by hub.",
		}, []string{"hub"}),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hubgate_store_duration_seconds",
			Help:    "Time of a store operation, by operation and outcome.",
			Buckets: []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1, 2.5},
		}, []string{"operation", "outcome"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubgate_verdict_cache_requests_total",
			Help: "Chain verifications asked of the verdict cache, by result.",
		}, []string{"result"}),
		hooks: newHookMetric(),
		unseen: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubgate_source_network_refusals_total",
			Help: "Connections that were refused unseen, as too many certificates of their source network had been refused.",
		}),
		labels: make(map[string]struct{}),
	}
	// Every series exists from the start, so that a rate over it is right when
	// it first counts.
	m.decided = make(map[Protocol]map[Reason]decided)
	for _, protocol := range []Protocol{HTTP, TCP} {
		m.decided[protocol] = make(map[Reason]decided)
		for _, r := range Reasons() {
			outcome := r.Outcome().String()
			m.decided[protocol][r] = decided{
				m.checks.WithLabelValues(string(protocol), outcome, string(r)),
				m.duration.WithLabelValues(string(protocol), outcome),
			}
		}
	}
	m.recognized = m.verdicts.WithLabelValues(trust.Hit.String())
	outage := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hubgate_outage_admissions_total",
		Help: "Known devices that were admitted by what was known of them, as the store did not answer, by protocol.",
	}, []string{"protocol"})
	m.outage = map[Protocol]prometheus.Counter{HTTP: outage.WithLabelValues(string(HTTP)), TCP: outage.WithLabelValues(string(TCP))}
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hubgate_store_proof_age_seconds",
		Help: "Age of the last proof that what is known of the store is current, in its oldest partition; +Inf before the first. Beyond the outage window nobody is admitted.",
	}, func() float64 { return g.devices.proofAge(g.now()) })
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hubgate_store_up",
		Help: "1 while the store's change feed is proven to be current in every partition.",
	}, func() float64 {
		if g.devices.allFresh(g.now()) {
			return 1
		}
		return 0
	})
	collectors := []prometheus.Collector{
		m.checks, m.duration, m.provisioned, m.store, m.verdicts, m.hooks, m.unseen, outage, age, up, anchorExpiry{g},
	}
	if g.denials != nil {
		collectors = append(collectors, g.denials.folded, g.denials.dropped)
	}
	var errs []error
	for _, c := range collectors {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// hubLabel bounds the label values.
func (m *metrics) hubLabel(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.labels[name]; ok {
		return name
	}
	if len(m.labels) >= maxHubLabels {
		return "other"
	}
	m.labels[name] = struct{}{}
	return name
}

// labelled returns the hubs that have a label of their own, and gives it to hubs
// that may have one.
func (g *Gate) labelled() []*liveHub {
	names, full := g.metrics.labelNames()
	if full {
		return g.hubs.named(names)
	}
	return slices.DeleteFunc(g.hubs.all(), func(h *liveHub) bool { return g.metrics.hubLabel(h.Name) != h.Name })
}

// labelNames returns the hub names that are label values, and whether there can be no
// others.
func (m *metrics) labelNames() (names []string, full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.labels)), len(m.labels) >= maxHubLabels
}

// storeOutcome is the label of a store operation's result. What the store
// answered on purpose is "ok", even if the answer is no.
func storeOutcome(err error) string {
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
		return "ok"
	case errors.Is(err, ErrHubChanged):
		return "conflict"
	default:
		return "error"
	}
}

func (m *metrics) observeStore(operation string, start time.Time, err error) {
	m.store.WithLabelValues(operation, storeOutcome(err)).Observe(time.Since(start).Seconds())
}

func (m *metrics) observe(protocol Protocol, d Decision, took time.Duration) {
	if of, ok := m.decided[protocol][d.Reason]; ok {
		of.checks.Inc()
		of.duration.Observe(took.Seconds())
	}
	if d.Outage && d.Allowed() {
		m.outage[protocol].Inc()
	}
}

// anchorExpiry reports when each trust anchor expires. The hubs are those that
// have a label of their own.
type anchorExpiry struct{ gate *Gate }

var anchorExpiryDesc = prometheus.NewDesc("hubgate_trust_anchor_expiry_timestamp_seconds",
	"When a hub's trust anchor expires, Unix time.", []string{"hub", "fingerprint"}, nil)

// Describe implements prometheus.Collector.
func (anchorExpiry) Describe(ch chan<- *prometheus.Desc) { ch <- anchorExpiryDesc }

// Collect implements prometheus.Collector.
func (a anchorExpiry) Collect(ch chan<- prometheus.Metric) {
	for _, h := range a.gate.labelled() {
		told := make(map[trust.Fingerprint]struct{})
		for _, der := range h.Anchors {
			print := trust.FingerprintOfDER(der)
			outline, ok := trust.ReadOutline(der)
			if _, twice := told[print]; twice || !ok {
				continue
			}
			told[print] = struct{}{}
			ch <- prometheus.MustNewConstMetric(anchorExpiryDesc, prometheus.GaugeValue,
				float64(outline.NotAfter().Unix()), h.Name, print.String())
		}
	}
}
