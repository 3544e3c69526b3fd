package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
	"github.com/hubgate/hubgate/provision/storetest"
)

func TestWaitReplicas(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	replica := redistest.StartReplica(t, server)
	c := patient(server.URL())
	c.Timeout, c.WaitReplicas = 3*time.Second, 1
	s := open(t, c)
	hub := createHub(t, s)
	if _, created, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip-1")); err != nil || !created {
		t.Fatalf("creation with a replica: %t, %v", created, err)
	}
	old := storetest.NewCreation(hub, "old")
	old.Device.UpdatedAt = time.Now().Add(-time.Hour)
	if _, created, err := s.CreateDevice(t.Context(), old); err != nil || !created {
		t.Fatalf("creation with a replica: %t, %v", created, err)
	}
	replica.Pause()
	_, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip-2"))
	if !errors.Is(err, provision.ErrUnavailable) {
		t.Errorf("creation that no replica acknowledged: %v", err)
	}
	// It is there all the same, on one server alone: until a replica has it,
	// nobody is told that it is known, by a hubgate that starts anew neither.
	for what, s := range map[string]*redisstore.Store{"the same process": s, "another": open(t, c)} {
		if _, created, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip-2")); !errors.Is(err, provision.ErrUnavailable) || created {
			t.Errorf("%s: the same again: %t, %v", what, created, err)
		}
		if _, err := s.Device(t.Context(), hub.ID, "chip-2"); !errors.Is(err, provision.ErrUnavailable) {
			t.Errorf("%s: the device that no replica acknowledged: %v", what, err)
		}
		// Devices that are known for long need no replica.
		if d, err := s.Device(t.Context(), hub.ID, "old"); err != nil || d.Name != "old" {
			t.Errorf("%s: a device of old: %v, %v", what, d.Name, err)
		}
	}
	replica.Resume()
	d, created, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip-2"))
	if err != nil || created || d.Name != "chip-2" {
		t.Errorf("once the replica is back: %v, %t, %v", d.Name, created, err)
	}
	if _, created, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip-3")); err != nil || !created {
		t.Errorf("creation after the replica's return: %t, %v", created, err)
	}
}

// TestWaitReplicasOfACluster: the script and its WAIT find the right node.
func TestWaitReplicasOfACluster(t *testing.T) {
	t.Parallel()
	c := patient(redistest.StartCluster(t, 3).URL())
	s := open(t, c)
	c.Timeout, c.WaitReplicas = time.Second, 1
	waiting := open(t, c)
	for range 4 {
		hub := createHub(t, s)
		_, _, err := waiting.CreateDevice(t.Context(), storetest.NewCreation(hub, "chip"))
		if !errors.Is(err, provision.ErrUnavailable) {
			t.Errorf("creation without a replica: %v", err)
		}
		if _, err := s.Device(t.Context(), hub.ID, "chip"); err != nil {
			t.Errorf("the device, where no replica is asked for: %v", err)
		}
		if _, err := waiting.Device(t.Context(), hub.ID, "chip"); !errors.Is(err, provision.ErrUnavailable) {
			t.Errorf("the device without a replica: %v", err)
		}
	}
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	sentinel := redistest.StartSentinel(t, "fleet", master)
	s := open(t, redisstore.Config{URL: "redis+sentinel://" + sentinel.Addr() + "/fleet", Timeout: 5 * time.Second})
	hub := createHub(t, s)
	feed := watch(t, s)
	if _, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "before")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica in Sentinel's list", func() bool {
		replicas, _ := sentinel.Do("SENTINEL", "REPLICAS", "fleet").([]any)
		return len(replicas) == 1
	})
	// Sentinel takes some time after that to find the replica fit.
	orders := sentinel.Client()
	defer func() { _ = orders.Close() }()
	eventually(t, "Sentinel's consent to a fail-over", func() bool {
		return orders.Do(t.Context(), "SENTINEL", "FAILOVER", "fleet").Err() == nil
	})
	eventually(t, "the replica as master", func() bool {
		role, _ := replica.Do("ROLE").([]any)
		return len(role) > 0 && role[0] == "master"
	})
	failedOver := time.Now()
	eventually(t, "creation after the fail-over", func() bool {
		_, _, err := s.CreateDevice(t.Context(), storetest.NewCreation(hub, "after"))
		if err != nil && !errors.Is(err, provision.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Logf("created %s after the fail-over", time.Since(failedOver))
	eventually(t, "the feed after the fail-over", func() bool { return feed.unproved(failedOver) == 0 })
	if _, err := s.Device(t.Context(), hub.ID, "before"); err != nil {
		t.Errorf("device of before: %v", err)
	}
	if n := feed.lostPartitions(); n > 0 {
		t.Errorf("%d partitions are lost, though the replica had caught up", n)
	}
}
