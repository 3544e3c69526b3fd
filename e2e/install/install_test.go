package install

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// schema is that of this source.
const schema = record.Schema

// TestOperations: two replicas behind Envoy, on a Redis Cluster of three
// masters with a replica each. While devices connect for the first time, both
// replicas are restarted, and a master is killed. With wait_replicas no device
// that was admitted is lost, with or without none is doubled or denied.
func TestOperations(t *testing.T) {
	t.Parallel()
	for _, waitReplicas := range []int{1, 0} {
		t.Run(fmt.Sprintf("wait_replicas %d", waitReplicas), func(t *testing.T) {
			t.Parallel()
			binary, err := current()
			if err != nil {
				t.Fatal(err)
			}
			s := newSite(t, waitReplicas)
			s.serve(t, 0, binary)
			s.serve(t, 1, binary)
			s.front(t)
			devices := s.devices(t)
			time.Sleep(steady())
			for i := range s.replicas {
				s.restart(t, i, binary)
				time.Sleep(steady())
			}
			quiet := devices.count()
			s.failover(t)
			time.Sleep(steady())
			devices.grows(t, quiet)
			devices.end()

			listed := s.listed(t)
			lost := without(devices.admitted, listed)
			t.Logf("%d devices were admitted, %d faults were met and tried again, %d admitted devices are lost", len(devices.admitted), devices.faults, len(lost))
			if waitReplicas > 0 && len(lost) > 0 {
				t.Errorf("admitted, and lost: %q", lost)
			}
			if len(devices.denied) > 0 {
				t.Errorf("denied: %q", devices.denied)
			}
			announced := s.announced(t)
			for _, names := range [][]string{listed, announced} {
				slices.Sort(names)
				if n := len(slices.Compact(slices.Clone(names))); n != len(names) {
					t.Errorf("%d of %d are there twice", len(names)-n, len(names))
				}
			}
			if !slices.Equal(listed, announced) {
				t.Errorf("%d devices, %d events: without an event %q, without a device %q", len(listed), len(announced), without(listed, announced), without(announced, listed))
			}
		})
	}
}

// TestUpgrade: version N+1 beside version N on one store, with devices
// connecting, and back again. What N does not know survives its rewrites.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	old, err := current()
	if err != nil {
		t.Fatal(err)
	}
	newer, err := next()
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, 1)
	s.serve(t, 0, old)
	s.serve(t, 1, old)
	s.front(t)
	devices := s.devices(t)
	time.Sleep(steady())
	s.restart(t, 1, newer)
	time.Sleep(steady())
	eventually(t, "a device that the newer version created", func() error { return s.marked(t) })

	// Each version edits what the other wrote.
	devices.mu.Lock()
	admitted := slices.Clone(devices.admitted)
	devices.mu.Unlock()
	for _, name := range []string{admitted[0], admitted[len(admitted)-1]} {
		for i := range s.replicas {
			s.command(t, i, "device", "disable", "factory", name)
			s.command(t, 1-i, "device", "enable", "factory", name)
		}
	}
	if err := s.marked(t); err != nil {
		t.Errorf("after an edit of the older version: %v", err)
	}
	s.restart(t, 0, newer)
	time.Sleep(steady())
	s.restart(t, 1, old) // a step back
	time.Sleep(steady())
	devices.end()
	if lost := without(devices.admitted, s.listed(t)); len(lost) > 0 {
		t.Errorf("admitted, and lost: %q", lost)
	}
	if len(devices.denied) > 0 {
		t.Errorf("denied: %q", devices.denied)
	}
	t.Logf("%d devices were admitted, %d faults were met and tried again", len(devices.admitted), devices.faults)
}

// marked reports whether devices in the store have the newer version's field.
func (s *site) marked(t *testing.T) error {
	t.Helper()
	master := s.master(t)
	keys, _ := master.Do("KEYS", "hg:*:d:*").([]any)
	n := 0
	for _, key := range keys {
		if text, _ := master.Do("GET", key).(string); strings.Contains(text, mark) {
			n++
		}
	}
	if n == 0 {
		return fmt.Errorf("none of %d devices", len(keys))
	}
	return nil
}

// master is the one that has the hub's devices.
func (s *site) master(t *testing.T) *redistest.Server {
	t.Helper()
	for _, node := range s.cluster.Nodes {
		if role, _ := node.Do("ROLE").([]any); len(role) > 0 && role[0] == "master" {
			if keys, _ := node.Do("KEYS", "hg:*:d:*").([]any); len(keys) > 0 {
				return node
			}
		}
	}
	t.Fatal("no master has devices")
	return nil
}

// failover kills the master that has the hub's devices. Once its replica is
// master, it comes back as a replica.
func (s *site) failover(t *testing.T) {
	t.Helper()
	victim := s.master(t)
	replica := s.cluster.Nodes[slices.Index(s.cluster.Nodes, victim)+3]
	victim.Kill()
	eventually(t, "the replica is master", func() error {
		if role, _ := replica.Do("ROLE").([]any); len(role) == 0 || role[0] != "master" {
			return fmt.Errorf("role %v", role)
		}
		return nil
	})
	victim.Start()
	eventually(t, "the old master is a replica", func() error {
		if role, _ := victim.Do("ROLE").([]any); len(role) < 4 || role[3] != "connected" {
			return fmt.Errorf("role %v", role)
		}
		return nil
	})
}

func (d *traffic) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.admitted)
}

// grows waits until more devices have been admitted than that.
func (d *traffic) grows(t *testing.T, from int) {
	t.Helper()
	eventually(t, "devices get in again", func() error {
		if d.count() < from+20 {
			return fmt.Errorf("%d, then %d", from, d.count())
		}
		return nil
	})
}

// without are those of a that are not in b.
func without(a, b []string) []string {
	have := make(map[string]bool, len(b))
	for _, name := range b {
		have[name] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool { return have[name] })
}
