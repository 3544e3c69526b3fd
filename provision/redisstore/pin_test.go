package redisstore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/provision/storetest"
)

// wantRefusal opens a store that has to be refused for good, with words that
// tell the operator what to do.
func wantRefusal(t *testing.T, c redisstore.Config, words string) {
	t.Helper()
	s, err := redisstore.Open(t.Context(), c)
	if err == nil {
		_ = s.Close()
		t.Fatalf("opened, want a refusal with %q", words)
	}
	if !strings.Contains(err.Error(), words) {
		t.Errorf("error %q, want one with %q", err, words)
	}
	if errors.Is(err, provision.ErrUnavailable) {
		t.Errorf("error %q reads as an outage, which would be tried again", err)
	}
}

func TestOpenRefusesEviction(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	wantRefusal(t, patient(s.URL()), "maxmemory-policy allkeys-lru deletes devices")

	// Providers that forbid CONFIG tell the policy in INFO.
	s.Do("ACL", "SETUSER", "hubgate", "on", ">secret", "~*", "&*", "+@all", "-config")
	c := patient("redis://hubgate@" + s.Addr())
	c.Password = "secret"
	wantRefusal(t, c, "maxmemory-policy allkeys-lru deletes devices")

	s.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	open(t, c)
	s.Do("ACL", "SETUSER", "hubgate", "-info") // then nothing can be known
	open(t, c)
}

func TestOpenRefusesEvictionOnAnyNode(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3)
	c.Nodes[2].Do("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
	wantRefusal(t, patient(c.URL()), "maxmemory-policy volatile-ttl deletes devices")
	wantRefusal(t, patient(c.Nodes[0].URL()), "use redis+cluster://")
}

func TestOpenNeedsThePassword(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("ACL", "SETUSER", "hubgate", "on", ">secret", "~*", "&*", "+@all")
	c := patient("redis://hubgate@" + s.Addr())
	for password, words := range map[string]string{"": "names a user, and no password is given", "wrong": "WRONGPASS", "secret": ""} {
		c.Password = password
		store, err := redisstore.Open(t.Context(), c)
		switch {
		case err == nil:
			_ = store.Close()
			if words != "" {
				t.Errorf("opened with the password %q", password)
			}
		case words == "" || !strings.Contains(err.Error(), words):
			t.Errorf("password %q: error %v, want one with %q", password, err, words)
		}
	}
}

func TestOpenRefusesAnotherLayout(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	open(t, patient(s.URL()))
	c := patient(s.URL())
	c.Partitions = 32
	wantRefusal(t, c, "the store has 64 partitions, fixed when it was first used, and is configured with 32: configure 64")
	s.Do("HSET", "hg:{meta}:store", "schema", "2")
	wantRefusal(t, patient(s.URL()), "run a newer hubgate")
}

func TestOpenFoundsOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var wg sync.WaitGroup
	stores := make([]*redisstore.Store, 8)
	for i := range stores {
		wg.Go(func() {
			var err error
			if stores[i], err = redisstore.Open(t.Context(), patient(s.URL())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, store := range stores {
		if store == nil {
			continue
		}
		// A store of another ID would refuse.
		if _, err := storetest.CreateHub(t.Context(), store); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenRefusesLostData: a partition that lost its data is no new one.
func TestOpenRefusesLostData(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	open(t, patient(s.URL()))
	keys, _ := s.Do("KEYS", "hg:{*}:p").([]any)
	if len(keys) != provision.DefaultPartitions {
		t.Fatalf("%d partitions carry a state", len(keys))
	}
	key := keys[7]
	s.Do("HSET", key, "id", "another")
	_, err := redisstore.Open(t.Context(), patient(s.URL()))
	if !errors.Is(err, provision.ErrStoreChanged) {
		t.Errorf("partition of another store: %v", err)
	}
	s.Do("DEL", key)
	_, err = redisstore.Open(t.Context(), patient(s.URL()))
	if !errors.Is(err, provision.ErrStoreChanged) {
		t.Errorf("partition without its data: %v", err)
	}
}
