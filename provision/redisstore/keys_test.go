package redisstore

import (
	"slices"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

func TestSlotOf(t *testing.T) {
	t.Parallel()
	// From the cluster specification, and from CLUSTER KEYSLOT.
	for tag, want := range map[string]int{"123456789": 0x31C3, "foo": 12182, "": 0} {
		if got := slotOf([]byte(tag)); got != want {
			t.Errorf("slot of %q is %d, want %d", tag, got, want)
		}
	}
}

// TestPartitionsSpread: nodes that share the slots evenly share the partitions
// evenly too, whatever their number.
func TestPartitionsSpread(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3, 16, 64, 100, 256, maxPartitions} {
		parts := newPartitions(n)
		seen := map[string]bool{}
		at := make([]int, n)
		for i, p := range parts {
			if p.number != i || seen[p.prefix] {
				t.Fatalf("partition %d of %d is %+v", i, n, p)
			}
			seen[p.prefix] = true
			at[i] = slotOf([]byte(tagOf(p)))
			if at[i]*n/slots != i {
				t.Errorf("partition %d of %d is in slot %d, outside its stretch", i, n, at[i])
			}
		}
		for nodes := 1; nodes <= min(n, 12); nodes++ {
			share := make([]int, nodes)
			for _, slot := range at {
				share[slot*nodes/slots]++
			}
			if spread := slices.Max(share) - slices.Min(share); spread > 1 {
				t.Errorf("%d partitions on %d nodes: %v", n, nodes, share)
			}
		}
	}
}

// TestEnvoyKeys: what Envoys call themselves cannot make two of them one.
func TestEnvoyKeys(t *testing.T) {
	t.Parallel()
	if got, want := keyEnvoy(provision.EnvoyID{Node: "edge-1", Epoch: "9f86d081"}), "hg:{meta}:envoy:edge-1/9f86d081"; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	seen := map[string]provision.EnvoyID{}
	for _, e := range []provision.EnvoyID{
		{}, {Node: "a"}, {Epoch: "a"}, {Node: "a", Epoch: "log/1"}, {Node: "a/log", Epoch: "1"}, {Node: "a%2Flog", Epoch: "1"}, {Node: "a/log/1"},
	} {
		key := keyEnvoy(e)
		if other, ok := seen[key]; ok {
			t.Errorf("%+v and %+v share the key %s", e, other, key)
		}
		seen[key] = e
	}
}

// TestTagsAreForever: the tags are in every key that is stored.
func TestTagsAreForever(t *testing.T) {
	t.Parallel()
	var tags []string
	for _, p := range newPartitions(64) {
		tags = append(tags, tagOf(p))
	}
	const want = "mm 6q 9i bu 0d3 21 007 ax 0j kv dn 02l 3g o6 gc xw 8g d6 lc 02 019 0mh on 4r 0o3 91 1d jx fm yy 2i iu " +
		"7a k0 ce 8y 4l op 0mv 9 jf 1z zj b3 ik 2w yg fs bk 9w 6o ms af 07d 5b i3 02r dp kh 0t a 0jc he 3y"
	if got := strings.Join(tags, " "); got != want {
		t.Errorf("tags of 64 partitions:\n%s\nwant\n%s", got, want)
	}
}

func tagOf(p partition) string {
	return strings.TrimSuffix(strings.TrimPrefix(p.prefix, "hg:{"), "}:")
}
