package sessions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/envoy/module/link"
)

// TestOutages takes parts away: the link, hubgate, Envoy. Afterwards the list of
// sessions equals the open sockets, and what was disabled meanwhile is closed.
func TestOutages(t *testing.T) {
	t.Parallel()
	for name, on := range storages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHubgate(t, on(t))
			w := startWire(t, h.link)
			c := edgeConfig{authz: h.authz, link: w.address, broker: startBroker(t, ownTopics), backend: startBackend(t)}
			e := startEdge(t, c)
			t.Run("link cut", func(t *testing.T) { linkCut(t, h, e, w) })
			t.Run("hubgate restarted", func(t *testing.T) { hubgateRestarted(t, h, e) })
			t.Run("Envoy killed", func(t *testing.T) { envoyKilled(t, h, e) })
		})
	}
}

func linkCut(t *testing.T, h *hubgate, e *edge, w *wire) {
	f := h.fleet(t)
	stays, leaves, banned := f.device(t, "stays"), f.device(t, "leaves"), f.device(t, "banned")
	staying, leaving, ending := stays.connect(t, e, dialing{}), leaves.connect(t, e, dialing{}), banned.connect(t, e, dialing{})
	streaming := f.device(t, "streaming")
	stream := streaming.ask(t, e, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", 200)
	f.lists(t, "banned", "leaves", "stays", "streaming")

	w.cut(true)
	began := time.Now()
	leaving.close()
	later := f.device(t, "later").connect(t, e, dialing{})
	tooLate := f.device(t, "too late")
	registers := tooLate.connect(t, e, dialing{}) // what hubgate hears of after the ban
	for _, d := range []*device{banned, tooLate, streaming} {
		d.disable(t)
	}
	outage := 4 * time.Second // longer than a lease
	if soak {
		outage = time.Minute
	}
	time.Sleep(outage - time.Since(began))
	for _, c := range []*client{staying, ending, later, registers} {
		c.ping(t) // an outage ends nothing by itself
	}
	w.cut(false)
	for _, c := range []*client{ending, registers} {
		c.ends(t, int(link.AdministrativeAction))
	}
	select {
	case <-stream:
	case <-time.After(patience):
		t.Error("the stream goes on")
	}
	f.lists(t, "later", "stays")
	staying.ping(t)
	later.ping(t)
}

func hubgateRestarted(t *testing.T, h *hubgate, e *edge) {
	f := h.fleet(t)
	stays, banned := f.device(t, "stays"), f.device(t, "banned")
	staying, ending := stays.connect(t, e, dialing{}), banned.connect(t, e, dialing{version: mqtt311})
	f.lists(t, "banned", "stays")
	h.stop()
	staying.ping(t)
	h.start(t)
	banned.disable(t)
	ending.ends(t, int(link.AdministrativeAction))
	f.lists(t, "stays")
	staying.ping(t)

	// Closed while there was no hubgate.
	h.stop()
	staying.close()
	h.start(t)
	f.lists(t)
	stays.connect(t, e, dialing{})
	f.lists(t, "stays")
}

func envoyKilled(t *testing.T, h *hubgate, e *edge) {
	f := h.fleet(t)
	var devices []*device
	for i := range 5 {
		d := f.device(t, fmt.Sprintf("SN-%d", i))
		d.connect(t, e, dialing{})
		devices = append(devices, d)
	}
	f.lists(t, "SN-0", "SN-1", "SN-2", "SN-3", "SN-4")
	e.process.Kill()
	devices[0].disable(t)
	e.start(t, "--disable-hot-restart")
	// Envoy's numbers of connections have begun anew: none of the new ones may
	// be taken for an old one.
	one, two := devices[1].connect(t, e, dialing{}), devices[2].connect(t, e, dialing{version: mqtt311})
	if _, err := devices[0].dial(e, dialing{}); err == nil {
		t.Error("what was disabled meanwhile got in")
	}
	f.lists(t, "SN-1", "SN-2")
	devices[2].disable(t)
	two.ends(t, int(link.AdministrativeAction))
	one.ping(t)
	f.lists(t, "SN-1")
}

// TestHotRestart: one Envoy takes over from another, which keeps its
// connections until it ends. Both have links of their own.
func TestHotRestart(t *testing.T) {
	t.Parallel()
	h := startHubgate(t, onBolt(t))
	f := h.fleet(t)
	id := filepath.Join(t.TempDir(), "base-id")
	e := startEdge(t, edgeConfig{authz: h.authz, link: h.link, broker: startBroker(t, ownTopics), backend: startBackend(t)},
		"--use-dynamic-base-id", "--base-id-path", id, "--restart-epoch", "0")
	old, banned := f.device(t, "old").connect(t, e, dialing{}), f.device(t, "banned").connect(t, e, dialing{})
	moves := f.device(t, "moves")
	moving := moves.connect(t, e, dialing{})
	f.lists(t, "banned", "moves", "old")

	parent := e.process
	const drain, shutdown = 1, 8 // seconds
	e.start(t, "--base-id", strings.TrimSpace(string(must(os.ReadFile(id))(t))), "--restart-epoch", "1",
		"--drain-time-s", strconv.Itoa(drain), "--parent-shutdown-time-s", strconv.Itoa(shutdown))
	child := f.device(t, "new")
	eventually(t, "the new Envoy answers", func() error {
		c, err := child.dial(e, dialing{})
		if err != nil {
			return err
		}
		defer c.close()
		for _, s := range must(h.store.DeviceSessions(t.Context(), f.hub.ID, child.id))(t) {
			if s.Envoy != must(h.store.DeviceSessions(t.Context(), f.hub.ID, old.device.id))(t)[0].Envoy {
				return nil
			}
		}
		return errors.New("the old one did")
	})
	fresh := child.connect(t, e, dialing{})
	again := moves.connect(t, e, dialing{clientID: "another"}) // by the new one, while the old one has a connection
	moving.ends(t, int(link.SessionTakenOver))
	banned.device.disable(t) // whose link is the old one's
	banned.ends(t, int(link.AdministrativeAction))
	f.lists(t, "moves", "new", "old")

	select {
	case <-parent.Done():
	case <-time.After(patience):
		t.Fatal("the old Envoy does not end")
	}
	<-old.closed
	f.lists(t, "moves", "new")
	fresh.ping(t)
	again.ping(t)
}
