package redistest_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

func TestServerKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do("SET", "k", "v")
	s.Stop()
	s.Start()
	if got := s.Do("GET", "k"); got != "v" {
		t.Fatalf("GET k = %v, want v", got)
	}
}

func TestPausedServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), ReadTimeout: 100 * time.Millisecond, MaxRetries: -1})
	defer func() { _ = c.Close() }()
	s.Pause()
	if err := c.Ping(context.Background()).Err(); err == nil {
		t.Fatal("a paused server answered")
	}
	s.Resume()
	s.Do("PING")
}

func TestCluster(t *testing.T) {
	t.Parallel()
	start := time.Now()
	c := redistest.StartCluster(t, 3)
	t.Logf("cluster up in %s", time.Since(start))
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c.Nodes[0].Addr()}})
	defer func() { _ = client.Close() }()
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		if err := client.Set(context.Background(), k, k, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReplicaAndSentinel(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	redistest.StartReplica(t, s)
	sentinel := redistest.StartSentinel(t, "m", s)
	got, ok := sentinel.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m").([]any)
	if !ok || len(got) != 2 {
		t.Fatalf("sentinel says the master is at %v", got)
	}
}
