package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/provision"
)

// inUse is what is said of the site's store while this process serves it.
func (s *site) inUse() string {
	return fmt.Sprintf("hubgate: open store %s/hubgate.db: the store is in use by hubgate serve (pid %d)", s.dir, os.Getpid())
}

// TestTables holds the tables of a small fleet.
func TestTables(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	s.golden("device-list-empty.txt", s.hubgate("device", "list", "factory").ok(t))
	for _, name := range []string{"SN-0001", "SN-0002", "serial 3"} {
		v.connect(s.factory.device(t, name))
	}
	s.golden("device-disable.txt", s.hubgate("device", "disable", "factory", "SN-0002").ok(t))
	s.golden("hub-list.txt", s.hubgate("hub", "list").ok(t))
	s.golden("hub-get.txt", s.hubgate("hub", "get", "factory").ok(t))
	s.golden("device-list.txt", s.hubgate("device", "list", "factory").ok(t))
	s.golden("device-get.txt", s.hubgate("device", "get", "factory", "serial 3").ok(t))
	s.golden("event-tail.txt", s.hubgate("event", "tail", "--since", "start", "--follow=false").ok(t))
	s.golden("hub-list.json", s.hubgate("hub", "list", "-o", "json").ok(t))
	s.golden("device-get.json", s.hubgate("device", "get", "factory", "SN-0001", "-o", "json").ok(t))
	s.golden("event-tail.json", s.hubgate("event", "tail", "--since", "start", "--follow=false", "-o", "json").ok(t))

	s.hubgate("device", "get", "factory", "SN-9").fails(t, exitNotFound, "hubgate: device \"SN-9\" on hub factory not found\n")
	s.hubgate("device", "get", "plant", "SN-1").fails(t, exitNotFound, "hubgate: hub \"plant\" not found: there is factory\n")
}

func TestNoHubs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	writeFile(t, s.dir, "hubgate.yaml", []byte("authz: {listen: '127.0.0.1:0'}\nlink: {listen: '127.0.0.1:0'}\nmetrics: {listen: '127.0.0.1:0'}\nadmin: {listen: off}\n"))
	s.serve()
	s.golden("hub-list-empty.txt", s.hubgate("hub", "list").ok(t))
}

// TestBan disables, enables and deletes a device, and has it connect each time.
func TestBan(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	chain := s.factory.device(t, "SN-0001")
	connects := func(want string) {
		t.Helper()
		if got := v.connect(chain); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	connects("device_provisioned")
	s.hubgate("device", "disable", "factory", "SN-0001").ok(t)
	s.hubgate("device", "disable", "factory", "SN-0001").ok(t) // once more is no change
	connects("device_disabled")
	s.hubgate("device", "enable", "factory", "SN-0001").ok(t)
	connects("device_known")
	s.golden("device-delete.txt", s.hubgate("device", "delete", "factory", "SN-0001").ok(t))
	connects("device_provisioned")

	var reasons []string
	for line := range strings.Lines(s.hubgate("event", "tail", "--since", "start", "--follow=false", "--severity", "info", "-o", "json").ok(t)) {
		var e provision.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		reasons = append(reasons, e.Reason)
	}
	if got, want := strings.Join(reasons, " "), "device_provisioned disabled enabled deleted device_provisioned"; got != want {
		t.Errorf("events: %s, want %s", got, want)
	}
}

// TestOffline does the same on a store that nobody serves.
func TestOffline(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	for _, name := range []string{"SN-0001", "SN-0002", "."} {
		v.connect(s.factory.device(t, name))
	}
	s.hubgate("device", "list", "factory", "--offline").fails(t, exitError, s.inUse()+": leave --offline out\n")
	v.end()

	s.hubgate("device", "disable", "factory", "SN-0001", "--offline").ok(t)
	s.hubgate("device", "delete", "factory", ".", "--offline").ok(t)
	var list admin.Devices
	if err := json.Unmarshal([]byte(s.hubgate("device", "list", "factory", "--offline", "-o", "json").ok(t)), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Devices) != 2 || list.Devices[0].Enabled || !list.Devices[1].Enabled {
		t.Errorf("listed %+v", list)
	}
	// Without the configuration, the store tells of its hubs itself.
	bare := writeFile(t, s.dir, "bare.yaml", []byte("store: bolt:hubgate.db\n"))
	if out := hubgate(t, "device", "list", "factory", "--offline", "-c", bare).ok(t); !strings.Contains(out, "SN-0002") {
		t.Errorf("printed\n%s", out)
	}

	v = s.serve()
	if got := v.connect(s.factory.device(t, "SN-0001")); got != "device_disabled" {
		t.Errorf("%s after it was disabled offline", got)
	}
}

// TestPaging lists more devices than a page of the command or the API holds.
func TestPaging(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	const devices = 7
	for i := range devices {
		v.connect(s.factory.device(t, fmt.Sprintf("SN-%04d", i)))
	}
	for _, sort := range []string{"name", "created"} {
		var names []string
		for cursor := ""; ; {
			var list admin.Devices
			args := []string{"device", "list", "factory", "--sort", sort, "--limit", "3", "-o", "json", "--cursor", cursor}
			if err := json.Unmarshal([]byte(s.hubgate(args...).ok(t)), &list); err != nil {
				t.Fatal(err)
			}
			for _, d := range list.Devices {
				names = append(names, d.Name)
			}
			if cursor = list.Next; cursor == "" {
				break
			}
		}
		if got := strings.Join(names, " "); got != "SN-0000 SN-0001 SN-0002 SN-0003 SN-0004 SN-0005 SN-0006" {
			t.Errorf("by %s: %s", sort, got)
		}
	}
	if out := s.hubgate("device", "list", "factory", "--limit", "3").ok(t); !strings.Contains(out, "There are more: --limit 0 lists all, --cursor ") {
		t.Errorf("printed\n%s", out)
	}
	if out := s.hubgate("device", "list", "factory", "--limit", "0").ok(t); strings.Count(out, "SN-") != devices {
		t.Errorf("printed\n%s", out)
	}
	s.hubgate("device", "list", "factory", "--cursor", "bogus").fails(t, exitError, "hubgate: cursor: \"bogus\" is none of a list sorted by name\n")
}

// TestStoreCommands backs up while serving, goes on, and restores.
func TestStoreCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	first, second := s.factory.device(t, "SN-0001"), s.factory.device(t, "SN-0002")
	v.connect(first)
	copied := filepath.Join(s.dir, "backup.db")
	if out := s.hubgate("store", "backup", copied).ok(t); !strings.Contains(out, "verified: 1 hub, 1 device, 1 event.") {
		t.Errorf("printed %s", out)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup's mode: %v (%v)", info.Mode(), err)
	}
	s.hubgate("store", "backup", copied).fails(t, exitError, "hubgate: "+copied+" is there already: choose another name\n")
	v.connect(second)
	if out := hubgate(t, "store", "verify", copied).ok(t); out != copied+" is in order: 1 hub, 1 device, 1 event.\n" {
		t.Errorf("printed %s", out)
	}
	if result := s.hubgate("store", "restore", copied, "--force"); result.code != exitError || !strings.Contains(result.err, "in use") {
		t.Errorf("restored under a running hubgate: %+v", result)
	}
	v.end()

	if result := s.hubgate("store", "restore", copied); result.code != exitError {
		t.Errorf("replaced a store without --force: %+v", result)
	}
	if out := s.hubgate("store", "restore", copied, "--force").ok(t); out != s.dir+"/hubgate.db is restored: 1 hub, 1 device, 1 event. Start `hubgate serve`.\n" {
		t.Errorf("printed %s", out)
	}
	v = s.serve()
	for chain, want := range map[string]string{"SN-0001": "device_known", "SN-0002": "device_provisioned"} {
		certs := first
		if chain == "SN-0002" {
			certs = second
		}
		if got := v.connect(certs); got != want {
			t.Errorf("%s: %s, want %s", chain, got, want)
		}
	}
	v.end()
	s.hubgate("store", "backup", filepath.Join(s.dir, "offline.db"), "--offline").ok(t)
	// A backup leaves nothing else behind.
	if parts, err := filepath.Glob(filepath.Join(s.dir, "*.part-*")); err != nil || len(parts) > 0 {
		t.Errorf("left behind: %v (%v)", parts, err)
	}
}

// TestSocket: a dead process's socket is replaced, a living one's is not, and
// nobody but its owner gets in.
func TestSocket(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := filepath.Join(s.dir, "hubgate.db.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	v := s.serve()
	s.hubgate("hub", "list").ok(t)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode: %v (%v)", info.Mode(), err)
	}
	other := writeFile(t, s.dir, "other.yaml", []byte("store: bolt:other.db\n"+
		strings.Replace(factoryHub, "admin: {", "admin: {socket: hubgate.db.sock, ", 1)))
	hubgate(t, "serve", "-c", other).fails(t, exitError, fmt.Sprintf(
		"hubgate: admin.socket: %s is in use by process %d: stop it, or set admin.socket to another path\n", path, os.Getpid()))
	hubgate(t, "serve", "-c", s.config).fails(t, exitError, s.inUse()+"\n")
	if out := hubgate(t, "hub", "list", "--socket", path).ok(t); !strings.Contains(out, "factory") {
		t.Errorf("printed %s", out)
	}
	v.end()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind (%v)", err)
	}
}
