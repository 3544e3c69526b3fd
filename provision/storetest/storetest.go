// Package storetest holds every store to the contracts of package provision:
// one suite, contention included, run by boltstore and redisstore alike. What
// the contracts leave open and both stores must agree on is decided here.
//
// A test makes its own hubs with random IDs and names and looks at nothing
// else, so that the suite runs in parallel on one shared server.
package storetest

import (
	"cmp"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// Store is everything that a store offers.
type Store interface {
	provision.Store
	provision.HubRegistry
	provision.DeviceRegistry
	provision.Outbox
	provision.Announcer
	provision.Cursors
	provision.Sessions
	provision.Tokens
	provision.Claims
}

// Fixture is a store under test.
type Fixture struct {
	Store Store
	// Replica returns another handle on the same data, as a second hubgate
	// would have. Nil for a store that has a single owner: then the tests of
	// two replicas use Store twice.
	Replica func(t *testing.T) Store
	// Clock is the clock of Store and its replicas, and of no other fixture.
	Clock *Clock
}

func (f Fixture) replica(t *testing.T) Store {
	if f.Replica == nil {
		return f.Store
	}
	return f.Replica(t)
}

// Options sizes the suite. The zero value is the everyday size, which suits
// -race on two cores.
type Options struct {
	Goroutines int           // that race, in one process
	Names      int           // that they race for
	HubDevices int           // of the hub that is deleted
	Fences     int           // rounds of each fence test
	Storm      time.Duration // how long creators run before each fence
}

// FromEnv returns the everyday size, or with HUBGATE_SOAK=1 that of a long run.
func FromEnv() Options {
	if os.Getenv("HUBGATE_SOAK") == "1" {
		return Options{Goroutines: 64, Names: 5_000, HubDevices: 50_000, Fences: 50, Storm: 500 * time.Millisecond}
	}
	return Options{}
}

func (o Options) withDefaults() Options {
	o.Goroutines = cmp.Or(o.Goroutines, 64)
	o.Names = cmp.Or(o.Names, 1_000)
	o.HubDevices = cmp.Or(o.HubDevices, 3_000)
	o.Fences = cmp.Or(o.Fences, 3)
	o.Storm = cmp.Or(o.Storm, 60*time.Millisecond)
	return o
}

// Run runs the suite. open returns a fixture that lives as long as the test it
// is called with; fixtures may share their data.
func Run(t *testing.T, open func(t *testing.T) Fixture, o Options) {
	o = o.withDefaults()
	for name, test := range map[string]func(t *testing.T, f Fixture){
		"hub is created and found":           testHubCreated,
		"hub names and IDs are unique":       testHubUnique,
		"hubs are listed by partition":       testHubsByPartition,
		"declared hubs are claimed":          testClaim,
		"hub is updated":                     testHubUpdated,
		"hub is renamed":                     testHubRenamed,
		"concurrent hub updates all land":    testHubUpdatesConcurrent,
		"device is created once":             testDeviceCreated,
		"device is not found":                testDeviceNotFound,
		"stale creations are refused":        testStaleCreation,
		"device is updated":                  testDeviceUpdated,
		"concurrent device updates all land": testDeviceUpdatesConcurrent,
		"device is deleted":                  testDeviceDeleted,
		"unknown fields survive":             testUnknownFields,
		"devices are put":                    testPut,
		"many devices are put at once":       testPutMany,
		"any name is a name":                 testNames,
		"context is honoured":                testContext,
		"device is bound once":               testBinding,
		"bindings race":                      testBindingsRace,
		"devices are counted by anchor":      testAnchorDevices,
		"devices are counted under races":    testAnchorDevicesRace,
		"devices are listed by prefix":       testPrefix,
		"hub is deleted if empty":            testEmptyHubDeleted,
		"a silent change tells nobody":       testSilent,
		"intermediates are forgotten":        testForget,
		"hub is deleted":                     func(t *testing.T, f Fixture) { testHubDeleted(t, f, o) },
		"intermediates are learned":          testLearn,
		"certificates are revoked":           testRevocations,
		"revocations race":                   testRevocationsRace,
		"devices are paged":                  testPaging,
		"devices are paged while they come":  testPagingConcurrent,
		"events are numbered":                testEvents,
		"events keep their form":             testEventForm,
		"events stay in their partition":     testEventsOfPartitions,
		"events are appended":                testEventsAppended,
		"cursor has one owner":               testCursorOwner,
		"cursor is fenced":                   testCursorFence,
		"cursors race":                       testCursorRace,
		"tokens are kept":                    testTokens,
		"changes are told":                   testWatch,
		"changes are told soon":              testWatchPrompt,
		"freshness advances":                 testWatchFresh,
		"no creation passes a disable":       func(t *testing.T, f Fixture) { testFenceDisable(t, f, o) },
		"no creation passes a lost anchor":   func(t *testing.T, f Fixture) { testFenceAnchor(t, f, o) },
		"no creation passes a deletion":      func(t *testing.T, f Fixture) { testFenceDeletion(t, f, o) },
		"first connections race":             func(t *testing.T, f Fixture) { testRace(t, f, o) },
		"claims are kept":                    testClaims,
		"claims are needed":                  testClaimNeeded,
		"claims are paged":                   testClaimPages,
		"claims are used once":               func(t *testing.T, f Fixture) { testClaimRace(t, f, o) },
		"a hub has a quota":                  testQuota,
		"a creation is tried":                testDryRun,
		"the last places are raced for":      func(t *testing.T, f Fixture) { testQuotaRace(t, f, o) },
		"a hub has a rate":                   testRate,
		"a rate holds under races":           func(t *testing.T, f Fixture) { testRateRace(t, f, o) },
		"session is put":                     testSessionPut,
		"session of nothing is refused":      testSessionRefused,
		"session outlives its device":        testSessionOfDeleted,
		"session is removed":                 testSessionRemoved,
		"session is pending for a while":     testSessionPending,
		"session lives with its Envoy":       testSessionLease,
		"session lives by an access log":     testSessionLogged,
		"sessions of an Envoy are found":     testSessionsOfEnvoy,
		"sessions are announced":             testSessionsAnnounced,
		"sessions are paged":                 testSessionPaging,
		"session is claimed":                 testSessionClaimed,
		"one claim of many is granted":       func(t *testing.T, f Fixture) { testSessionsRaceClaim(t, f, o) },
		"no session misses a change":         func(t *testing.T, f Fixture) { testSessionsRaceChange(t, f, o) },
		"no two sessions are alone":          testSessionsRaceAlone,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// patience bounds a test: far more than it needs on a busy machine, so that a
// store that hangs fails the test that hung it.
const patience = 5 * time.Minute

func testContextOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got fails the test on the call's error and returns its value.
func got[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// wantErr fails the test unless the error is the wanted one.
func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}
