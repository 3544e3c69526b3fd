package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

// Store is a store on Redis. It implements provision.Store, HubRegistry,
// DeviceRegistry, Outbox and Sessions, and is safe for concurrent use.
type Store struct {
	client redis.UniversalClient
	// feed has connections of its own: those that block in the change feed are
	// never missing elsewhere.
	feed       redis.UniversalClient
	clustered  bool
	parts      []partition
	id         string
	timeout    time.Duration
	replicas   int
	retention  int
	log        *slog.Logger
	now        func() time.Time
	foreign    []atomic.Bool // by partition: it did not carry our store ID
	cutReaders atomic.Int32  // readers of the feed that have lost the server
	leases     leases
	confirmed  *confirmed
}

// Open connects to the server, refuses one that could lose records by design
// (too old, evicting), and pins the store's ID, founding the store if there is
// none. A server that does not answer is ErrUnavailable.
func Open(ctx context.Context, c Config) (*Store, error) {
	s, err := newStore(c)
	if err != nil {
		return nil, err
	}
	if err := s.inspect(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.pin(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Check tells whether the server answers and could hold a store. It changes
// nothing.
func Check(ctx context.Context, c Config) error {
	s, err := newStore(c)
	if err != nil {
		return err
	}
	return errors.Join(s.inspect(ctx), s.Close())
}

// newStore makes a store that has not connected yet.
func newStore(c Config) (*Store, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	t, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if t.username != "" && c.Password == "" {
		// The client would connect as the default user instead.
		return nil, errors.New("store URL: it names a user, and no password is given")
	}
	return &Store{
		client: c.client(t, c.Connections, c.Timeout),
		// In a cluster each partition has a reader, and all may be on one node.
		feed:      c.client(t, c.Partitions+1, feedTimeout),
		clustered: t.mode == cluster,
		parts:     newPartitions(c.Partitions),
		timeout:   c.Timeout,
		replicas:  c.WaitReplicas,
		retention: c.Retention,
		log:       c.Logger,
		now:       c.Now,
		foreign:   make([]atomic.Bool, c.Partitions),
		confirmed: newConfirmed(c.Partitions, c.Now()),
	}, nil
}

// Close ends the connections.
func (s *Store) Close() error {
	return errors.Join(s.client.Close(), s.feed.Close())
}

// Partitions implements provision.Store.
func (s *Store) Partitions() int { return len(s.parts) }

// Remote implements provision.Store.
func (s *Store) Remote() bool { return true }

// Replaced implements provision.Store.
func (s *Store) Replaced() bool {
	for i := range s.foreign {
		if s.foreign[i].Load() {
			return true
		}
	}
	return false
}

func (s *Store) partition(hub provision.HubID) partition {
	return s.parts[hub.Partition(len(s.parts))]
}

// change runs a script on a partition, with the prelude's keys and arguments
// before its own. A script that is sent twice, because a connection broke,
// changes nothing the second time.
func (s *Store) change(ctx context.Context, p partition, script *redis.Script, keys []string, args ...any) (word, string, error) {
	keys = append([]string{p.state(), p.outbox(), p.changes()}, keys...)
	args = append([]any{s.id, newOp(), s.retention}, args...)
	w, value, err := s.run(ctx, script, keys, args)
	if err != nil {
		return "", "", err
	}
	s.foreign[p.number].Store(w == wordStore)
	switch w {
	case wordStore:
		return "", "", provision.ErrStoreChanged
	case wordDone:
		return wordOK, "", nil
	}
	return w, value, nil
}

// newOp returns what tells one operation from every other.
func newOp() string {
	n := rand.Uint64()
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	return string(b[:])
}

// run runs any script and reads its word and value.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args []any) (w word, value string, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		var reply []any
		var err error
		if s.replicas > 0 {
			reply, err = s.replicated(ctx, script, keys, args)
		} else {
			reply, err = script.Run(ctx, s.client, keys, args...).Slice()
		}
		if err != nil {
			return err
		}
		words := make([]string, len(reply))
		for i, v := range reply {
			words[i], _ = v.(string)
		}
		if len(words) == 0 {
			return errors.New("a script returned nothing")
		}
		w = word(words[0])
		if len(words) > 1 {
			value = words[1]
		}
		return nil
	})
	return w, value, err
}

// clusterTries bounds how often a script follows a slot to another node.
const clusterTries = 4

// replicated runs a script and waits on the same connection, as WAIT counts
// what its own connection wrote.
func (s *Store) replicated(ctx context.Context, script *redis.Script, keys []string, args []any) ([]any, error) {
	var err error
	for range clusterTries {
		var node *redis.Client
		if node, err = s.master(ctx, keys[0]); err != nil {
			return nil, err
		}
		var reply []any
		reply, err = s.scriptAndWait(ctx, node, script.EvalSha, keys, args)
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			reply, err = s.scriptAndWait(ctx, node, script.Eval, keys, args)
		}
		if !redis.HasErrorPrefix(err, "MOVED") && !redis.HasErrorPrefix(err, "ASK") {
			return reply, err
		}
		if c, ok := s.client.(*redis.ClusterClient); ok {
			c.ReloadState(ctx)
		}
	}
	return nil, err
}

// master is the client of the server that holds the key.
func (s *Store) master(ctx context.Context, key string) (*redis.Client, error) {
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		return c.MasterForKey(ctx, key)
	case *redis.Client:
		return c, nil
	default:
		return nil, fmt.Errorf("client of unknown kind %T", c)
	}
}

type eval func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

func (s *Store) scriptAndWait(ctx context.Context, node *redis.Client, run eval, keys []string, args []any) ([]any, error) {
	pipe := node.Pipeline()
	script := run(ctx, pipe, keys, args...)
	wait := pipe.Do(ctx, "WAIT", s.replicas, (s.timeout / 2).Milliseconds())
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, cmp.Or(script.Err(), err)
	}
	reply, err := script.Slice()
	if err != nil {
		return nil, err
	}
	acknowledged, err := wait.Int()
	if err != nil {
		return nil, err
	}
	if changed := len(reply) > 0 && (reply[0] == string(wordOK) || reply[0] == string(wordDone)); changed && acknowledged < s.replicas {
		return nil, fmt.Errorf("the change was made, but %d of %d replicas acknowledged it", acknowledged, s.replicas)
	}
	return reply, nil
}

// call runs f under the store's timeout and turns its error into one of the
// domain. A nil reply becomes ErrNotFound.
func (s *Store) call(ctx context.Context, f func(context.Context) error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, ctx.Err())
	}
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := f(limited)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.Nil):
		return provision.ErrNotFound
	case errors.Is(err, provision.ErrStoreChanged):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, ctx.Err())
	case isBug(err):
		return errors.New("redis: " + err.Error()) // not wrapped: its type is the client's
	default:
		return fmt.Errorf("%w: %s", provision.ErrUnavailable, err.Error())
	}
}

// pinned reads from a partition and, in the same round trip, makes sure that it
// is still the one of the store that was opened: what a replaced or emptied
// server does not have was not deleted. It returns ErrStoreChanged then. What
// read put into the pipeline has its reply after pinned returned nil.
func (s *Store) pinned(ctx context.Context, p partition, read func(ctx context.Context, pipe redis.Pipeliner)) error {
	return s.call(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		read(ctx, pipe)
		id := pipe.HGet(ctx, p.state(), "id")
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if err := id.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if id.Val() != s.id {
			s.foreign[p.number].Store(true)
			return provision.ErrStoreChanged
		}
		return nil
	})
}

// found turns a nil reply of a pinned read into ErrNotFound.
func found(reply *redis.StringCmd) (string, error) {
	text, err := reply.Result()
	if errors.Is(err, redis.Nil) {
		return "", provision.ErrNotFound
	}
	return text, err
}

// isBug tells errors that are no outage: the server understood, and refused
// what should not have been sent. Everything else (no connection, a time-out,
// LOADING, CLUSTERDOWN, READONLY, OOM, …) may pass.
func isBug(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	text := reply.Error()
	for _, prefix := range []string{"ERR ", "WRONGTYPE ", "CROSSSLOT "} {
		if strings.HasPrefix(text, prefix) {
			return !strings.HasPrefix(text, "ERR max number of clients")
		}
	}
	return false
}

// retryPause is the mean pause before an edit that lost a race is made again.
const retryPause = 2 * time.Millisecond

// pause waits a random time around d. It returns the context's error if that
// ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
