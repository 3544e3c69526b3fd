package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

func testLearn(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	der := make([][]byte, provision.MaxLearned+10)
	for i := range der {
		der[i] = fakeDER(fmt.Sprint("intermediate ", i))
	}
	wantLearned := func(what string, want [][]byte) {
		t.Helper()
		have := got(f.replica(t).Learned(ctx, hub.ID))(t)
		wantEqual(t, what, slices.SortedFunc(slices.Values(have), bytes.Compare), slices.SortedFunc(slices.Values(want), bytes.Compare))
	}
	must(t, s.Learn(ctx, hub.ID, nil))
	wantEqual(t, "nothing learned", len(got(s.Learned(ctx, hub.ID))(t)), 0)
	must(t, s.Learn(ctx, hub.ID, der[:3]))
	must(t, f.replica(t).Learn(ctx, hub.ID, der[1:4]))
	must(t, s.Learn(ctx, hub.ID, [][]byte{der[0], der[0]}))
	wantLearned("learned, some of it twice", der[:4])
	must(t, s.Learn(ctx, hub.ID, der))
	have := got(s.Learned(ctx, hub.ID))(t)
	wantEqual(t, "number learned of too many", len(have), provision.MaxLearned)
	for _, known := range der[:4] {
		if !slices.ContainsFunc(have, func(b []byte) bool { return bytes.Equal(b, known) }) {
			t.Error("what was known already was dropped")
		}
	}
	must(t, s.Learn(ctx, hub.ID, [][]byte{fakeDER("one too many"), der[0]}))
	wantLearned("learned by a hub that is full", have)
	// Learning is no change of the hub's settings, and no news to its owner.
	wantEqual(t, "hub", got(s.Hub(ctx, hub.ID))(t), hub)
	wantEqual(t, "events", len(got(hubEvents(ctx, s, hub.ID))(t)), 1)

	wantErr(t, "learned by no hub", s.Learn(ctx, provision.NewHubID(), der[:1]), provision.ErrHubChanged)
	declared := provision.Hub{ID: provision.NewHubID(), Name: NewHub().Name, Declared: "hubs.yaml"}
	must(t, s.ClaimHub(ctx, declared))
	must(t, s.Learn(ctx, declared.ID, der[:1]))
	wantEqual(t, "learned by a declared hub", got(s.Learned(ctx, declared.ID))(t), der[:1])
}
