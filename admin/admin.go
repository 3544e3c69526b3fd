// Package admin is the administrators' access to a running hubgate: hubs,
// devices, explanations, the live stream of hub events, backups, as JSON over
// HTTP under /v1/.
//
// For now it is served on the local Unix socket only, which the file system
// guards (mode 0600): whoever may open the socket may do everything. The
// command line speaks nothing else, so that what a person can do by hand, a
// script can do by HTTP, and a stopped hubgate's store is administered by the
// very same code within the process of the command.
package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/admin/guard"
	"github.com/hubgate/hubgate/provision"
)

const (
	// maxBody bounds a request's body: a chain to explain is at most 64 KiB of
	// DER, and what exceeds that is the explanation's to tell.
	maxBody = 1 << 20
	// maxHeader holds a cursor over all partitions.
	maxHeader = 64 << 10
	// requestTimeout bounds a request that is no stream, its body included.
	requestTimeout = 10 * time.Second
	// stallTimeout is how long a stream's reader may take nothing.
	stallTimeout = 30 * time.Second
	// shutdownTimeout is what requests get to end when the server stops.
	shutdownTimeout = 5 * time.Second
)

// Gate tells of the hubs in force and explains decisions. *provision.Gate is
// one.
type Gate interface {
	// Admit with Connection.DryRun explains.
	Admit(context.Context, provision.Connection) provision.Decision
	// Hubs are all hubs, by name.
	Hubs() []provision.Hub
	// Hub finds one by ID or name.
	Hub(idOrName string) (provision.Hub, bool)
}

// Store is what administration needs of a store.
type Store interface {
	provision.DeviceRegistry
	provision.Outbox
	// LastEvents returns the number of every partition's newest event.
	LastEvents(ctx context.Context) ([]uint64, error)
	// Device returns the device of that name, provision.ErrNotFound if there
	// is none.
	Device(ctx context.Context, hub provision.HubID, name string) (provision.Device, error)
	// DeviceSessions and HubSessions list live sessions; see
	// provision.Sessions.
	DeviceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) ([]provision.Session, error)
	HubSessions(ctx context.Context, hub provision.HubID, cursor string, limit int) ([]provision.Session, string, error)
	// Partitions is the number of partitions.
	Partitions() int
}

// Backuper writes a consistent copy of the store while it is in use, and tells
// how many bytes it wrote.
type Backuper interface {
	Backup(ctx context.Context, w io.Writer) (int64, error)
}

// Config is what a Server is made of. Gate, Store and Fleet are required.
type Config struct {
	Gate  Gate
	Store Store
	// Fleet is what administrators do to hubs and devices.
	Fleet *fleet.Fleet
	// Backup is nil where the store has its own means, as Redis does.
	Backup Backuper
	// Tokens manages the tokens. Nil: there are none to manage.
	Tokens *access.Tokens
	// IoT answers under /iot/v1/, and IoTFail writes a refusal as it would. Nil:
	// nothing is there.
	IoT     http.Handler
	IoTFail guard.Fail
	// Console answers / and what is under /console/, to everybody who reaches
	// the network's listener. Nil: nothing is there.
	Console http.Handler
	// About is what whoami tells of this hubgate.
	About About
	// Logger hears of administrators' acts and of our own failures. Nil:
	// slog.Default.
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Poll is how often the event stream looks for new events. 0: 200 ms.
	Poll time.Duration
	// Heartbeat is how often a silent event stream shows that it lives. 0: 15 s.
	Heartbeat time.Duration
	// MaxStreams bounds the event streams open at once, of each principal to a
	// quarter. 0: 64.
	MaxStreams int
}

// About tells one hubgate from another.
type About struct {
	// Version is that of the build.
	Version string
	// Domain is the one under which SNI names hubs, "" if none.
	Domain string
	// Region is the one of the Scaleway-compatible API.
	Region string
}

// Server serves the API.
type Server struct {
	about     About
	gate      Gate
	store     Store
	fleet     *fleet.Fleet
	backup    Backuper
	log       *slog.Logger
	now       func() time.Time
	poll      time.Duration
	heartbeat time.Duration
	streams   *access.Slots // one per open event stream
	imports   *access.Slots // one per import at work
	exports   *access.Slots // one per export at work
	tokens    *access.Tokens
	iot       http.Handler
	iotFail   guard.Fail
	console   http.Handler
	draining  chan struct{} // closed when streams have to end
	drain     func()        // closes it
	native    http.Handler
}

// New makes a Server; nothing runs before Serve.
func New(c Config) (*Server, error) {
	if c.Gate == nil || c.Store == nil || c.Fleet == nil {
		return nil, errors.New("admin: needs a gate, a store and a fleet")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Poll == 0 {
		c.Poll = 200 * time.Millisecond
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 64
	}
	s := &Server{
		about: c.About, gate: c.Gate, store: c.Store, fleet: c.Fleet, backup: c.Backup, log: c.Logger, now: c.Now,
		poll: c.Poll, heartbeat: c.Heartbeat, draining: make(chan struct{}),
		streams: access.NewSlots("too_many_streams", "event streams are open", "close one", c.MaxStreams),
		imports: access.NewSlots("too_many_imports", "imports are at work", "try again later", maxTransfers),
		exports: access.NewSlots("too_many_exports", "exports are at work", "try again later", maxTransfers),
	}
	s.tokens, s.iot, s.iotFail, s.console = c.Tokens, c.IoT, c.IoTFail, c.Console
	s.drain = sync.OnceFunc(func() { close(s.draining) })
	s.native = s.mux()
	return s, nil
}
