package redisstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/provision/storetest"
)

// sessionStore returns a store of one partition on a server of its own, with a
// hub and devices.
func sessionStore(t *testing.T, devices int) (*redistest.Server, *redisstore.Store, *storetest.Clock, []provision.Device) {
	t.Helper()
	server, clock := redistest.Start(t, "--appendonly", "no"), &storetest.Clock{}
	c := patient(server.SocketURL())
	c.Partitions, c.Now, c.Retention = 1, clock.Now, 1
	s := open(t, c)
	hub := createHub(t, s)
	if err := storetest.CreateDevices(t.Context(), s, hub, devices); err != nil {
		t.Fatal(err)
	}
	all, _, err := s.Devices(t.Context(), hub.ID, provision.ByName, "", devices)
	if err != nil {
		t.Fatal(err)
	}
	return server, s, clock, all
}

func putSession(t *testing.T, s *redisstore.Store, session provision.Session) {
	t.Helper()
	if _, _, err := s.PutSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
}

// sessionKeys are the keys about sessions, by the pattern that finds them.
func sessionKeys(t *testing.T, server *redistest.Server) map[string][]string {
	t.Helper()
	keys := map[string][]string{}
	for _, pattern := range []string{"*}:s:*", "*:sessions", "*}:e:*", "hg:{meta}:envoy:*"} {
		found, _ := server.Do("KEYS", pattern).([]any)
		for _, key := range found {
			keys[pattern] = append(keys[pattern], key.(string))
		}
	}
	return keys
}

// TestSessionMemory holds a session to 750 bytes, its share of all indexes and
// all of Redis's own included.
func TestSessionMemory(t *testing.T) {
	t.Parallel()
	const devices, limit = 10_000, 750
	server, s, _, all := sessionStore(t, devices)
	envoys := make([]provision.EnvoyID, 4)
	for i := range envoys {
		envoys[i] = storetest.NewEnvoy()
		if err := s.RenewEnvoy(t.Context(), envoys[i], time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	before := usedMemory(t, server)
	for i, d := range all {
		putSession(t, s, storetest.NewSession(d, envoys[i%len(envoys)]))
	}
	each := float64(usedMemory(t, server)-before) / devices
	t.Logf("%.0f bytes per session", each)
	if each > limit {
		t.Errorf("%.0f bytes per session, want at most %d", each, limit)
	}
}

// TestDeadSessionsLeave: whoever looks at dead sessions removes them, from
// every key that names them.
func TestDeadSessionsLeave(t *testing.T) {
	t.Parallel()
	look := map[string]func(ctx context.Context, s *redisstore.Store, d provision.Device, e provision.EnvoyID) error{
		"device": func(ctx context.Context, s *redisstore.Store, d provision.Device, _ provision.EnvoyID) error {
			_, err := s.DeviceSessions(ctx, d.Hub, d.ID)
			return err
		},
		"hub": func(ctx context.Context, s *redisstore.Store, d provision.Device, _ provision.EnvoyID) error {
			_, _, err := s.HubSessions(ctx, d.Hub, "", 10)
			return err
		},
		"envoy": func(ctx context.Context, s *redisstore.Store, _ provision.Device, e provision.EnvoyID) error {
			_, err := s.EnvoySessions(ctx, e)
			return err
		},
	}
	for name, look := range look {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, s, clock, all := sessionStore(t, 2)
			dead, live := storetest.NewEnvoy(), storetest.NewEnvoy()
			for _, e := range []provision.EnvoyID{dead, live} {
				if err := s.RenewEnvoy(t.Context(), e, time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			pending := storetest.NewSession(all[0], dead)
			pending.Confirmed = false
			putSession(t, s, storetest.NewSession(all[0], dead))
			putSession(t, s, pending)
			stays := storetest.NewSession(all[1], live)
			putSession(t, s, stays)

			clock.Advance(provision.LostEnvoyKept)
			for _, key := range sessionKeys(t, server)["hg:{meta}:envoy:*"] {
				if ttl, _ := server.Do("PTTL", key).(int64); time.Duration(ttl)*time.Millisecond < provision.LostEnvoyKept {
					t.Errorf("%s has only %d ms to live", key, ttl)
				}
			}
			server.Do("DEL", "hg:{meta}:envoy:"+dead.Node+"/"+dead.Epoch) // as its time to live does
			if err := look(t.Context(), s, all[0], dead); err != nil {
				t.Fatal(err)
			}
			for pattern, keys := range sessionKeys(t, server) {
				if len(keys) != 1 {
					t.Errorf("there are %v", keys)
				}
				if pattern != "*:sessions" {
					continue
				}
				if n, _ := server.Do("ZCARD", keys[0]).(int64); n != 1 {
					t.Errorf("%s has %d entries", keys[0], n)
				}
			}
			left, err := s.EnvoySessions(t.Context(), live)
			if err != nil || len(left) != 1 || left[0].ID != stays.ID {
				t.Errorf("sessions of the other Envoy: %v, %v", left, err)
			}
		})
	}
}

// TestDeadSessionsOfADeviceDoNotGather, even if nobody ever looks.
func TestDeadSessionsOfADeviceDoNotGather(t *testing.T) {
	t.Parallel()
	server, s, clock, all := sessionStore(t, 1)
	for range 80 {
		session := storetest.NewSession(all[0], provision.EnvoyID{Node: "edge"}) // has no index of its own
		session.Since, session.Confirmed = clock.Now(), false
		putSession(t, s, session)
		clock.Advance(provision.PendingSession)
		for pattern, card := range map[string]string{"*}:s:*": "HLEN", "*:sessions": "ZCARD"} {
			keys := sessionKeys(t, server)[pattern]
			if n, _ := server.Do(card, keys[0]).(int64); n > 32 {
				t.Fatalf("%s has %d entries", keys[0], n)
			}
		}
	}
}

// TestSessionsExpire: what nobody puts again is gone one day, and an index that
// others keep alive does not remember it.
func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	const devices = 500
	server, s, _, all := sessionStore(t, devices)
	envoy := storetest.NewEnvoy()
	putSession(t, s, storetest.NewSession(all[0], envoy))
	expiring := func(what string) {
		t.Helper()
		keys := sessionKeys(t, server)
		for _, pattern := range []string{"*}:s:*", "*:sessions", "*}:e:*"} {
			ttl, _ := server.Do("TTL", keys[pattern][0]).(int64)
			if left := time.Duration(ttl) * time.Second; left <= provision.SessionRefresh || left > 2*provision.SessionRefresh {
				t.Errorf("%s: %s expires in %s", what, keys[pattern][0], left)
			}
		}
	}
	expiring("a session put")
	for _, keys := range sessionKeys(t, server) {
		for _, key := range keys {
			server.Do("EXPIRE", key, 60)
		}
	}
	putSession(t, s, storetest.NewSession(all[0], envoy))
	expiring("another one put")

	for _, d := range all[1 : devices/2] {
		putSession(t, s, storetest.NewSession(d, envoy))
	}
	for _, key := range sessionKeys(t, server)["*}:s:*"] {
		server.Do("DEL", key) // as its time to live does
	}
	for i := range 3 * devices {
		session := storetest.NewSession(all[devices/2+i%(devices/2)], envoy)
		session.ID = uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, i%(devices/2))).String()
		putSession(t, s, session)
	}
	index := sessionKeys(t, server)["*:sessions"][0]
	if n, _ := server.Do("ZCARD", index).(int64); n > devices/2+devices/20 {
		t.Errorf("the hub's index has %d entries for %d sessions", n, devices/2)
	}
	listed, _, err := s.HubSessions(t.Context(), all[0].Hub, "", devices)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := server.Do("ZCARD", index).(int64); n != devices/2 || len(listed) != 0 {
		t.Errorf("listed, the hub's index has %d entries for %d sessions; %d are live", n, devices/2, len(listed))
	}
}

func BenchmarkPutSession(b *testing.B) {
	_, s, hub := benchStore(b)
	if err := storetest.CreateDevices(b.Context(), s, hub, 1000); err != nil {
		b.Fatal(err)
	}
	devices, _, err := s.Devices(b.Context(), hub.ID, provision.ByName, "", 1000)
	if err != nil {
		b.Fatal(err)
	}
	sessions := make([]provision.Session, len(devices))
	for i, d := range devices {
		sessions[i] = storetest.NewSession(d, provision.EnvoyID{Node: "edge", Epoch: "1"})
	}
	parallel(b, func(ctx context.Context, n int64) error {
		_, _, err := s.PutSession(ctx, sessions[n%int64(len(sessions))])
		return err
	})
}
