package provision_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// BenchmarkAdmitKnownBesideClaims shows that a known device pays nothing for its
// hub's claim list: two hubs take turns, one without a claim, the other with as
// many as it can have. They are put there before anything is measured, which
// standard error tells of.
func BenchmarkAdmitKnownBesideClaims(b *testing.B) {
	const rounds = 5
	benchStores(b, func(b *testing.B, store benchStore) {
		root, line := benchVendor(b)
		gate := benchGate(b, store, root, provision.AdmissionRule{Claims: provision.ClaimListed})
		known := func(b *testing.B, c provision.Connection) {
			admit(b, gate, c, provision.DeviceKnown)
			b.ReportAllocs()
			for b.Loop() {
				admit(b, gate, c, provision.DeviceKnown)
			}
		}
		bare, _ := gate.Hub("bench")
		none := claimed(b, store, gate, bare, line)
		otherRoot, otherLine := benchVendor(b)
		full := bare
		full.ID, full.Name, full.Anchors = provision.NewHubID(), "full", [][]byte{otherRoot.Certificate.Raw}
		full, err := store.CreateHub(b.Context(), full, provision.Created.OnHub(full, time.Now()))
		if err != nil {
			b.Fatal(err)
		}
		for _, ok := gate.Hub("full"); !ok; _, ok = gate.Hub("full") {
			time.Sleep(time.Millisecond)
		}
		million := claimed(b, store, gate, full, otherLine)
		fillClaims(b, store, full.ID)
		for range rounds {
			b.Run("none", func(b *testing.B) { known(b, none) })
			b.Run("a million", func(b *testing.B) { known(b, million) })
		}
	})
}

// claimed is the connection of a device that the hub knows, whose claim list is
// empty again.
func claimed(b *testing.B, store benchStore, gate *provision.Gate, hub provision.Hub, line *pki.Authority) provision.Connection {
	b.Helper()
	if _, err := store.PutClaims(b.Context(), hub.ID, []string{"SN-1"}); err != nil {
		b.Fatal(err)
	}
	c := sealed(over(benchLeaf(b, line, "SN-1")), nil)
	admit(b, gate, c, provision.DeviceProvisioned)
	if err := store.ClearClaims(b.Context(), hub.ID); err != nil {
		b.Fatal(err)
	}
	return c
}

// fillClaims puts as many names on the hub's empty claim list as it can have.
func fillClaims(b *testing.B, store benchStore, hub provision.HubID) {
	b.Helper()
	names := make([]string, 2000)
	for n := 0; n < provision.MaxClaims; n += len(names) {
		for i := range names {
			names[i] = fmt.Sprintf("CLAIM-%07d", n+i)
		}
		if _, err := store.PutClaims(b.Context(), hub, names); err != nil {
			b.Fatal(err)
		}
		if n%100_000 == 0 {
			fmt.Fprintf(os.Stderr, "%d of %d claims\n", n, provision.MaxClaims)
		}
	}
	if n, err := store.CountClaims(b.Context(), hub); err != nil || n != provision.MaxClaims {
		b.Fatalf("%d claims, %v", n, err)
	}
}
