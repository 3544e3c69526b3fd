package events_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/hubgate/hubgate/events"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/internal/process"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
	"github.com/hubgate/hubgate/provision/redisstore"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// adminOff keeps replicas from wanting the same port.
const adminOff = `, listen: "off"`

// built is where the binary is, "" if no test needed it.
var built string

// binary builds hubgate, once.
var binary = sync.OnceValues(func() (string, error) {
	var err error
	if built, err = os.MkdirTemp("", "hubgate"); err != nil {
		return "", err
	}
	path := filepath.Join(built, "hubgate")
	out, err := exec.Command("go", "build", "-o", path, "../cmd/hubgate").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// replica is a real hubgate process that can be killed and started again.
type replica struct {
	t              *testing.T
	config, log    string
	authz, metrics string
	conn           *grpc.ClientConn
	mu             sync.Mutex
	proc           *process.Process
	lives          int
}

// startReplica starts a hubgate with that configuration and listeners of its own.
func startReplica(t *testing.T, dir, config string) *replica {
	t.Helper()
	ports := must(process.FreePorts(3))(t)
	r := &replica{t: t, log: filepath.Join(dir, fmt.Sprintf("log-%d", ports[0])),
		authz: fmt.Sprintf("127.0.0.1:%d", ports[0]), metrics: fmt.Sprintf("127.0.0.1:%d", ports[1])}
	text := fmt.Sprintf("authz: {listen: %q}\nmetrics: {listen: %q}\nlink: {listen: \"127.0.0.1:%d\"}\nadmin: {socket: s-%d%s}\nlog: {format: json}\n%s",
		r.authz, r.metrics, ports[2], ports[0], adminOff, config)
	r.config = filepath.Join(dir, fmt.Sprintf("hubgate-%d.yaml", ports[0]))
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.conn = must(grpc.NewClient(r.authz, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second})))(t)
	t.Cleanup(func() { _ = r.conn.Close(); r.kill() })
	r.start()
	return r
}

func (r *replica) start() {
	r.t.Helper()
	path := must(binary())(r.t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	log := must(os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))(r.t)
	proc, err := process.Start(ctx, process.Spec{
		Name: "hubgate", Path: path, Args: []string{"serve", "--config", r.config, "--drain-delay", "0s"}, Log: log,
		Ready: func(ctx context.Context) error {
			request := must(http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.metrics+"/readyz", nil))(r.t)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("/readyz says %s", response.Status)
			}
			return nil
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proc = proc
	r.lives++
}

// kill is kill -9.
func (r *replica) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.proc != nil {
		r.proc.Kill()
		r.proc = nil
	}
}

// stop ends it in good order.
func (r *replica) stop() {
	r.t.Helper()
	r.mu.Lock()
	proc := r.proc
	r.proc = nil
	r.mu.Unlock()
	if proc == nil {
		r.t.Fatal("hubgate does not run")
	}
	if err := proc.Stop(); err != nil {
		r.t.Errorf("hubgate ended with %v", err)
	}
}

// check asks, as Envoy does, about a device's connection.
func (r *replica) check(ctx context.Context, chain []*x509.Certificate, sni, source string) (string, error) {
	encoded := make([]string, len(chain))
	for i, c := range chain {
		encoded[i] = base64.StdEncoding.EncodeToString(c.Raw)
	}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "hubgate-node", "test", "hubgate-connection", "1",
		"hubgate-chain", strings.Join(encoded, ",")), 5*time.Second)
	defer cancel()
	answer, err := authv3.NewAuthorizationClient(r.conn).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		TlsSession: &authv3.AttributeContext_TLSSession{Sni: sni},
		Source: &authv3.AttributeContext_Peer{
			Address:     &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: source}}},
			Certificate: strings.ReplaceAll(url.QueryEscape(string(pki.EncodeCertificates(chain[0]))), "+", "%20"),
		},
	}})
	if err != nil {
		return "", err
	}
	reason := answer.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
	if answer.GetStatus().GetCode() != int32(codes.OK) {
		return reason, fmt.Errorf("refused: %s", reason)
	}
	return reason, nil
}

// TestKill kills hubgate again and again while devices connect for the first
// time, and holds every sink to the devices that there are in the end.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		replicas int
		store    func(t *testing.T, dir string) (url string, open func() store)
	}{
		{"bolt", 1, func(t *testing.T, dir string) (string, func() store) {
			return "bolt:hubgate.db", func() store { return openBolt(t, boltstore.Config{Path: filepath.Join(dir, "hubgate.db")}) }
		}},
		{"redis", 2, func(t *testing.T, _ string) (string, func() store) {
			server := redistest.Start(t)
			return server.URL(), func() store {
				s := must(redisstore.Open(t.Context(), redisstore.Config{URL: server.URL(), Timeout: patience}))(t)
				t.Cleanup(func() { _ = s.Close() })
				return s
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := must(os.MkdirTemp("", "hg"))(t) // short enough for sockets
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			url, open := c.store(t, dir)
			killed(t, dir, url, c.replicas, open)
		})
	}
}

type store interface {
	events.Store
	provision.DeviceRegistry
}

func killed(t *testing.T, dir, storeURL string, replicas int, open func() store) {
	devices, pace := 400, 800*time.Millisecond
	if soak {
		devices, pace = 10_000, 2*time.Second
	}
	hook := newReceiver(t)
	hook.Start()
	b := startBroker(t, "allow_anonymous true", "max_queued_messages 0")
	box := b.subscribe("", "hubgate/#")
	config := fmt.Sprintf("store: %q\nevents:\n  lease: 2s\n  log: {}\n  mqtt: [{name: broker, url: \"mqtt://%s\"}]\n  webhook: [{name: hook, url: %q}]\n"+
		"hubs:\n", storeURL, b.address(), hook.URL)
	type fleet struct {
		name string
		root *pki.Authority
	}
	var fleets []fleet
	for _, name := range []string{"one", "two"} {
		f := fleet{name, must(pki.NewRoot("Root of " + name))(t)}
		fleets = append(fleets, f)
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), pki.EncodeCertificates(f.root.Certificate), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("  - {name: %s, auto_provisioning: true, trust_anchors: [%s.pem]}\n", name, name)
	}
	all := make([]*replica, replicas)
	for i := range all {
		all[i] = startReplica(t, dir, config)
	}

	// Devices connect until they are let in.
	const clients = 8
	var connected, refused atomic.Int64
	var connecting sync.WaitGroup
	began := time.Now()
	for client := range clients {
		connecting.Go(func() {
			for i := client; i < devices; i += clients {
				leaf := must(fleets[i%len(fleets)].root.Leaf(fmt.Sprintf("SN-%05d", i)))(t)
				for tries := 0; ; tries++ {
					if _, err := all[rand.IntN(len(all))].check(t.Context(), leaf.Chain, "", "192.0.2.7"); err == nil {
						break
					}
					refused.Add(1)
					if t.Context().Err() != nil || tries > 2000 {
						t.Errorf("device %d is not let in", i)
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
				connected.Add(1)
			}
		})
	}
	done := make(chan struct{})
	go func() { connecting.Wait(); close(done) }()
	kills := 0
	for ended := false; !ended; {
		select {
		case <-done:
			ended = kills > 1 // the last kills hit what is being relayed
		case <-time.After(time.Duration(rand.Int64N(int64(pace)))):
		}
		r := all[kills%len(all)]
		r.kill()
		kills++
		r.start()
	}
	t.Logf("%d devices connected in %s, with %d kills and %d checks that failed", connected.Load(), time.Since(began).Round(time.Millisecond), kills, refused.Load())
	if int(connected.Load()) != devices {
		t.Fatal("not all devices connected")
	}

	// In the end every sink has every device's event.
	distinct := func(b *inbox) int {
		n := 0
		for _, f := range fleets {
			n += len(provisioned(b.of(provision.DeclaredHubID(f.name))))
		}
		return n
	}
	logs := func() (boxes []*inbox) {
		for _, r := range all {
			boxes = append(boxes, readLog(t, r.log))
		}
		return boxes
	}
	logged := func() map[string]bool {
		ids := map[string]bool{}
		for _, b := range logs() {
			for _, e := range provisioned(b.events) {
				ids[e.ID] = true
			}
		}
		return ids
	}
	eventually(t, "everything at the webhook", func() bool { return distinct(&hook.inbox) >= devices })
	eventually(t, "everything at the broker", func() bool { return distinct(box) >= devices })
	eventually(t, "everything in the logs", func() bool { return len(logged()) >= devices })
	for _, r := range all {
		r.stop()
	}

	s := open()
	total := 0
	for _, f := range fleets {
		hub := provision.DeclaredHubID(f.name)
		count := must(s.CountDevices(t.Context(), hub))(t)
		total += count
		order := outbox(t, s, hub)
		for what, b := range map[string]*inbox{"webhook": &hook.inbox, "broker": box} {
			got := b.of(hub)
			names := map[string]bool{}
			for _, e := range provisioned(got) {
				names[e.ObjectName] = true
			}
			if n := len(provisioned(got)); n != count || len(names) != count {
				t.Errorf("hub %s: %d devices, %d distinct events of %d names at the %s", f.name, count, n, len(names), what)
			}
			inOrder(t, f.name+" at the "+what, got, order)
		}
		for i, b := range logs() {
			inOrder(t, fmt.Sprintf("%s in log %d", f.name, i), b.of(hub), order)
		}
	}
	if total != devices || len(logged()) != devices {
		t.Errorf("%d devices of %d, %d distinct events in the logs", total, devices, len(logged()))
	}
	t.Logf("%d devices; deliveries: %d to the webhook, %d to the broker", total, len(hook.events), len(box.events))
}

func provisioned(all []provision.Event) []provision.Event {
	var some []provision.Event
	for _, e := range all {
		if e.Reason == string(provision.DeviceProvisioned) {
			some = append(some, e)
		}
	}
	return some
}

// outbox is the place of each of the hub's events in the store, by ID.
func outbox(t *testing.T, s events.Store, hub provision.HubID) map[string]uint64 {
	t.Helper()
	places := map[string]uint64{}
	for after := uint64(0); ; {
		some := must(s.Events(t.Context(), hub.Partition(s.Partitions()), after, 1000))(t)
		if len(some) == 0 {
			return places
		}
		for _, e := range some {
			places[e.Event.ID] = e.Seq
		}
		after = some[len(some)-1].Seq
	}
}

// inOrder: what came first came in the order of the store.
func inOrder(t *testing.T, what string, got []provision.Event, places map[string]uint64) {
	t.Helper()
	last := uint64(0)
	for _, e := range got {
		if places[e.ID] <= last {
			t.Errorf("%s: event %d came after event %d", what, places[e.ID], last)
			return
		}
		last = places[e.ID]
	}
}

// readLog reads the lines of the log sink.
func readLog(t *testing.T, path string) *inbox {
	t.Helper()
	b := &inbox{}
	f := must(os.Open(path))(t)
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Msg, ID, Reason string
			ObjectName      string          `json:"object_name"`
			Hub             provision.HubID `json:"hub_id"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "hub event" { // a line may be cut off by a kill
			b.put(provision.Event{ID: line.ID, Reason: line.Reason, ObjectName: line.ObjectName, Hub: line.Hub}, "")
		}
	}
	return b
}

// TestTakeover: of two replicas one is killed; the other relays its partitions
// once the leases are over.
func TestTakeover(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	dir := must(os.MkdirTemp("", "hg"))(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	hook := newReceiver(t)
	hook.Start()
	root := must(pki.NewRoot("Root"))(t)
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), pki.EncodeCertificates(root.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("store: %q\nevents:\n  lease: %s\n  webhook: [{name: hook, url: %q}]\n"+
		"hubs: [{name: one, auto_provisioning: true, trust_anchors: [root.pem]}]\n", redistest.Start(t).URL(), lease, hook.URL)
	all := []*replica{startReplica(t, dir, config), startReplica(t, dir, config)}
	connect := func(r *replica, name string) {
		t.Helper()
		leaf := must(root.Leaf(name))(t)
		var err error
		eventually(t, name+" to be let in", func() bool {
			said := err
			if _, err = r.check(t.Context(), leaf.Chain, "", "192.0.2.7"); err != nil && said == nil {
				t.Logf("%s: %v", name, err)
			}
			return err == nil
		})
	}
	came := func(name string) bool {
		for _, e := range hook.of(provision.DeclaredHubID("one")) {
			if e.ObjectName == name {
				return true
			}
		}
		return false
	}
	owns := func(r *replica) bool {
		response, err := http.Get("http://" + r.metrics + "/metrics")
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			if lines.Text() == `hubgate_events_partitions{sink="webhook:hook"} 1` {
				return true
			}
		}
		return false
	}
	connect(all[0], "first")
	eventually(t, "the first event", func() bool { return came("first") })
	owner, other := all[0], all[1]
	if !owns(owner) {
		owner, other = other, owner
	}
	if !owns(owner) || owns(other) {
		t.Fatal("not exactly one replica relays the partition")
	}
	owner.kill()
	killedAt := time.Now()
	connect(other, "second")
	eventually(t, "the event after the kill", func() bool { return came("second") })
	took := time.Since(killedAt)
	t.Logf("taken over after %s, the lease is %s", took, lease)
	// Room for a machine that is busy with other things.
	if took > lease+5*time.Second {
		t.Errorf("taken over only after %s", took)
	}

	// A replica that ends in good order is followed at once.
	owner.start()
	other.stop()
	connect(owner, "third")
	eventually(t, "the event after the drain", func() bool { return came("third") })
}
