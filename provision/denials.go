package provision

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of the folding of denials; see GateConfig.
const (
	DefaultFoldWindow   = time.Minute
	DefaultFoldNetworks = 64
	// maxFolds bounds the source networks that are told apart, over all hubs.
	// Beyond them there is one fold per hub and reason.
	maxFolds = 8192
	// maxPending bounds the events that wait for the store.
	maxPending = 4096
	// appendBatch bounds the events that are stored in one step.
	appendBatch = 256
	// denialTick is how often what waits is stored.
	denialTick = 100 * time.Millisecond
	// maxDetail bounds what of a decision's detail is in an event, in runes: it
	// holds text that a device sent.
	maxDetail = 200
)

// denials turns refusals into hub events. A check only notes its refusal, in
// memory; the events are stored later, many at once. So a refusal is no
// promise: what was noted when the process dies, or when the store stays away
// for long, is not told, and a metric counts the latter.
//
// Floods are folded: of refusals with one hub, reason and source network, the
// first is told at once, and then how many there were, once per window. The
// state is bounded: a hub that is refused from more networks than are told apart
// gets one fold for all others.
type denials struct {
	store      Announcer
	partitions int
	window     time.Duration
	networks   int
	now        func() time.Time
	log        *slog.Logger
	folded     prometheus.Counter
	dropped    prometheus.Counter

	mu      sync.Mutex
	folds   map[foldKey]*fold
	of      map[HubID]int // networks told apart
	total   int           // of them
	pending []Event
	swept   time.Time

	flushing sync.Mutex // one flush at a time keeps the order
}

// foldKey is what refusals have in common that are told as one. The network is
// zero for all that are not told apart.
type foldKey struct {
	hub     HubID
	reason  Reason
	network netip.Prefix
}

// fold is one flood.
type fold struct {
	since time.Time // when it was last told
	count int       // since then
	last  denial
	// sources and devices that differ are not named.
	sources, devices bool
}

// denial is what an event tells of a refusal.
type denial struct {
	hubName    string
	device     DeviceID
	deviceName string
	source     netip.Addr
	decision   string
	detail     string
}

func newDenials(c GateConfig) *denials {
	return &denials{
		store: c.Denials, partitions: c.Store.Partitions(), now: c.Now, log: c.Logger,
		window: cmp.Or(c.FoldWindow, DefaultFoldWindow), networks: cmp.Or(c.FoldNetworks, DefaultFoldNetworks),
		folded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubgate_denials_folded_total",
			Help: "Denials that were told only in the count of a later event.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hubgate_denial_events_dropped_total",
			Help: "Events of denials that were dropped, as the store did not take them in time.",
		}),
		folds: make(map[foldKey]*fold), of: make(map[HubID]int),
	}
}

// networkOf is the source network that an address is folded into.
func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // an address that is none has no network
	return p
}

// note notes a refusal. It does no I/O.
func (n *denials) note(hub HubID, hubName string, source netip.Addr, d Decision) {
	what := denial{hubName, d.Device, d.DeviceName, source, d.ID, d.Detail}
	// A fold keeps it for long, and a device may have had a say in its length.
	if most := maxDetail * utf8.UTFMax; len(what.detail) > most {
		what.detail = strings.Clone(what.detail[:most])
	}
	key := foldKey{hub, d.Reason, networkOf(source)}
	now := n.now()
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.folds[key]
	if f == nil && (n.total >= maxFolds || n.of[hub] >= n.networks) {
		key.network = netip.Prefix{}
		f = n.folds[key]
	}
	if f != nil {
		n.folded.Inc()
		if f.count > 0 {
			f.sources = f.sources || f.last.source != what.source
			f.devices = f.devices || f.last.device != what.device
		}
		f.count++
		f.last = what
		return
	}
	if key.network.IsValid() {
		n.of[hub]++
		n.total++
	}
	n.folds[key] = &fold{since: now, last: what}
	n.put(key.event(&fold{count: 1, last: what}, now))
}

// put has the event stored soon.
func (n *denials) put(e Event) {
	if len(n.pending) >= maxPending {
		n.dropped.Inc()
		return
	}
	n.pending = append(n.pending, e)
}

// sweep tells of the floods whose window has ended, or of all, and forgets those
// that are over.
func (n *denials) sweep(now time.Time, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !all && now.Sub(n.swept) < n.window/60 {
		return
	}
	n.swept = now
	for key, f := range n.folds {
		if !all && now.Sub(f.since) < n.window {
			continue
		}
		if f.count > 0 {
			n.put(key.event(f, now))
			*f = fold{since: now, last: f.last}
			continue
		}
		delete(n.folds, key)
		if key.network.IsValid() {
			n.total--
			if n.of[key.hub]--; n.of[key.hub] == 0 {
				delete(n.of, key.hub)
			}
		}
	}
}

// event tells of so many refusals.
func (k foldKey) event(f *fold, now time.Time) Event {
	e := PlatformEvent(string(k.reason), SeverityError, denialMessage(k.reason, f.last.detail), f.count, now)
	e.Decision = f.last.decision
	if !k.hub.IsZero() {
		e.Hub, e.ObjectID, e.ObjectName = k.hub, k.hub.String(), f.last.hubName
		if f.last.deviceName != "" && !f.devices {
			e.ObjectType, e.ObjectID, e.ObjectName = ObjectDevice, f.last.device.String(), f.last.deviceName
		}
	}
	switch {
	case !f.sources && f.last.source.IsValid():
		e.SourceAddress = f.last.source.Unmap().String()
	case k.network.IsValid():
		e.SourceAddress = k.network.String()
	}
	return e
}

// denialMessage is the event's sentence: the fixed one, and of certificates what
// is wrong with them.
func denialMessage(r Reason, detail string) string {
	if r == ReasonSessionNotEnded {
		return detail
	}
	if !strings.HasPrefix(string(r), "certificate_") && !strings.HasPrefix(string(r), "chain_") {
		return r.Message()
	}
	return "invalid device certificate: " + cmp.Or(plain(detail), r.Message())
}

// plain is text for an event of what somebody wrote into a certificate: cut
// short, and without what is not seen.
func plain(text string) string {
	runes := []rune(strings.ToValidUTF8(text, "\uFFFD"))
	if len(runes) > maxDetail {
		runes = append(runes[:maxDetail], '…')
	}
	for i, c := range runes {
		if !unicode.IsGraphic(c) {
			runes[i] = ' '
		}
	}
	return strings.TrimSpace(string(runes))
}

// run stores events until the context ends.
func (n *denials) run(ctx context.Context) error {
	tick := time.NewTicker(denialTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		n.sweep(n.now(), false)
		if err := n.flush(ctx); err != nil && ctx.Err() == nil {
			n.log.DebugContext(ctx, "storing events of denials failed, trying again", "error", err)
		}
	}
}

// flush stores what waits. What could not be stored waits on.
func (n *denials) flush(ctx context.Context) error {
	n.flushing.Lock()
	defer n.flushing.Unlock()
	n.mu.Lock()
	waiting := n.pending
	n.pending = nil
	n.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	partitions := make(map[int][]Event)
	for _, e := range waiting {
		p := e.Hub.Partition(n.partitions)
		partitions[p] = append(partitions[p], e)
	}
	var failed []Event
	var failure error
	for p, events := range partitions {
		for len(events) > 0 && failure == nil {
			some := events[:min(len(events), appendBatch)]
			limited, cancel := context.WithTimeout(ctx, outagePatience*20)
			err := n.store.AppendEvents(limited, p, some)
			cancel()
			if err != nil {
				failure = err
				break
			}
			events = events[len(some):]
		}
		failed = append(failed, events...)
	}
	if len(failed) == 0 {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	later := n.pending
	n.pending = slices.Grow(failed, len(later)) // older ones first
	for _, e := range later {
		n.put(e)
	}
	return failure
}

// denied notes a refusal for a hub event, of the hub that the check found, or
// that the connection names.
func (g *Gate) denied(c Connection, d Decision) {
	if g.denials == nil {
		return
	}
	hub, name := d.Hub, d.HubName
	if hub.IsZero() {
		var h *liveHub
		if c.HubHint != "" {
			h = g.hubs.find(c.HubHint)
		} else if label, ok := g.label(c.SNI); ok {
			h = g.hubs.find(label)
		}
		if h != nil {
			hub, name = h.ID, h.Name
		}
	}
	g.denials.note(hub, name, c.Source, d)
}

// Unended raises the event that a session could not be ended. It is folded as
// denials are: an operator may disable a hub of a thousand devices.
func (g *Gate) Unended(s Session) {
	if g.denials == nil {
		return
	}
	h, _ := g.Hub(s.Hub.String()) // of one that is gone only the ID is told
	g.denials.note(s.Hub, h.Name, s.Source, Decision{
		Reason: ReasonSessionNotEnded, Device: s.Device, DeviceName: s.DeviceName,
		Detail: fmt.Sprintf("session could not be ended (%s): its Envoy has not hubgate's library", s.Unended),
	})
}

// FlushDenials stores the events of all denials so far, folded ones included:
// for the end of the process.
func (g *Gate) FlushDenials(ctx context.Context) error {
	if g.denials == nil {
		return nil
	}
	g.denials.sweep(g.now(), true)
	return g.denials.flush(ctx)
}
