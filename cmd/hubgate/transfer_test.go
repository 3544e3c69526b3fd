package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// hubgateIn runs a command with that on its standard input.
func (s *site) hubgateIn(stdin string, args ...string) result {
	s.t.Helper()
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	code := run(ctx, append(args, "--config", s.config), strings.NewReader(stdin), &out, &err)
	return result{code, out.String(), err.String()}
}

// export returns the hub's devices by name.
func (s *site) export(flags ...string) map[string]admin.DeviceRecord {
	s.t.Helper()
	devices := map[string]admin.DeviceRecord{}
	for line := range strings.Lines(s.hubgate(append([]string{"device", "export", "factory"}, flags...)...).ok(s.t)) {
		var r admin.DeviceRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatal(err)
		}
		devices[r.Name] = r
	}
	return devices
}

// eventReasons counts the site's events by reason.
func (s *site) eventReasons() map[string]int {
	s.t.Helper()
	reasons := map[string]int{}
	for line := range strings.Lines(s.hubgate("event", "tail", "--since", "start", "--follow=false", "-o", "json").ok(s.t)) {
		var e provision.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			s.t.Fatal(err)
		}
		reasons[e.Reason]++
	}
	return reasons
}

// twin is another site with the same hub and factory, as another region has it.
func (s *site) twin(more string) *site {
	s.t.Helper()
	other := &site{t: s.t, dir: socketDir(s.t), factory: s.factory}
	pem, err := os.ReadFile(filepath.Join(s.dir, "factory.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, other.dir, "factory.pem", pem)
	other.config = writeFile(s.t, other.dir, "hubgate.yaml", []byte(factoryHub+more))
	return other
}

// TestTransfer carries a fleet from a hubgate with an embedded store to one with
// Redis, and from there to a store that nobody serves: nothing of a device is
// lost, a ban stays a ban, and no chip is taken for a new one.
func TestTransfer(t *testing.T) {
	t.Parallel()
	from := newSite(t)
	v := from.serve()
	known, banned := from.factory.device(t, "SN-0001"), from.factory.device(t, "SN-0002")
	v.connect(known)
	v.connect(banned)
	from.hubgate("device", "disable", "factory", "SN-0002").ok(t)
	from.hubgateIn(`{"name":"SN-0003","description":"spare \"part\" <1>","allow_insecure":true,"allow_multiple_connections":true,`+
		`"message_filters":{"publish":{"policy":"reject","topics":["a/#"]},"subscribe":{"policy":"accept","topics":[]}}}`,
		"device", "import", "factory", "-").ok(t)
	file := filepath.Join(from.dir, "devices.ndjson")
	from.golden("device-export.txt", from.hubgate("device", "export", "factory", "--out", file).ok(t))
	from.golden("device-export.ndjson", string(readFile(t, file)))
	from.hubgate("device", "export", "factory", "--out", file).fails(t, exitError, "hubgate: "+file+" is there already: choose another name\n")
	want := from.export()

	for _, to := range []*site{from.twin("store: " + redistest.Start(t).URL() + "\n"), from.twin("")} {
		v := to.serve()
		offline := []string(nil)
		if strings.Contains(string(readFile(t, to.config)), "redis") {
			to.golden("device-import.txt", to.hubgate("device", "import", "factory", file).ok(t))
		} else {
			v.end()
			offline = []string{"--offline"}
			to.hubgate("device", "import", "factory", file, "--offline").ok(t)
		}
		to.golden("device-import-again.txt", to.hubgate(append([]string{"device", "import", "factory", file}, offline...)...).ok(t))
		got := to.export(offline...)
		for name, r := range want {
			other := got[name]
			r.UpdatedAt, other.UpdatedAt = "", ""
			if a, b := text(t, r), text(t, other); a != b {
				t.Errorf("%s became\n%s, was\n%s", name, b, a)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d devices, not %d", len(got), len(want))
		}
		if offline != nil {
			v = to.serve()
		}
		for i, reason := range []string{"device_known", "device_disabled"} {
			if got := v.connect([][]*x509.Certificate{known, banned}[i]); got != reason {
				t.Errorf("%s, want %s", got, reason)
			}
		}
		if reasons := to.eventReasons(); reasons["imported"] != 1 || reasons["device_provisioned"] != 0 {
			t.Errorf("events: %v", reasons)
		}
	}
}

// TestBansTravel: a ban holds elsewhere for a device that is known there, which
// keeps all else, and for one that is not; and importing an old list lifts none.
func TestBansTravel(t *testing.T) {
	t.Parallel()
	from := newSite(t)
	to := from.twin("")
	here, there := from.serve(), to.serve()
	known, unknown := from.factory.device(t, "SN-0001"), from.factory.device(t, "SN-0002")
	for _, chain := range [][]*x509.Certificate{known, unknown, from.factory.device(t, "SN-0003")} {
		here.connect(chain)
	}
	there.connect(known)
	all := from.hubgate("device", "export", "factory").ok(t) // before the bans
	before := to.export()["SN-0001"]
	from.hubgateIn(`{"name":"SN-0001","enabled":false,"disabled_reason":"stolen"}`+"\n"+`{"name":"SN-0002","enabled":false}`, "device", "import", "factory", "-").ok(t)

	bans := from.hubgate("device", "export", "factory", "--disabled").ok(t)
	from.golden("device-export-bans.ndjson", bans)
	to.hubgateIn(bans, "device", "import", "factory", "-").ok(t)
	for _, chain := range [][]*x509.Certificate{known, unknown} {
		if got := there.connect(chain); got != "device_disabled" {
			t.Errorf("%s after the bans were imported", got)
		}
	}
	after := to.export()["SN-0001"]
	enabled, reason := false, "stolen"
	before.Enabled, before.DisabledReason, before.UpdatedAt = &enabled, &reason, after.UpdatedAt
	if a, b := text(t, before), text(t, after); a != b {
		t.Errorf("the ban made\n%s\nof\n%s", b, a)
	}
	if reasons := to.eventReasons(); reasons["disabled"] != 1 || reasons["imported"] != 1 {
		t.Errorf("events: %v", reasons)
	}

	out := to.hubgateIn(all, "device", "import", "factory", "-").ok(t)
	to.golden("device-import-banned.txt", out)
	if got := there.connect(known); got != "device_disabled" {
		t.Errorf("%s after an old list was imported", got)
	}
	to.hubgateIn(all, "device", "import", "factory", "-", "--enable").ok(t)
	if got := there.connect(known); got != "device_known" {
		t.Errorf("%s after --enable", got)
	}
}

// TestBadLines: each is told with its number and what is wrong, is kept as it
// was, and keeps no other.
func TestBadLines(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	v.connect(s.factory.device(t, "SN-0001"))
	other := strings.Repeat("ab", 32)
	long := `{"name":"long","description":"` + strings.Repeat("x", admin.MaxRecordLine) + `"}`
	lines := []string{
		`{"name":"good-1"}`,
		`{"nmae":"SN-1"}`,
		``,
		`{"name":"a/b"}`,
		`{"name":"` + strings.Repeat("n", 65) + `"}`,
		`{}`,
		`[]`,
		`{"name":"x"} {"name":"y"}`,
		`{"name":"x","enabled":"yes"}`,
		`{"name":"x","first_key_sha256":"` + other + `"}`,
		`{"name":"x","first_key_sha256":"zz","current_key_sha256":"` + other + `","trust_anchor_key_sha256":"` + other + `","issuer_key_sha256":"` + other + `"}`,
		`{"name":"SN-0001","first_key_sha256":"` + other + `","current_key_sha256":"` + other + `","trust_anchor_key_sha256":"` + other + `","issuer_key_sha256":"` + other + `"}`,
		`{"name":"x","created_at":"yesterday"}`,
		`{"name":"x","created_at":"2999-01-01T00:00:00Z"}`,
		`{"name":"x","provisioned_from":"home"}`,
		`{"name":"x","message_filters":{"publish":{"policy":"maybe","topics":[]},"subscribe":{"policy":"accept","topics":[]}}}`,
		`{"name":"x","message_filters":{"publish":{"policy":"accept","topics":["a/#/b"]},"subscribe":{"policy":"accept","topics":[]}}}`,
		`{"name":"x","description":"` + strings.Repeat("d", 1001) + `"}`,
		`{"name":"x","id":"00000000-0000-8000-8000-000000000000","hub_id":"` + provision.DeclaredHubID("factory").String() + `"}`,
		`{"name":"` + provision.DeclaredHubID("factory").String() + `"}`,
		long,
		"\x00\xff",
		`{"name":"good-2"}`,
	}
	rejects := filepath.Join(s.dir, "rejects.ndjson")
	got := s.hubgateIn(strings.Join(lines, "\n"), "device", "import", "factory", "-", "--rejects", rejects)
	if got.code != exitPartly {
		t.Errorf("exit code %d", got.code)
	}
	s.golden("device-import-bad.txt", got.out+got.err)
	var want strings.Builder
	for i, line := range lines {
		if i != 0 && i != 2 && i != len(lines)-1 {
			want.WriteString(line + "\n")
		}
	}
	if kept := string(readFile(t, rejects)); sortedLines(kept) != sortedLines(want.String()) {
		t.Errorf("kept\n%s", kept)
	}
	if devices := s.export(); len(devices) != 3 {
		t.Errorf("%d devices", len(devices))
	}
	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"device", "import", "factory", "-", "--rejects", rejects}, exitError, "--rejects: " + rejects + " is there already"},
		{[]string{"device", "import", "plant", "-"}, exitNotFound, `hub "plant" not found`},
		{[]string{"device", "import", "factory", filepath.Join(s.dir, "nowhere")}, exitError, "no such file"},
		{[]string{"device", "import", "factory", "-", "--from-line", "0"}, exitUsage, "the first is 1"},
		{[]string{"device", "import", "factory", "-", "--from-line", "9"}, exitError, "the file has only 1 line"},
		{[]string{"device", "export", "plant"}, exitNotFound, `hub "plant" not found`},
	} {
		if got := s.hubgateIn("{}\n", tt.args...); got.code != tt.code || !strings.Contains(got.err, tt.err) {
			t.Errorf("%v: %+v", tt.args, got)
		}
	}
}

// TestImportResumes cuts the connection in the middle of an import, goes on from
// the line that it is told, and finds every device once.
func TestImportResumes(t *testing.T) {
	t.Parallel()
	const devices = 20_000
	s := newSite(t)
	s.serve()
	var lines strings.Builder
	for i := range devices {
		fmt.Fprintf(&lines, `{"name":"SN-%06d","description":"of a long list"}`+"\n", i)
	}
	file := writeFile(t, s.dir, "devices.ndjson", []byte(lines.String()))
	socket := filepath.Join(s.dir, "hubgate.db.sock")
	cut := newCutter(t, socket, 700_000)
	got := s.hubgateAt(cut.URL, "device", "import", "factory", file)
	if got.code != exitUnavailable {
		t.Fatalf("%+v", got)
	}
	var from int
	_, rest, _ := strings.Cut(got.err, "--from-line ")
	if _, err := fmt.Sscan(rest, &from); err != nil || from < 2 || from > devices {
		t.Fatalf("goes on from line %d: %s (%v)", from, got.err, err)
	}
	out := s.hubgate("device", "import", "factory", file, "--from-line", fmt.Sprint(from), "-o", "json").ok(t)
	var last admin.ImportResult
	if err := json.Unmarshal([]byte(out), &last); err != nil || last.Through != devices || !last.Done {
		t.Errorf("%s (%v)", out, err)
	}
	if c := last.Counts; c.Created+c.Unchanged != devices-from+1 || c.Refused != 0 {
		t.Errorf("%+v from line %d", c, from)
	}

	// The export's connections break as well; it goes on by itself.
	cut = newCutter(t, socket, 1_500_000)
	exported := s.hubgateAt(cut.URL, "device", "export", "factory").ok(t)
	if cut.cuts.Load() == 0 {
		t.Error("nothing was cut")
	}
	seen := 0
	for line := range strings.Lines(exported) {
		if want := fmt.Sprintf(`"name":"SN-%06d"`, seen); !strings.Contains(line, want) {
			t.Fatalf("line %d: %s", seen, line)
		}
		seen++
	}
	if seen != devices {
		t.Errorf("exported %d", seen)
	}
}

// hubgateAt runs a command on a hubgate elsewhere.
func (s *site) hubgateAt(address string, args ...string) result {
	s.t.Helper()
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	code := run(ctx, append(args, "--url", address), strings.NewReader(""), &out, &err)
	return result{code, out.String(), err.String()}
}

// cutter passes connections on to a socket and cuts each after so many bytes.
type cutter struct {
	URL  string
	cuts atomic.Int64
}

func newCutter(t *testing.T, socket string, after int64) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := &cutter{URL: "http://" + l.Addr().String()}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", socket)
			if err != nil {
				_ = near.Close()
				continue
			}
			go c.pass(near, far, after)
			go c.pass(far, near, after)
		}
	}()
	return c
}

func (c *cutter) pass(to, from net.Conn, after int64) {
	if n, _ := io.CopyN(to, from, after); n == after {
		c.cuts.Add(1)
	}
	_ = to.Close()
	_ = from.Close()
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func text(t *testing.T, value any) string {
	t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
