package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// testQuota: first connections count against what there is, however it came.
func testQuota(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	create := func(name string, most int) error {
		c := NewCreation(hub, name)
		c.MaxDevices = most
		_, _, err := s.CreateDevice(ctx, c)
		return err
	}
	must(t, create("chip-1", 2))
	must(t, create("chip-2", 2))
	wantErr(t, "one too many", create("chip-3", 2), provision.ErrQuota)
	_, err := s.Device(ctx, hub.ID, "chip-3")
	wantErr(t, "device that was refused", err, provision.ErrNotFound)
	wantEqual(t, "events", len(got(hubEvents(ctx, s, hub.ID))(t)), 3)
	must(t, create("chip-2", 2)) // known
	must(t, create("by hand", 0))
	wantErr(t, "beyond the quota already", create("chip-3", 2), provision.ErrQuota)
	must(t, create("chip-3", 4))
	must(t, deleteDevice(ctx, s, NewDevice(hub.ID, "chip-1")))
	must(t, create("chip-1", 4))
	stale := NewCreation(hub, "chip-5")
	stale.HubVersion++
	stale.MaxDevices = 1
	_, _, err = s.CreateDevice(ctx, stale)
	wantErr(t, "of another version, on a full hub", err, provision.ErrHubChanged)
}

// testDryRun: it is refused as the creation itself would be, but for the rate, and
// leaves nothing behind.
func testDryRun(t *testing.T, f Fixture) {
	ctx, s := testContextOf(t), f.Store
	hub := got(CreateHub(ctx, s))(t)
	dry := func(edit func(*provision.Creation)) (bool, error) {
		c := NewCreation(hub, "chip-1")
		c.DryRun, c.Claim, c.MaxDevices, c.PerSecond = true, provision.ClaimOnce, 1, 1
		if edit != nil {
			edit(&c)
		}
		_, would, err := s.CreateDevice(ctx, c)
		return would, err
	}
	refused := func(what string, edit func(*provision.Creation), want error) {
		t.Helper()
		_, err := dry(edit)
		wantErr(t, what, err, want)
	}
	refused("not on the list", nil, provision.ErrNotClaimed)
	refused("of another version", func(c *provision.Creation) { c.HubVersion++ }, provision.ErrHubChanged)
	got(s.PutClaims(ctx, hub.ID, []string{"chip-1"}))(t)
	for range 3 { // more than the rate has tokens
		wantEqual(t, "would be created", got(dry(nil))(t), true)
	}
	_, err := s.Device(ctx, hub.ID, "chip-1")
	wantErr(t, "after a dry run", err, provision.ErrNotFound)
	wantEqual(t, "events", len(got(hubEvents(ctx, s, hub.ID))(t)), 1) // the hub's own
	wantEqual(t, "the claim is used", got(allClaims(ctx, s, hub.ID, 10))(t)["chip-1"], false)
	c := NewCreation(hub, "chip-1") // of which the one token is still there
	c.Claim, c.MaxDevices, c.PerSecond = provision.ClaimOnce, 1, 1
	_, created, err := s.CreateDevice(ctx, c)
	must(t, err)
	wantEqual(t, "created", created, true)
	wantEqual(t, "known", got(dry(nil))(t), false)
	refused("on a full hub", func(c *provision.Creation) {
		c.Device = NewDevice(hub.ID, "chip-2")
		c.Claim = provision.NoClaims
	}, provision.ErrQuota)
	must(t, deleteDevice(ctx, s, NewDevice(hub.ID, "chip-1")))
	refused("used", nil, provision.ErrNotClaimed)
}

// testQuotaRace: of all who race for the last places, as many get in as there
// are.
func testQuotaRace(t *testing.T, f Fixture, o Options) {
	const places = 10
	ctx := testContextOf(t)
	hub := got(CreateHub(ctx, f.Store))(t)
	handles := []Store{f.Store, f.replica(t)}
	var created, refused atomic.Int64
	var wg sync.WaitGroup
	for g := range o.Goroutines {
		wg.Go(func() {
			c := NewCreation(hub, fmt.Sprint("chip-", g))
			c.MaxDevices = places
			switch _, won, err := handles[g%2].CreateDevice(ctx, c); {
			case won:
				created.Add(1)
			case errors.Is(err, provision.ErrQuota):
				refused.Add(1)
			default:
				t.Errorf("chip-%d: %v", g, err)
			}
		})
	}
	wg.Wait()
	wantEqual(t, "created", created.Load(), int64(places))
	wantEqual(t, "refused", refused.Load(), int64(o.Goroutines-places))
	wantEqual(t, "devices", got(f.Store.CountDevices(ctx, hub.ID))(t), places)
}

// testRate: a hub takes a second's worth at once, then one at a time, and says
// when.
func testRate(t *testing.T, f Fixture) {
	const perSecond = 2 // slow enough for a busy machine
	ctx, s := testContextOf(t), f.Store
	hub, other := got(CreateHub(ctx, s))(t), got(CreateHub(ctx, s))(t)
	n := 0
	create := func(hub provision.Hub, edit func(*provision.Creation)) error {
		n++
		c := NewCreation(hub, fmt.Sprint("chip-", n))
		c.PerSecond = perSecond
		if edit != nil {
			edit(&c)
		}
		_, _, err := f.replica(t).CreateDevice(ctx, c)
		return err
	}
	began := time.Now()
	var refused *provision.RateError
	for !errors.As(create(hub, nil), &refused) {
		if n > perSecond+perSecond*int(1+time.Since(began)/time.Second) {
			t.Fatalf("%d were created in %s", n, time.Since(began))
		}
	}
	if n <= perSecond {
		t.Errorf("number %d was refused, at %d a second", n, perSecond)
	}
	if refused.After <= 0 || refused.After > time.Second/perSecond {
		t.Errorf("the next is in %s, at %d a second", refused.After, perSecond)
	}
	must(t, create(hub, func(c *provision.Creation) { c.PerSecond = 0 }))
	must(t, create(hub, func(c *provision.Creation) { c.Device, c.Event = NewDevice(hub.ID, "chip-1"), provision.Event{} })) // known
	must(t, create(other, nil))
	time.Sleep(refused.After)
	// What is refused for another reason takes no token.
	wantErr(t, "full", create(hub, func(c *provision.Creation) { c.MaxDevices = 1 }), provision.ErrQuota)
	wantErr(t, "without a claim", create(hub, func(c *provision.Creation) { c.Claim = provision.ClaimListed }), provision.ErrNotClaimed)
	must(t, create(hub, nil))
}

// testRateRace: however many processes try, a hub sees no more than what its
// bucket held and what came since.
func testRateRace(t *testing.T, f Fixture, o Options) {
	const perSecond = 20
	ctx := testContextOf(t)
	hub := got(CreateHub(ctx, f.Store))(t)
	handles := []Store{f.Store, f.replica(t)}
	var created, refused atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for g := range o.Goroutines / 4 {
		wg.Go(func() {
			for i := 0; time.Since(began) < 500*time.Millisecond || created.Load() < perSecond+2; i++ {
				c := NewCreation(hub, fmt.Sprintf("chip-%d-%d", g, i))
				c.PerSecond = perSecond
				var rate *provision.RateError
				switch _, won, err := handles[g%2].CreateDevice(ctx, c); {
				case won:
					created.Add(1)
				case errors.As(err, &rate):
					refused.Add(1)
				default:
					t.Errorf("chip-%d-%d: %v", g, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if most := perSecond + int64(perSecond*took.Seconds()) + 1; created.Load() > most {
		t.Errorf("%d were created in %s, want at most %d", created.Load(), took, most)
	}
	wantEqual(t, "devices", int64(got(f.Store.CountDevices(ctx, hub.ID))(t)), created.Load())
	if refused.Load() == 0 {
		t.Error("none was refused: the test shows nothing")
	}
}
