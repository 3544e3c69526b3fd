package redisstore

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

// leaseCached is how long a lease that was seen to hold is not looked at again.
const leaseCached = time.Second

// lease is what is known of an Envoy process: whether its lease holds, and
// whether it held so lately that its sessions are kept.
type lease struct{ holds, known bool }

// leases remembers the leases that hold, and until when they surely do. That
// one does not hold is never remembered: its sessions would look dead for a
// while after it is renewed.
type leases struct {
	mu     sync.Mutex
	holds  map[provision.EnvoyID]time.Time
	pruned time.Time // when those that are over were last dropped
}

// RenewEnvoy implements provision.Sessions. It is one round trip. Other
// replicas may take a lease that was ended to hold for leaseCached.
func (s *Store) RenewEnvoy(ctx context.Context, envoy provision.EnvoyID, lease time.Duration) error {
	began := s.now()
	err := s.call(ctx, func(ctx context.Context) error {
		if kept := max(lease, 0) + envoy.KeptFor(); kept > 0 {
			return s.client.Set(ctx, keyEnvoy(envoy), 1, kept).Err()
		}
		return s.client.Del(ctx, keyEnvoy(envoy)).Err()
	})
	if err == nil {
		s.leases.set(map[provision.EnvoyID]time.Duration{envoy: lease}, began)
	}
	return err
}

// readLeases fills in the leases of the Envoys, in at most one round trip.
func (s *Store) readLeases(ctx context.Context, envoys map[provision.EnvoyID]lease) error {
	began := s.now()
	var unknown []provision.EnvoyID
	for e := range envoys {
		if s.leases.hold(e, began) {
			envoys[e] = lease{holds: true, known: true}
		} else {
			unknown = append(unknown, e)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	replies := make([]*redis.DurationCmd, len(unknown))
	err := s.call(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i, e := range unknown {
			replies[i] = pipe.PTTL(ctx, keyEnvoy(e))
		}
		_, err := pipe.Exec(ctx)
		return err
	})
	if err != nil {
		return err
	}
	left := make(map[provision.EnvoyID]time.Duration, len(unknown))
	for i, e := range unknown {
		ttl := replies[i].Val() // negative if there is none
		left[e] = ttl - e.KeptFor()
		envoys[e] = lease{holds: left[e] > 0, known: ttl > 0}
	}
	s.leases.set(left, began)
	return nil
}

// hold reports whether the lease is known to hold.
func (l *leases) hold(envoy provision.EnvoyID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.holds[envoy])
}

// set remembers what was left of leases at that moment, and forgets those that
// were last looked at too long ago.
func (l *leases) set(left map[provision.EnvoyID]time.Duration, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holds == nil {
		l.holds = map[provision.EnvoyID]time.Time{}
	}
	if at.Sub(l.pruned) >= leaseCached {
		l.pruned = at
		maps.DeleteFunc(l.holds, func(_ provision.EnvoyID, until time.Time) bool { return !at.Before(until) })
	}
	for e, d := range left {
		if d > 0 {
			l.holds[e] = at.Add(min(d, leaseCached))
		} else {
			delete(l.holds, e)
		}
	}
}
