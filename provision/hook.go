package provision

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/trust"
)

// hookPatience is how long the hooks of one check may take, all together.
const hookPatience = time.Second

// Hook asks somebody outside whether an unseen device may create itself. It is
// never asked of a known device.
type Hook interface {
	// Ask returns what the hook at that URL says. An error means that there is no
	// answer; then nothing is created. It returns when the context ends and is
	// safe for concurrent use.
	Ask(ctx context.Context, url string, q HookQuestion) (HookAnswer, error)
}

// HookQuestion is what a hook is told.
type HookQuestion struct {
	Hub        HubID
	HubName    string
	Device     DeviceID
	DeviceName string
	Leaf       []byte        // DER
	Issuer     trust.KeyHash // key of the CA that issued the leaf
	Anchor     trust.KeyHash // key of the trust anchor
	Source     string        // the device's address, "" if it is not known
	Decision   string
}

// HookAnswer is what a hook says. Message is for operators.
type HookAnswer struct {
	Allow   bool
	Message string
}

// HookVerdict is what the hooks of a check said: that all allow it, or what the
// first said that does not.
type HookVerdict struct {
	HookAnswer
	Err error // why one did not answer
}

// noHook is for a Gate that has none to ask.
type noHook struct{}

func (noHook) Ask(context.Context, string, HookQuestion) (HookAnswer, error) {
	return HookAnswer{}, errors.New("this hubgate asks no hooks")
}

// askedPerHub is how many first connections of a hub may wait for its hooks, as a
// part of all that may.
const askedPerHub = 8

// askInTurn asks the hooks, unless too many wait for theirs: a hook that does not
// answer holds up its hub's own devices, and no others. Nil: it did not ask.
func (g *Gate) askInTurn(ctx context.Context, h *liveHub, f *Facts, d Decision, id string) *HookVerdict {
	if h.asking.Add(1) > int32(max(1, cap(g.asking)/askedPerHub)) || !g.asking.enter() {
		h.asking.Add(-1)
		return nil
	}
	defer h.asking.Add(-1)
	defer g.asking.leave()
	return g.ask(ctx, f, d, id)
}

// ask asks the hooks of the rules that are for the device, one after the other,
// until one does not allow it.
func (g *Gate) ask(ctx context.Context, f *Facts, d Decision, id string) *HookVerdict {
	ctx, cancel := context.WithTimeout(ctx, hookPatience)
	defer cancel()
	q := HookQuestion{
		Hub: f.Hub.ID, HubName: f.Hub.Name, Device: d.Device, DeviceName: d.DeviceName,
		Leaf: f.Path.Leaf().Raw, Issuer: f.Identity.Issuer, Anchor: f.Identity.Anchor, Decision: id,
	}
	if f.Connection.Source.IsValid() {
		q.Source = f.Connection.Source.Unmap().String()
	}
	var last HookVerdict
	for _, url := range f.Rules.hooks(f.Identity.Anchor) {
		start := time.Now()
		last.HookAnswer, last.Err = g.hook.Ask(ctx, url, q)
		g.metrics.hooks.WithLabelValues(last.outcome()).Observe(time.Since(start).Seconds())
		if last.Err != nil || !last.Allow {
			break
		}
	}
	return &last
}

// outcome is the metric label.
func (v HookVerdict) outcome() string {
	switch {
	case v.Err != nil:
		return "unavailable"
	case v.Allow:
		return "allow"
	}
	return "deny"
}

func newHookMetric() *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "hubgate_admission_hook_duration_seconds",
		Help:    "Time that an admission hook took to answer, by what it said.",
		Buckets: []float64{5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1},
	}, []string{"outcome"})
	for _, outcome := range []string{"allow", "deny", "unavailable"} {
		h.WithLabelValues(outcome)
	}
	return h
}
