package redisstore_test

import (
	"fmt"
	"testing"

	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// TestClaimMemory holds a claim to 100 bytes, all of Redis's own included.
func TestClaimMemory(t *testing.T) {
	t.Parallel()
	const claims, batch, limit = 100_000, 1_000, 100
	server := redistest.Start(t, "--appendonly", "no")
	s := open(t, patient(server.URL()))
	hub := createHub(t, s)
	before := usedMemory(t, server)
	names := make([]string, batch)
	for from := 0; from < claims; from += batch {
		for i := range names {
			names[i] = fmt.Sprintf("SN-%09d", from+i)
		}
		if _, err := s.PutClaims(t.Context(), hub.ID, names); err != nil {
			t.Fatal(err)
		}
	}
	each := float64(usedMemory(t, server)-before) / claims
	t.Logf("%.0f bytes per claim", each)
	if each > limit {
		t.Errorf("%.0f bytes per claim, want at most %d", each, limit)
	}
}
