package boltstore

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/storetest"
)

// childVariable holds the path of the store that a child of the tests creates
// devices on until it is killed.
const childVariable = "HUBGATE_TEST_KILL_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		fmt.Fprintln(os.Stderr, createUntilKilled(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// createUntilKilled prints the name of each device once it is acknowledged.
func createUntilKilled(path string) error {
	s, err := Open(Config{Path: path, Retention: 1 << 30, LockTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	ctx := context.Background()
	failed := make(chan error)
	go func() { failed <- s.Run(ctx) }()
	hub := killHub
	if hub, err = s.CreateHub(ctx, hub, storetest.HubEvent(hub, "hub was created")); err != nil {
		if hub, err = s.Hub(ctx, killHub.ID); err != nil {
			return err
		}
	}
	for g := range 8 {
		go func() {
			for i := 0; ; i++ {
				c := storetest.NewCreation(hub, fmt.Sprintf("chip-%d-%d-%d", os.Getpid(), g, i))
				if _, _, err := s.CreateDevice(ctx, c); err != nil {
					failed <- err
					return
				}
				fmt.Println(c.Device.Name) // unbuffered: one write per line
				if i%5 == 4 {
					err := s.DeleteDevice(ctx, hub.ID, c.Device.ID, func(d provision.Device) provision.Event {
						return storetest.DeviceEvent(d, "device was deleted")
					})
					if err != nil {
						failed <- err
						return
					}
				}
			}
		}()
	}
	return <-failed
}

// killHub is known to parent and children.
var killHub = func() provision.Hub {
	h := storetest.NewHub()
	h.ID, h.Name = provision.DeclaredHubID("kill"), "kill"
	return h
}()

// TestKill: a process that is killed anywhere leaves a file that is whole and
// holds all that was acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 10
	if os.Getenv("HUBGATE_SOAK") == "1" {
		rounds = 100
	}
	path := filepath.Join(t.TempDir(), "hubgate.db")
	acknowledged := map[string]bool{}
	for round := range rounds {
		names := killChild(t, path, time.Duration(rand.IntN(150))*time.Millisecond, round == 0)
		for _, name := range names {
			acknowledged[name] = true
		}
		if _, err := os.Stat(path); err != nil {
			continue // killed before it could create the file
		}
		if _, err := Verify(path); err != nil && len(acknowledged) > 0 {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if len(acknowledged) == 0 {
		t.Fatal("nothing was acknowledged: the test shows nothing")
	}
	s := start(t, Config{Path: path})
	created, deleted := map[string]int{}, map[string]int{}
	events, err := s.Events(t.Context(), killHub.ID.Partition(s.Partitions()), 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Event.Message == "device was deleted" {
			deleted[e.Event.ObjectName]++
		} else if e.Event.ObjectType == provision.ObjectDevice {
			created[e.Event.ObjectName]++
		}
	}
	devices := map[string]bool{}
	for cursor := ""; ; {
		page, next, err := s.Devices(t.Context(), killHub.ID, provision.ByCreation, cursor, 1_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			devices[d.Name] = true
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	for name := range acknowledged {
		if created[name] != 1 || devices[name] != (deleted[name] == 0) {
			t.Errorf("acknowledged device %s: there %t, created %d times, deleted %d times", name, devices[name], created[name], deleted[name])
		}
	}
	for name := range devices {
		if created[name] != 1 || deleted[name] != 0 {
			t.Errorf("device %s: created %d times, deleted %d times", name, created[name], deleted[name])
		}
	}
	if len(devices)+len(deleted) != len(created) {
		t.Errorf("%d devices and %d deleted ones of %d created", len(devices), len(deleted), len(created))
	}
	t.Logf("%d devices acknowledged in %d lives, %d found", len(acknowledged), rounds, len(created))
}

// killChild runs a child for some time after its first acknowledgement, or
// after its start, and returns what it acknowledged.
func killChild(t *testing.T, path string, life time.Duration, fromStart bool) []string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+path)
	var complaint strings.Builder
	child.Stderr = &complaint
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { time.AfterFunc(life, func() { _ = child.Process.Kill() }) }
	if fromStart {
		kill()
	}
	var names []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if len(names) == 0 && !fromStart {
			kill()
		}
		names = append(names, lines.Text())
	}
	_ = child.Wait() // it was killed
	if complaint.Len() > 0 {
		t.Fatalf("child: %s", complaint.String())
	}
	return names
}
