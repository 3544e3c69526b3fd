package sessions

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/process"
	"github.com/hubgate/hubgate/provision"
)

// many is how many connections of one device come at once.
const many = 50

// cluster is hubgates on one store, with two Envoys before one broker, which
// logs who comes and goes.
type cluster struct {
	hubgates []*hubgate
	edges    []*edge
	wires    []*wire // of the Envoys' links
	broker   *process.Process
}

// newCluster makes one on either kind of store. On Redis there are two replicas,
// and each Envoy asks one and is linked to the other.
func newCluster(t testing.TB, name string) *cluster {
	t.Helper()
	open := storages[name](t)
	c := &cluster{hubgates: []*hubgate{startHubgate(t, open)}}
	if name == "redis" {
		c.hubgates = append(c.hubgates, startHubgate(t, open))
	}
	address, broker := startMosquitto(t, "notice", "allow_anonymous true\nacl_file "+write(t, "acl", []byte(ownTopics)))
	c.broker = broker
	for i := range 2 {
		asked, linked := c.hubgates[i%len(c.hubgates)], c.hubgates[(i+1)%len(c.hubgates)]
		w := startWire(t, linked.link)
		c.wires = append(c.wires, w)
		c.edges = append(c.edges, startEdge(t, edgeConfig{authz: asked.authz, link: w.address, broker: address, backend: startBackend(t)}))
	}
	return c
}

// fleet is a hub that every replica knows.
func (c *cluster) fleet(t testing.TB, policy provision.ConnectionPolicy) *fleet {
	t.Helper()
	f := c.hubgates[0].fleet(t)
	f.edit(t, func(h *provision.Hub) { h.Policy.Connections = policy })
	for _, h := range c.hubgates {
		(&fleet{hubgate: h, hub: f.hub}).known(t)
	}
	return f
}

// comesAndGoes are mosquitto's lines of a client that is connected, and of one
// that is not any more.
var comesAndGoes = regexp.MustCompile(`(?m)New client connected from .* as (\S+) |Client (\S+) (?:disconnected|closed its connection|\[[^]]*\] disconnected)`)

// atOnce is the greatest number of the device's connections that the broker had
// at once, and how many there were in all.
func (c *cluster) atOnce(d *device) (most, all int) {
	open := map[string]bool{}
	for _, line := range comesAndGoes.FindAllStringSubmatch(c.broker.Output(), -1) {
		came, went := line[1], line[2]
		if !strings.HasPrefix(came+went, d.id.String()) {
			continue
		}
		if went != "" {
			delete(open, went)
			continue
		}
		open[came] = true
		all++
		most = max(most, len(open))
	}
	return most, all
}

// crowdIn has the device connect many times at once, through all Envoys, and
// returns those that the broker has greeted and what the others met.
func (c *cluster) crowdIn(t testing.TB, d *device) (greeted []*client, refused []error) {
	t.Helper()
	clients, errs := make([]*client, many), make([]error, many)
	start := make(chan struct{})
	var connecting sync.WaitGroup
	for i := range many {
		connecting.Go(func() {
			<-start
			clients[i], errs[i] = d.dial(c.edges[i%len(c.edges)], dialing{clientID: fmt.Sprintf("client-%d", i)})
		})
	}
	close(start)
	connecting.Wait()
	for i, client := range clients {
		if errs[i] != nil {
			refused = append(refused, errs[i])
			continue
		}
		t.Cleanup(client.close)
		greeted = append(greeted, client)
	}
	return greeted, refused
}

func TestOneConnectionAtATime(t *testing.T) {
	t.Parallel()
	for name := range storages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, name)
			for _, story := range []struct {
				name string
				tell func(*testing.T, *cluster)
			}{
				{"many take over at once", manyTakeOver},
				{"many are rejected at once", manyAreRejected},
				{"a device that comes back is not rejected", comesBack},
				{"a connection without the library is not waited for", notWaitedFor},
				{"what waits survives a cut link", waitsWithoutALink},
				{"what waits survives hubgate", waitsForHubgate},
				{"a killed Envoy rejects nobody for long", killedEnvoy},
			} {
				t.Run(story.name, func(t *testing.T) { story.tell(t, c) })
			}
		})
	}
}

// manyTakeOver: of connections that come at once one stays, and the broker never
// has two.
func manyTakeOver(t *testing.T, c *cluster) {
	f := c.fleet(t, provision.Takeover)
	for _, name := range []string{"new", "again"} {
		d := f.device(t, name)
		if name == "again" { // known, and connected
			d.connect(t, c.edges[0], dialing{clientID: "before"})
		}
		greeted, _ := c.crowdIn(t, d)
		f.lists(t, name)
		var stays []*client
		eventually(t, "one connection is open", func() error {
			stays = slices.DeleteFunc(slices.Clone(greeted), func(c *client) bool { return !c.open() })
			if len(stays) != 1 {
				return fmt.Errorf("%d are", len(stays))
			}
			return nil
		})
		stays[0].ping(t)
		most, all := c.atOnce(d)
		t.Logf("%s: of %d the broker greeted %d, at most %d at once", name, many, all, most)
		if most != 1 || all < 1 {
			t.Errorf("the broker had %d connections at once, of %d in all", most, all)
		}
		stays[0].close()
		f.lists(t)
	}
}

// manyAreRejected: of connections that come at once one gets in, and the others
// meet TLS's alert.
func manyAreRejected(t *testing.T, c *cluster) {
	f := c.fleet(t, provision.Reject)
	d := f.device(t, "SN-1")
	for range 2 { // new, and known
		greeted, refused := c.crowdIn(t, d)
		for _, err := range refused {
			if !errors.Is(err, errDenied) {
				t.Errorf("one was refused with %v", err)
			}
		}
		if len(greeted) != 1 || len(refused) != many-1 {
			t.Fatalf("%d got in, %d were refused", len(greeted), len(refused))
		}
		greeted[0].ping(t)
		f.lists(t, "SN-1")
		if most, _ := c.atOnce(d); most != 1 {
			t.Errorf("the broker had %d connections at once", most)
		}
		// HTTP is another matter.
		f.device(t, "SN-1").ask(t, c.edges[0], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200)
		greeted[0].close()
		f.lists(t)
	}
}

// comesBack: a device that closes its connection gets in, through whichever
// Envoy: at once, or on a busy machine, where word of the end takes longer than a
// check waits for it, when it tries again.
func comesBack(t *testing.T, c *cluster) {
	d := c.fleet(t, provision.Reject).device(t, "SN-1")
	for i := range 20 {
		var open *client
		eventually(t, fmt.Sprintf("connection %d", i), func() (err error) {
			open, err = d.dial(c.edges[i%2], dialing{})
			return err
		})
		open.ping(t)
		open.close()
	}
}

// notWaitedFor: an Envoy without the library cannot end the older connection.
// The newer gets in, and an event tells.
func notWaitedFor(t *testing.T, c *cluster) {
	h := c.hubgates[0]
	bare := startEdge(t, edgeConfig{authz: h.authz, broker: startBroker(t, ownTopics), backend: startBackend(t)})
	f := c.fleet(t, provision.Takeover)
	d := f.device(t, "SN-1")
	f.device(t, "teacher").connect(t, c.edges[0], dialing{}) // which has the hub learn the line
	old := d.connect(t, bare, dialing{})
	f.lists(t, "SN-1", "teacher")
	newer := d.connect(t, c.edges[0], dialing{})
	f.lists(t, "SN-1", "SN-1", "teacher")
	newer.ping(t)
	old.ping(t)
	eventually(t, "the older session is marked", func() error {
		sessions := must(f.store.DeviceSessions(t.Context(), f.hub.ID, d.id))(t)
		if sessions[0].Unended != provision.EndElsewhere || sessions[1].Unended != "" {
			return fmt.Errorf("%+v", sessions)
		}
		return nil
	})
	eventually(t, "an event tells", func() error {
		for _, e := range must(f.store.Events(t.Context(), f.hub.ID.Partition(f.store.Partitions()), 0, 1000))(t) {
			if e.Event.Reason == provision.ReasonSessionNotEnded && e.Event.ObjectID == d.id.String() {
				return nil
			}
		}
		return errors.New("none does")
	})
}

// dialed is a connection in the making.
type dialed struct {
	client *client
	err    error
}

func (d *device) dialLater(e *edge, how dialing) <-chan dialed {
	made := make(chan dialed, 1)
	go func() {
		client, err := d.dial(e, how)
		made <- dialed{client, err}
	}()
	return made
}

// waits makes sure that a connection does, behind one that nobody can end.
func waits(t *testing.T, f *fleet, d *device, made <-chan dialed) {
	t.Helper()
	eventually(t, "both connections are known", func() error {
		sessions := must(f.store.DeviceSessions(t.Context(), f.hub.ID, d.id))(t)
		if len(sessions) != 2 || !sessions[1].Confirmed {
			return fmt.Errorf("%+v", sessions)
		}
		return nil
	})
	select {
	case d := <-made:
		t.Fatalf("it did not wait: %v", d.err)
	default:
	}
}

func connected(t *testing.T, made <-chan dialed) *client {
	t.Helper()
	select {
	case d := <-made:
		if d.err != nil {
			t.Fatal(d.err)
		}
		t.Cleanup(d.client.close)
		return d.client
	case <-time.After(patience):
		t.Fatal("it waits too long")
		return nil
	}
}

// waitsWithoutALink: a new connection waits for an older one that cannot be ended
// just now. Once nobody can say how that is, it goes on, and the older one is
// ended as soon as somebody can.
func waitsWithoutALink(t *testing.T, c *cluster) {
	f := c.fleet(t, provision.Takeover)
	d := f.device(t, "SN-1")
	old := d.connect(t, c.edges[0], dialing{clientID: "old"})
	f.lists(t, "SN-1")
	c.wires[0].cut(true)
	made := d.dialLater(c.edges[1], dialing{clientID: "new"})
	waits(t, f, d, made)
	c.wires[1].cut(true)
	newer := connected(t, made)
	newer.ping(t)
	c.wires[1].cut(false)
	c.wires[0].cut(false)
	old.ends(t, int(link.SessionTakenOver))
	f.lists(t, "SN-1")
	newer.ping(t)
}

// waitsForHubgate: hubgate restarts while a connection waits; the lease of the
// Envoy that nobody hears of runs out.
func waitsForHubgate(t *testing.T, c *cluster) {
	f := c.fleet(t, provision.Takeover)
	d := f.device(t, "SN-1")
	old := d.connect(t, c.edges[0], dialing{clientID: "old"})
	f.lists(t, "SN-1")
	c.wires[0].cut(true)
	made := d.dialLater(c.edges[1], dialing{clientID: "new"})
	waits(t, f, d, made)
	h := c.hubgates[0] // to which the second Envoy is linked
	h.stop()
	h.start(t)
	newer := connected(t, made)
	c.wires[0].cut(false)
	old.ends(t, int(link.SessionTakenOver))
	(&fleet{hubgate: h, hub: f.hub}).lists(t, "SN-1")
	newer.ping(t)
}

// killedEnvoy: while its lease holds, nobody knows that an Envoy is dead.
func killedEnvoy(t *testing.T, c *cluster) {
	f := c.fleet(t, provision.Reject)
	d := f.device(t, "SN-1")
	d.connect(t, c.edges[0], dialing{})
	f.lists(t, "SN-1")
	if _, err := d.dial(c.edges[1], dialing{}); !errors.Is(err, errDenied) {
		t.Errorf("a second connection: %v", err)
	}
	c.edges[0].process.Kill()
	began := time.Now()
	denied := 0
	eventually(t, "the device gets in", func() error {
		client, err := d.dial(c.edges[1], dialing{})
		if err != nil {
			denied++
			return err
		}
		t.Cleanup(client.close)
		return nil
	})
	t.Logf("%s after Envoy was killed, denied %d times; its lease is %s", time.Since(began).Round(time.Millisecond), denied, link.Missed*heartbeat)
	f.lists(t, "SN-1")
}
