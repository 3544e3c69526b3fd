package redistest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const slots = 16384

// Cluster is a Redis Cluster of masters that share the slots evenly.
type Cluster struct {
	Nodes []*Server
}

// StartCluster starts a cluster of that many masters, without replicas, and
// waits until every node serves.
func StartCluster(t testing.TB, nodes int) *Cluster {
	t.Helper()
	c := &Cluster{}
	first := 0
	for i := range nodes {
		bus := 0
		s := start(t, 2, func(ports []int) []string {
			bus = ports[1]
			// The bus port is said outright: the default, port + 10000, is
			// beyond 65535 for most free ports.
			return []string{"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000"}
		})
		end := (i + 1) * slots / nodes
		s.Do("CLUSTER", "ADDSLOTSRANGE", first, end-1)
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		first = end
		if i > 0 {
			c.Nodes[0].Do("CLUSTER", "MEET", "127.0.0.1", s.port, bus)
		}
		c.Nodes = append(c.Nodes, s)
	}
	for _, s := range c.Nodes {
		s.await("the cluster's state", func(ctx context.Context, r *redis.Client) error {
			info, err := r.ClusterInfo(ctx).Result()
			if err != nil {
				return err
			}
			for _, want := range []string{"cluster_state:ok", fmt.Sprintf("cluster_known_nodes:%d", nodes), fmt.Sprintf("cluster_slots_ok:%d", slots)} {
				if !strings.Contains(info, want) {
					return fmt.Errorf("no %s in\n%s", want, info)
				}
			}
			return nil
		})
	}
	return c
}

// URL is the cluster's redis+cluster:// URL.
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr()
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

// AddReplicas gives each master a replica, and waits until it has caught up.
// Replicas follow the masters in Nodes, in their order.
func (c *Cluster) AddReplicas(t testing.TB) {
	t.Helper()
	masters := c.Nodes
	for i, master := range masters {
		bus := 0
		s := start(t, 2, func(ports []int) []string {
			bus = ports[1]
			return []string{"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000"}
		})
		master.Do("CLUSTER", "MEET", "127.0.0.1", s.port, bus)
		id, _ := master.Do("CLUSTER", "MYID").(string)
		s.await("the master's name", func(ctx context.Context, r *redis.Client) error {
			return r.Do(ctx, "CLUSTER", "REPLICATE", id).Err()
		})
		s.await("the replica's link", func(ctx context.Context, r *redis.Client) error {
			role, err := r.Do(ctx, "ROLE").Slice()
			if err != nil {
				return err
			}
			if len(role) < 4 || role[3] != "connected" {
				return fmt.Errorf("role is %v", role)
			}
			return nil
		})
		c.Nodes = append(c.Nodes, s)
		for _, node := range c.Nodes {
			node.await("acquaintance", func(ctx context.Context, r *redis.Client) error {
				info, err := r.ClusterInfo(ctx).Result()
				if err == nil && !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(masters)+i+1)) {
					err = fmt.Errorf("%s", info)
				}
				return err
			})
		}
	}
}
