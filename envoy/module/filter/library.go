package filter

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
)

// Names under which Envoy's configuration refers to the library's parts, and
// of the filter state they leave.
const (
	Validator        = "chain"
	Session          = "session"
	Credentials      = "credentials"
	ChainState       = "hubgate.chain"
	EpochState       = "hubgate.epoch"
	CredentialsState = "hubgate.credentials" //nolint:gosec // a name
)

// gcPercent has Go collect garbage sooner than it would by itself: the memory
// is Envoy's, and there is little of it.
const gcPercent = 25

// Library is what there is once in an Envoy process, however many listeners,
// threads and configurations it has: the epoch and the link to hubgate.
type Library struct {
	epoch string
	log   *slog.Logger

	mu     sync.Mutex
	client *link.Client
	node   string
	link   linkSettings
}

// NewLibrary draws the epoch. Nothing runs until a configuration asks for it.
func NewLibrary(log *slog.Logger) *Library {
	var epoch [16]byte
	_, _ = rand.Read(epoch[:]) // never fails
	return &Library{epoch: hex.EncodeToString(epoch[:]), log: log}
}

// Epoch tells this Envoy process from all others.
func (l *Library) Epoch() string { return l.epoch }

// Configure reads the configuration of a filter. With the first one the link
// begins, for as long as the process lives; only if start is false, as Envoy
// merely checks its configuration, nothing does. workers is the number of
// Envoy's worker threads.
func (l *Library) Configure(name string, config []byte, start bool, workers int) (*Settings, error) {
	parse := ParseSettings
	switch name {
	case Session:
	case Credentials:
		parse = ParseAhead
	default:
		return nil, fmt.Errorf("filter_name: %q is neither %q nor %q", name, Session, Credentials)
	}
	s, err := parse(config)
	if err != nil {
		return nil, fmt.Errorf("filter_config: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, key := range s.Keeps() {
		l.log.Warn("devices choose their own identity at the broker", "filter_config", key, "format", keep)
	}
	if !start || s.Ahead { // which needs no link
		return s, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		if l.node != s.node || !reflect.DeepEqual(l.link, s.link) {
			return nil, errors.New("filter_config: node, link: not those of this Envoy's other filters, or of its start; restart Envoy to change them")
		}
		return s, nil
	}
	client, err := s.client(l.epoch, l.log)
	if err != nil {
		return nil, fmt.Errorf("filter_config: link: %w", err)
	}
	l.client, l.node, l.link = client, s.node, s.link
	// Every worker thread may be in a hook while the link runs: none of them
	// has to wait for a processor of Go's.
	runtime.GOMAXPROCS(max(workers, 1) + 1)
	debug.SetGCPercent(gcPercent)
	go client.Run(context.Background())
	return s, nil
}

// Open registers an open connection with the link.
func (l *Library) Open(open link.Open, control link.Control) *link.Session {
	return l.client.Open(open, control)
}

// Down is for how long there has been no link.
func (l *Library) Down() time.Duration { return l.client.Down() }

func (s *Settings) client(epoch string, log *slog.Logger) (*link.Client, error) {
	config := link.ClientConfig{
		Addresses: s.link.Addresses,
		Hello:     link.Hello{Node: s.node, Epoch: epoch, Library: version()},
		Log:       log,
	}
	if s.link.TLS != nil {
		config.TLS = s.link.TLS.load
	}
	return link.NewClient(config)
}

// version is the module's version, as Go has stamped it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}
