// Package crl gets the certificate revocation lists of hubs from where their
// owners say: files and addresses.
//
// It exists because a list is of use only while it is current. Each process reads
// every source of every hub again and again, earlier where the next list is due,
// and hands what it got to the store, where a list takes the place of the one
// before in one step, for all processes. So a source that gives an old list, or
// none, takes nothing away, here or elsewhere.
//
// What certificates themselves name as their distribution points is never asked:
// whoever made a certificate would choose what hubgate connects to.
package crl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// DefaultRefresh is how often a source is asked, unless the configuration says
// otherwise.
const DefaultRefresh = time.Hour

const (
	// look is how often it is looked whether a source is to be asked.
	look = time.Second
	// retryAfter is the longest pause after a source that failed.
	retryAfter = time.Minute
	// soonest is the shortest pause before a list that is about to be overdue is
	// looked for again.
	soonest = 30 * time.Second
	// timeout bounds the reading of one source.
	timeout = 30 * time.Second
)

// Gate tells of the hubs in force; *provision.Gate is one.
type Gate interface {
	// Attended are those that have lists or sources of them, among others.
	Attended() []provision.Hub
	Refresh(ctx context.Context, id provision.HubID) error
}

// Store keeps the lists. See provision.Store and provision.HubRegistry.
type Store interface {
	Partitions() int
	Learned(ctx context.Context, hub provision.HubID) ([][]byte, error)
	Revocations(ctx context.Context, hub provision.HubID) (provision.Revocations, error)
	UpdateRevocations(ctx context.Context, id provision.HubID, change func(*provision.Revocations) error, event func(provision.Hub) provision.Event) error
	AppendEvents(ctx context.Context, partition int, events []provision.Event) error
}

// Config is what a Fetcher is made of. Gate and Store are required.
type Config struct {
	Gate  Gate
	Store Store
	// Refresh is how often a source is asked. 0: DefaultRefresh.
	Refresh time.Duration
	// Networks are those of this machine or its neighbourhood that addresses set
	// through the API may lead to. Without any they lead to public ones only. A
	// declared hub's lead anywhere.
	Networks []netip.Prefix
	// Logger. Nil: slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Fetcher gets lists. Its zero value is of no use.
type Fetcher struct {
	config  Config
	log     *slog.Logger
	now     func() time.Time
	reader  *reader
	fetched *prometheus.CounterVec
	due     *dueMetric
	timeout time.Duration

	mu    sync.Mutex
	turns turns

	overdue map[overdue]struct{} // what was told of
}

// overdue is a list of which the next is due.
type overdue struct {
	hub    provision.HubID
	digest trust.Fingerprint
}

// New makes a Fetcher. Nothing runs before Run.
func New(c Config) (*Fetcher, error) {
	if c.Gate == nil || c.Store == nil {
		return nil, errors.New("crl: needs a gate and a store")
	}
	if c.Refresh == 0 {
		c.Refresh = DefaultRefresh
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	f := &Fetcher{
		config: c, log: c.Logger, now: c.Now, reader: newReader(c.Networks),
		fetched: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hubgate_crl_fetches_total",
			Help: "Readings of sources of certificate revocation lists, by result: new, unchanged, failed.",
		}, []string{"result"}),
		due: newDueMetric(), timeout: timeout,
		turns:   turns{hubs: make(map[provision.HubID]*turn)},
		overdue: make(map[overdue]struct{}),
	}
	for _, result := range []string{"new", "unchanged", "failed"} {
		f.fetched.WithLabelValues(result)
	}
	if err := errors.Join(c.Registerer.Register(f.fetched), c.Registerer.Register(f.due)); err != nil {
		return nil, fmt.Errorf("crl: metrics: %w", err)
	}
	return f, nil
}

// Run gets lists until the context ends, and returns its error.
func (f *Fetcher) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() { f.watch(ctx) })
	ended := make(chan struct{}, 1) // a reading, since it was last looked
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		hubs := f.config.Gate.Attended()
		f.keep(hubs)
		for again := true; again; {
			for w, ok := f.begin(hubs); ok; w, ok = f.begin(hubs) {
				working.Go(func() {
					f.fetch(ctx, w)
					select {
					case ended <- struct{}{}:
					default:
					}
				})
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ended:
			case <-tick.C:
				again = false
			}
		}
	}
}

func (f *Fetcher) keep(hubs []provision.Hub) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turns.keep(hubs)
}

func (f *Fetcher) begin(hubs []provision.Hub) (work, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turns.begin(hubs, f.now())
}

// fetch reads a source and stores what it gave.
func (f *Fetcher) fetch(ctx context.Context, w work) {
	h := w.hub
	limited, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	list, isNew, err := f.take(limited, h, w.source)
	if err != nil && ctx.Err() != nil {
		return // the process ends
	}
	result := "unchanged"
	switch {
	case err != nil:
		result = "failed"
	case isNew:
		result = "new"
		f.log.InfoContext(ctx, "a certificate revocation list is in force", "hub", h.Name, "hub_id", h.ID.String(), "source", w.source,
			"issuer", list.Name.String(), "number", list.Number.String(), "entries", len(list.Revoked), "next_update", list.NextUpdate)
	}
	f.fetched.WithLabelValues(result).Inc()
	if !f.end(w, list, err) {
		return
	}
	f.log.WarnContext(ctx, "a certificate revocation list could not be had", "hub", h.Name, "hub_id", h.ID.String(), "source", w.source, "error", err)
	f.tell(ctx, h, provision.ReasonCRLUnavailable, fmt.Sprintf("no certificate revocation list could be had from %s", w.source))
}

// end notes what came of reading a source, and reports whether that is a failure
// which was not told of.
func (f *Fetcher) end(w work, list *trust.CRL, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.turns.end(w)
	if known == nil {
		return false // it is no source any more
	}
	known.next = f.now().Add(f.pause(list, err))
	told := known.failure
	if known.failure = ""; err != nil {
		known.failure = err.Error()
	}
	return err != nil && known.failure != told
}

// take reads a source and stores its list, if that says anything new.
func (f *Fetcher) take(ctx context.Context, h provision.Hub, text string) (list *trust.CRL, isNew bool, err error) {
	data, err := f.reader.read(ctx, text, h.Declared != "")
	if err != nil {
		return nil, false, err
	}
	learned, err := f.config.Store.Learned(ctx, h.ID)
	if err != nil {
		return nil, false, err
	}
	if list, err = trust.ParseCRL(data, h.Authorities(learned)); err != nil {
		return nil, false, err
	}
	err = f.config.Store.UpdateRevocations(ctx, h.ID,
		func(r *provision.Revocations) error { return r.PutCRL(list, text, f.now()) },
		func(h provision.Hub) provision.Event { return provision.CRLAdded.OnHub(h, f.now()) })
	switch {
	case errors.Is(err, provision.ErrUnchanged):
		return list, false, nil
	case err != nil:
		return nil, false, err
	}
	if err := f.config.Gate.Refresh(ctx, h.ID); err != nil { // the change feed tells of it, too
		f.log.WarnContext(ctx, "a certificate revocation list is not in force here yet", "hub", h.Name, "error", err)
	}
	return list, true, nil
}

// pause is how long a source is left alone: until half of what is left before
// the next list is due, at most as long as is configured. It differs a little
// from one to the next, so that replicas and hubs do not ask all at once.
func (f *Fetcher) pause(list *trust.CRL, err error) time.Duration {
	p := f.config.Refresh
	switch {
	case err != nil:
		p = min(p, retryAfter)
	default:
		if left := list.NextUpdate.Sub(f.now()) / 2; left < p {
			p = min(p, max(left, soonest))
		}
	}
	return p - time.Duration(rand.Int64N(int64(p)/8+1))
}

// watch looks at the lists that hubs have until the context ends.
func (f *Fetcher) watch(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		f.check(ctx, f.config.Gate.Attended())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// check tells of lists of which the next is due, and measures when that is.
func (f *Fetcher) check(ctx context.Context, hubs []provision.Hub) {
	now := f.now()
	var measured []due
	there := make(map[overdue]struct{})
	for _, h := range hubs {
		for _, l := range h.Lists() {
			measured = append(measured, due{h.Name, l.Issuer.String(), l.NextUpdate})
			if !now.After(l.NextUpdate) {
				continue
			}
			o := overdue{h.ID, l.Digest}
			there[o] = struct{}{}
			if _, told := f.overdue[o]; told {
				continue
			}
			f.log.WarnContext(ctx, "a certificate revocation list is overdue", "hub", h.Name, "hub_id", h.ID.String(),
				"issuer", l.Name, "next_update", l.NextUpdate)
			f.tell(ctx, h, provision.ReasonCRLOverdue, fmt.Sprintf("a new certificate revocation list of %s was due at %s", l.Name, l.NextUpdate.UTC().Format(time.RFC3339)))
		}
	}
	f.overdue = there
	f.due.set(measured)
}

// tell appends a hub event. One that the store does not take is in the log.
func (f *Fetcher) tell(ctx context.Context, h provision.Hub, reason, message string) {
	e := provision.HubFailure(h, reason, message, f.now())
	if err := f.config.Store.AppendEvents(ctx, h.ID.Partition(f.config.Store.Partitions()), []provision.Event{e}); err != nil && ctx.Err() == nil {
		f.log.WarnContext(ctx, "an event about a certificate revocation list is lost", "hub", h.Name, "reason", reason, "error", err)
	}
}
