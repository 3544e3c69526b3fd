package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/provision"
)

const (
	// callTimeout bounds each call of the store.
	callTimeout = 2 * time.Second
	// retryPause is the pause before what the store did not do is tried again.
	retryPause = 500 * time.Millisecond
	// complaintPause is the pause between two log lines about it.
	complaintPause = time.Minute
	// activityStep is how exact LastActivity is.
	activityStep = time.Minute
	// settlers write what is open to the store, judges act on changes. A judge
	// never waits behind the former.
	settlers, judges = 16, 4
	// greetTimeout bounds a new link's TLS handshake and its Hello.
	greetTimeout = 10 * time.Second
)

// Store is what a Tracker needs of a store. See provision.Sessions and
// provision.DeviceRegistry for the methods.
type Store interface {
	PutSession(ctx context.Context, s provision.Session) (provision.Device, bool, error)
	ClaimSession(ctx context.Context, s provision.Session) (*provision.Session, error)
	RemoveSession(ctx context.Context, s provision.Session) error
	DeviceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) ([]provision.Session, error)
	EnvoySessions(ctx context.Context, envoy provision.EnvoyID) ([]provision.Session, error)
	AnnounceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) error
	RenewEnvoy(ctx context.Context, envoy provision.EnvoyID, lease time.Duration) error
	DeviceByID(ctx context.Context, hub provision.HubID, id provision.DeviceID) (provision.Device, error)
	// Partitions is the number of partitions.
	Partitions() int
}

// Gate tells of hubs; *provision.Gate is one.
type Gate interface {
	// CurrentHub returns the hub as it is now, nil if it is gone.
	CurrentHub(ctx context.Context, id provision.HubID) (*provision.Hub, error)
	// Unended raises an event that a session could not be ended.
	Unended(s provision.Session)
}

// Config is what a Tracker is made of. Only Store is required.
type Config struct {
	Store Store
	// Logger gets one line per session that is ended, and per link. Nil:
	// slog.Default.
	Logger *slog.Logger
	// Registerer gets the metrics. Nil: none are registered.
	Registerer prometheus.Registerer
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Heartbeat is the longest silence of an Envoy's link. After three of them
	// it is cut, and the sessions of an Envoy that nobody hears of are gone. 0:
	// 5 seconds.
	Heartbeat time.Duration
	// LogInterval is how often an Envoy without the library logs an open
	// connection, at least. After three times that long without a log entry
	// its session is gone. 0: 1 minute.
	LogInterval time.Duration
	// MaxLinks bounds the links; those beyond are closed at once. 0: 4096.
	MaxLinks int
	// MaxConnections bounds the connections known here. The link of an Envoy
	// that has more is cut. 0: 1,048,576.
	MaxConnections int
	// MaxBehind bounds the checks whose sessions wait to be written; the
	// sessions of those beyond are written once their Envoys tell of them. 0:
	// 65,536.
	MaxBehind int
}

func (c *Config) normalize() error {
	if c.Store == nil {
		return errors.New("no store")
	}
	if c.MaxLinks < 0 || c.MaxConnections < 0 || c.MaxBehind < 0 || c.LogInterval < 0 {
		return errors.New("a limit is negative")
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	if c.Heartbeat < link.MinHeartbeat || c.Heartbeat > link.MaxHeartbeat {
		return fmt.Errorf("heartbeat %s: use %s to %s", c.Heartbeat, link.MinHeartbeat, link.MaxHeartbeat)
	}
	if c.LogInterval == 0 {
		c.LogInterval = time.Minute
	}
	if c.MaxLinks == 0 {
		c.MaxLinks = 4096
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 1 << 20
	}
	if c.MaxBehind == 0 {
		c.MaxBehind = 1 << 16
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Tracker knows the open connections of the Envoys that are linked to it. It is
// a provision.Tracker and a provision.Observer, and safe for concurrent use.
type Tracker struct {
	config  Config
	store   Store
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	gate    Gate // set by Run, before anything uses it

	changes  *queue // what has to be judged anew
	settling *queue // what the store has to be told
	// allowed are sessions of TCP that checks here allowed lately, by ID; afar
	// are the HTTP connections whose link is not here. Both are bounded: what
	// is lost from them is read from the store, or written again.
	allowed *otter.Cache[string, provision.Session]
	afar    *otter.Cache[place, *distant]
	paused  atomic.Int32 // claims that wait

	mu sync.Mutex
	table
	dirty map[provision.Change]struct{} // in the queue of changes
	lost  map[int]struct{}              // partitions of which changes were missed
	// What the store failed at, until it is tried again.
	unsettled  map[*connection]struct{}
	unsorted   map[*envoyLink]struct{}
	unjudged   map[provision.Change]struct{}
	retrying   bool
	complained time.Time // when it was last logged that the store failed
}

// New makes a Tracker. Nothing runs before Run.
func New(c Config) (*Tracker, error) {
	if err := c.normalize(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	allowed, err := otter.New(&otter.Options[string, provision.Session]{
		MaximumSize:      c.MaxBehind,
		ExpiryCalculator: otter.ExpiryWriting[string, provision.Session](3 * provision.PendingSession),
	})
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	afar, err := otter.New(&otter.Options[place, *distant]{
		MaximumSize:      c.MaxConnections,
		ExpiryCalculator: otter.ExpiryAccessing[place, *distant](time.Hour),
	})
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	t := &Tracker{
		config: c, store: c.Store, log: c.Logger, now: c.Now,
		changes: newQueue(), settling: newQueue(),
		allowed: allowed, afar: afar,
		table:     newTable(),
		dirty:     make(map[provision.Change]struct{}),
		lost:      make(map[int]struct{}),
		unsettled: make(map[*connection]struct{}),
		unsorted:  make(map[*envoyLink]struct{}),
		unjudged:  make(map[provision.Change]struct{}),
	}
	if t.metrics, err = newMetrics(c.Registerer, t); err != nil {
		return nil, fmt.Errorf("session: metrics: %w", err)
	}
	return t, nil
}

// Run does the Tracker's work until the context ends, and returns its error.
// The gate is told here, as it is made with the Tracker.
func (t *Tracker) Run(ctx context.Context, gate Gate) error {
	t.gate = gate
	var group sync.WaitGroup
	group.Go(func() { t.changes.run(ctx, judges) })
	group.Go(func() { t.settling.run(ctx, settlers) })
	ticker := time.NewTicker(t.config.Heartbeat)
	defer ticker.Stop()
	rechecks := time.NewTicker(recheckInterval)
	defer rechecks.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-rechecks.C:
			t.recheck()
		case <-ticker.C:
			t.sweep()
			t.renewAll(ctx)
		}
	}
	group.Wait()
	return ctx.Err()
}

// lease is how long an Envoy's sessions live without a renewal.
func (t *Tracker) lease() time.Duration { return link.Missed * t.config.Heartbeat }

// logLease is the same for one session of an Envoy without the library.
func (t *Tracker) logLease() time.Duration { return 3 * t.config.LogInterval }

// call bounds a call of the store.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}
