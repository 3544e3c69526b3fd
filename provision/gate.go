package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/hubgate/hubgate/trust"
)

// GateConfig is what a Gate is made of.
type GateConfig struct {
	// Store is where hubs and devices are.
	Store Store
	// Domain is the DNS domain under which SNI and authority name a hub:
	// `<hub ID or name>.<domain>`. Empty: hubs are found by hint and issuer.
	Domain string
	// Logger gets the lines about decisions. Nil: slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Sessions is told of every connection that goes on. Nil: nobody is.
	Sessions Tracker
	// Changes is told of what may concern whoever is connected. Nil: nobody is.
	Changes Observer
	// Denials takes the events that tell of refusals. Nil: none are raised.
	Denials Announcer
	// FoldWindow is how long refusals of one hub, reason and source network are
	// gathered into one event. 0: DefaultFoldWindow.
	FoldWindow time.Duration
	// FoldNetworks bounds the source networks that are told apart per hub; the
	// refusals of others are gathered by reason alone. 0: DefaultFoldNetworks.
	FoldNetworks int
	// Hook asks the hooks that admission rules name. Nil: none can be asked, and
	// where a rule names one, nothing is created.
	Hook Hook
	// Warnings takes the events that tell of trust anchors that expire. Nil: none
	// are raised.
	Warnings Warnings
	// FailuresPerMinute bounds how many certificates of one source network (/24, or
	// /56 of IPv6) are refused after they were looked at; beyond it those that
	// this process does not recognise are refused unseen. It is for where Source is
	// the device's own address. 0: no bound.
	FailuresPerMinute int
	// CachedDevices bounds the devices kept in memory. 0: 100,000.
	CachedDevices int
	// CachedVerdicts bounds the chain verdicts kept in memory. 0: 50,000. A
	// fifth as many refusals are kept.
	CachedVerdicts int
	// MaxInFlight is how many checks the edges let in at once. Half of them may be
	// of devices that are not recognised, and a quarter may create one; those
	// beyond are refused as overloaded, so that a flood of strangers leaves room
	// for the devices that are known. 0: DefaultMaxInFlight.
	MaxInFlight int
	// LogAll logs every decision. Else those that may come in floods are logged
	// in part: 10 a second about known devices, 200 about denials and as many
	// about faults.
	LogAll bool
	// OutageWindow is how long devices that the store had confirmed stay
	// admitted after the last proof that their records are current, while the
	// store does not answer. 0: DefaultOutageWindow. Negative: not at all.
	OutageWindow time.Duration
}

// DefaultOutageWindow is the outage window of a GateConfig that has none.
const DefaultOutageWindow = 10 * time.Minute

// DefaultMaxInFlight is GateConfig.MaxInFlight where that is 0.
const DefaultMaxInFlight = 1024

// Gate decides who connects. Its methods are safe for concurrent use.
type Gate struct {
	store    Store
	domain   string // lowercase, without edge dots; "" if none
	log      *slog.Logger
	now      func() time.Time
	outage   time.Duration
	metrics  *metrics
	hubs     *directory
	devices  *deviceCache
	verdicts *trust.Cache
	seen     *recognition
	feed     *feed
	survey   survey
	sessions Tracker
	lines    *decisionLines
	denials  *denials // nil: none are told
	hook     Hook
	failures *failures // nil: no bound
	warnings Warnings  // nil: none are raised
	learning singleflight.Group
	// unrecognised, creating and asking bound the checks that do what their names
	// say.
	unrecognised, creating, asking room
	courtesy                       *courtesy

	hubLocks []sync.Mutex // by partition

	nameIsHub func(string) bool // isHub, made once

	// declaring serializes Declare; declared are the hubs it set last.
	declaring sync.Mutex
	declared  map[HubID]struct{}
	round     rounds
}

// NewGate makes a Gate. Nothing runs before Run.
func NewGate(c GateConfig) (*Gate, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CachedDevices == 0 {
		c.CachedDevices = 100_000
	}
	if c.CachedVerdicts == 0 {
		c.CachedVerdicts = 50_000
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.OutageWindow == 0 {
		c.OutageWindow = DefaultOutageWindow
	}
	if c.Changes == nil {
		c.Changes = unobserved{}
	}
	if c.Hook == nil {
		c.Hook = noHook{}
	}
	devices, err := newDeviceCache(c.Store.Partitions(), c.CachedDevices)
	if err != nil {
		return nil, fmt.Errorf("device cache: %w", err)
	}
	polite, err := newCourtesy()
	if err != nil {
		return nil, err
	}
	verdicts, err := trust.NewCache(trust.CacheConfig{
		Positive: c.CachedVerdicts, Negative: max(1, c.CachedVerdicts/5), Run: polite.do,
	})
	if err != nil {
		return nil, fmt.Errorf("verdict cache: %w", err)
	}
	seen, err := newRecognition(c.CachedVerdicts, max(1, c.CachedVerdicts/5))
	if err != nil {
		return nil, err
	}
	g := &Gate{
		store:    c.Store,
		domain:   strings.Trim(strings.ToLower(c.Domain), "."),
		log:      c.Logger,
		now:      c.Now,
		outage:   c.OutageWindow,
		hubs:     newDirectory(c.Store.Partitions()),
		devices:  devices,
		verdicts: verdicts,
		seen:     seen,
		sessions: c.Sessions,
		hook:     c.Hook,
		warnings: c.Warnings,
		lines:    newDecisionLines(c.LogAll),
		survey:   newSurvey(),
		feed:     newFeed(devices, c.Store.Partitions(), c.Changes),
		hubLocks: make([]sync.Mutex, c.Store.Partitions()),

		unrecognised: newRoom(c.MaxInFlight / 2),
		creating:     newRoom(c.MaxInFlight / 4),
		asking:       newRoom(c.MaxInFlight / 4),
		courtesy:     polite,
	}
	if c.FailuresPerMinute > 0 {
		if g.failures, err = newFailures(c.FailuresPerMinute); err != nil {
			return nil, err
		}
	}
	if c.Denials != nil {
		g.denials = newDenials(c)
	}
	g.nameIsHub = g.isHub
	if g.metrics, err = newMetrics(c.Registerer, g); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return g, nil
}

// Admit decides whether a connection goes on, and creates the device if this is
// its first. It always answers, and counts and logs its answer, unless the
// connection is a dry run.
func (g *Gate) Admit(ctx context.Context, c Connection) (d Decision) {
	start := time.Now()
	id := newIDAt(start)
	current := g.round.enter()
	defer current.leave()
	defer func() {
		if p := recover(); p != nil {
			d = Decision{Reason: Internal, Detail: fmt.Sprintf("panic: %v\n%s", p, debug.Stack())}
		}
		d.ID = id
		if d.Reason.Outcome() == Fault && d.RetryAfter == 0 {
			d.RetryAfter = time.Second
		}
		if !c.DryRun {
			took := time.Since(start)
			g.metrics.observe(c.Protocol, d, took)
			g.logDecision(ctx, &c, &d, start, took)
			if d.Reason.Outcome() == Deny {
				g.denied(c, d)
			}
		}
	}()
	return g.admit(ctx, c, id)
}

// maxAttempts bounds how often a check is decided anew because its hub changed
// under it.
const maxAttempts = 4

func (g *Gate) admit(ctx context.Context, c Connection, id string) Decision {
	for range maxAttempts {
		f, h := g.gather(ctx, &c)
		d, decided := Decide(f)
		if !decided {
			if !g.presumeNew(f, h, d) {
				f.Device, f.Outage, f.StoreErr = g.lookUp(ctx, h, d.Device, d.DeviceName, f.alone() && f.stranger)
				f.Looked = true
			}
			g.seek(ctx, f, d)
			d, decided = Decide(f)
		}
		if !decided { // all but the hooks let the device be created
			if f.Asked = g.askInTurn(ctx, h, f, d, id); f.Asked == nil {
				return crowded(d, "too many first connections of the hub, or of all, wait for admission hooks")
			}
			d, _ = Decide(f)
		}
		if d.Allowed() && (!c.DryRun || d.Reason == DeviceProvisioned) {
			// A first connection changes the store, and perhaps the decision.
			first := g.create
			if d.Reason == DeviceKnown {
				first = g.bind
			}
			var again bool
			if d, again = first(ctx, f, d, id); again {
				continue
			}
		}
		if d.Reason == DeviceKeyChanged && !c.DryRun {
			g.awaitApproval(ctx, f, id)
		}
		if !d.Allowed() {
			g.countFailure(f)
			g.seen.disown(f)
		}
		if !d.Allowed() || c.DryRun {
			return d
		}
		g.seen.own(f)
		if !f.learned {
			g.learn(ctx, h, f.Path)
		}
		return g.connect(ctx, f, d)
	}
	return Decision{Reason: StoreUnavailable, Detail: fmt.Sprintf("the hub changed %d times during the check", maxAttempts)}
}

// gather collects the facts that need no look at devices.
func (g *Gate) gather(ctx context.Context, c *Connection) (*Facts, *liveHub) {
	f := &Facts{Connection: *c, Now: g.now(), NameIsHub: g.nameIsHub}
	if c.Problem != nil {
		return f, nil
	}
	var h *liveHub
	if !c.TLS {
		h = g.findInsecure(ctx, f)
	} else if r, m := g.recognize(ctx, f); r != nil {
		h, f.stranger = r.hub, f.alone() && !r.owned
		if f.stranger {
			f.Limited = g.limited(f)
		}
		if r.owned {
			f.remembered = r
		}
	} else if f.Limited = g.limited(f); f.Limited > 0 {
		return f, nil
	} else {
		if !c.DryRun {
			if !g.unrecognised.enter() {
				f.Connection.Problem = &Problem{Overloaded, errNoPlace.Error()}
				return f, nil
			}
			defer g.unrecognised.leave()
		}
		generation := g.hubs.generation.Load() // before anything is looked up in it
		if err := g.courtesy.do(ctx, func() { parse(f) }); err != nil {
			found := chainFinding(err, &Decision{})
			f.Connection.Problem = &Problem{found.reason, found.detail}
			return f, nil
		}
		h = g.examine(ctx, f)
		f.stranger = true
		f.remembered = g.remember(m, f, h, generation)
	}
	if h != nil {
		f.Hub, f.Rules = h.Hub, h.rules
	}
	return f, h
}

// parse decodes and parses what the connection brought, if it can be.
func parse(f *Facts) {
	c := &f.Connection
	if c.Evidence != nil {
		c.Evidence.Read(c)
	}
	if c.Problem == nil && len(c.Leaf) > 0 {
		f.Chain, f.ChainErr = trust.ParseChain(c.Leaf, c.Presented)
	}
}

// examine finds the chain's hub and verifies it there.
func (g *Gate) examine(ctx context.Context, f *Facts) *liveHub {
	if f.Chain == nil {
		return nil
	}
	h := g.findHub(ctx, &f.Connection, f)
	if h != nil && f.PathErr != nil {
		f.Identity = identifyAlone(f, h.Hub)
		f.learned = f.Identity != nil
	}
	return h
}

// readThrough returns the hub as it is now: from memory while the change feed
// proves it current, else from the store, nil if it is gone. While the store
// does not answer, what was known last counts for the outage window, unless the
// feed has told of a change before it fell silent.
func (g *Gate) readThrough(ctx context.Context, h *liveHub, now time.Time) (*liveHub, error) {
	partition := int(h.slot) % len(g.devices.partitions)
	if g.feed.current(h.ID, partition) && g.devices.isFresh(partition, now, freshFor) {
		// The directory is current; h may have been found in it just before it
		// was read anew.
		return g.hubs.id(h.ID), nil
	}
	// h may have been found long ago, and the directory have learned of a change
	// that neither the feed nor the store can tell of now.
	usable := g.devices.isFresh(partition, now, g.outageOf(h)) && !g.feed.told(h.ID)
	if h = g.hubs.id(h.ID); h == nil {
		return nil, nil //nolint:nilnil // it is gone
	}
	start := time.Now()
	read, cancel := patience(ctx, usable)
	defer cancel()
	stored, err := g.store.Hub(read, h.ID)
	g.metrics.observeStore("hub", start, err)
	switch {
	case err == nil && stored.Version == h.Version:
		return h, nil
	case errors.Is(err, ErrNotFound) && h.Declared != "":
		return h, nil // which is for its file to say
	case err == nil, errors.Is(err, ErrNotFound):
		return g.reload(ctx, h.ID)
	case noAnswer(err) && usable:
		return h, nil
	}
	return nil, err
}

// outageOf is how long what was known of a hub counts while the store does not
// answer.
func (g *Gate) outageOf(h *liveHub) time.Duration {
	if !h.Policy.servesOutages() {
		return freshFor
	}
	return g.outage
}

// lookUp returns the device, nil if the hub does not know it, and whether the
// store did not answer and it is what was known before.
//
// What a stranger has looked up takes one of the places of strangers.
func (g *Gate) lookUp(ctx context.Context, h *liveHub, id DeviceID, name string, stranger bool) (_ *Device, outage bool, _ error) {
	if d, ok := g.devices.get(id, g.now(), freshFor); ok {
		return d, false, nil
	}
	if stranger {
		if !g.unrecognised.enter() {
			return nil, false, errNoPlace
		}
		defer g.unrecognised.leave()
	}
	known, usable := g.devices.get(id, g.now(), g.outageOf(h))
	mark := g.devices.reading(id)
	start := time.Now()
	read, cancel := patience(ctx, usable)
	defer cancel()
	stored, err := g.store.Device(read, h.ID, name)
	g.metrics.observeStore("device", start, err)
	switch {
	case err == nil:
		h.knew.Store(true)
		g.devices.put(&stored, mark)
		return &stored, false, nil
	case errors.Is(err, ErrNotFound):
		h.knew.Store(false)
		return nil, false, nil
	case noAnswer(err) && usable:
		return known, true, nil
	}
	return nil, false, err
}

// outagePatience is how long a check waits for a store that has not been heard
// of lately, if what it would read is known from before.
const outagePatience = 100 * time.Millisecond

// patience bounds a read whose answer the Gate could do without: a store that
// hangs must not keep a known device waiting until Envoy gives up.
func patience(ctx context.Context, usable bool) (context.Context, context.CancelFunc) {
	if !usable {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, outagePatience)
}

// noAnswer tells whether the store did not answer, or not in time.
func noAnswer(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}
