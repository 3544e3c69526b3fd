package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/internal/pki"
)

// TestOverTheNetwork administers a hubgate by its network listener, with real
// tokens, as a person elsewhere does: by the environment and by a context, over
// HTTP and over TLS.
func TestOverTheNetwork(t *testing.T) {
	t.Parallel()
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", secured), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.t = t
			settings, scheme, ca := "", "http", filepath.Join(s.dir, "ca.pem")
			if secured {
				root, err := pki.NewRoot("Office root")
				if err != nil {
					t.Fatal(err)
				}
				identity, err := root.Server("127.0.0.1")
				if err != nil {
					t.Fatal(err)
				}
				cert, key, err := identity.WriteFiles(s.dir, "server")
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, s.dir, "ca.pem", pki.EncodeCertificates(root.Certificate))
				settings, scheme = fmt.Sprintf("tls: {cert: %s, key: %s}, ", cert, key), "https"
			}
			writeFile(t, s.dir, "operator.token", []byte(tokenOne+"\n"))
			writeFile(t, s.dir, "viewer.token", []byte(tokenTwo+"\n"))
			writeFile(t, s.dir, "hubgate.yaml", []byte(strings.Replace(factoryHub, `admin: {`, `admin: {`+settings+
				"tokens: [{name: ops, role: operator, file: operator.token}, {name: eye, role: viewer, file: viewer.token}], ", 1)))
			v := s.serve()
			v.connect(s.factory.device(t, "SN-0001"))
			v.connect(s.factory.device(t, "XN-0001"))
			url := scheme + "://" + v.address("administrators")

			p := newPerson(t, "HUBGATE_URL="+url)
			if secured {
				got := p.with("HUBGATE_TOKEN="+tokenOne).hubgate("hub", "list")
				if got.code != exitUnavailable || !strings.Contains(got.err, "pass the CA that signed it with --ca-file") {
					t.Errorf("without the CA: %+v", got)
				}
				if out := p.with("HUBGATE_TOKEN="+tokenOne).hubgate("hub", "list", "--ca-file", ca).ok(t); !strings.Contains(out, "factory") {
					t.Errorf("printed\n%s", out)
				}
				p = p.with("HUBGATE_CA_FILE=" + ca)
			}
			const needed = "hint: a token is needed: "
			for name, env := range map[string][]string{"no token": nil, "wrong token": {"HUBGATE_TOKEN=33333333-3333-4333-8333-333333333333"}} {
				if got := p.with(env...).hubgate("hub", "list"); got.code != exitDenied || got.out != "" || !strings.Contains(got.err, needed) {
					t.Errorf("%s: %+v", name, got)
				}
			}
			viewer, operator := p.with("HUBGATE_TOKEN="+tokenTwo), p.with("HUBGATE_TOKEN="+tokenOne)
			viewer.hubgate("device", "show", "factory", "SN-0001").ok(t)
			for _, args := range [][]string{
				{"device", "disable", "factory", "SN-0001"},
				{"device", "delete", "factory", "SN-0001"},
				{"device", "import", "factory", "-"},
				{"hub", "create", "plant"},
				{"hub", "auto-provisioning", "off", "factory"},
			} {
				got := viewer.hubgateIn(`{"name":"SN-0009"}`, args...)
				if got.code != exitDenied || !strings.Contains(got.err, "hint: use a token of a greater role") {
					t.Errorf("viewer: %v: %+v", args, got)
				}
			}
			if got := operator.hubgate("hub", "create", "plant"); got.code != exitDenied {
				t.Errorf("operator creates a hub: %+v", got)
			}
			operator.hubgate("device", "disable", "factory", "SN-0001", "--reason", "lost").ok(t)

			add := []string{"context", "add", "office", "--url", url, "--token-stdin", "--use"}
			if secured {
				add = append(add, "--ca-file", ca)
			}
			q := newPerson(t)
			q.hubgateIn(tokenTwo+"\n", add...).ok(t)
			if out := q.hubgate("device", "show", "factory", "SN-0001").ok(t); !strings.Contains(out, "no, lost") {
				t.Errorf("printed\n%s", out)
			}
			if got := q.hubgate("device", "enable", "factory", "SN-0001"); got.code != exitDenied {
				t.Errorf("a context's viewer enables: %+v", got)
			}
			for _, tt := range []struct {
				args []string
				want string
			}{
				{[]string{"device", "list", ""}, "factory\n:4\n"},
				{[]string{"event", "tail", "--hub", ""}, "factory\n:4\n"},
				{[]string{"device", "show", "factory", "X"}, "XN-0001\n:4\n"},
			} {
				if got := q.hubgate(append([]string{"__complete"}, tt.args...)...).ok2(t); got != tt.want {
					t.Errorf("%q is completed with %q", tt.args, got)
				}
			}
		})
	}
}

// feed is an import whose file is still being written.
type feed struct {
	*io.PipeWriter
	out, err bytes.Buffer
	code     int
	done     chan struct{}
}

// feed begins an import and sends it that many devices.
func (s *site) feed(prefix string, devices int) *feed {
	s.t.Helper()
	in, w := io.Pipe()
	f := &feed{PipeWriter: w, done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	go func() {
		defer close(f.done)
		f.code = run(ctx, []string{"device", "import", "factory", "-", "--config", s.config}, in, &f.out, &f.err)
		_ = in.Close() // a writer does not wait for one who is gone
	}()
	s.t.Cleanup(func() {
		cancel()
		_ = w.Close()
		<-f.done
	})
	if _, err := io.WriteString(w, numbered(prefix, devices)); err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (f *feed) result() result {
	<-f.done
	return result{f.code, f.out.String(), f.err.String()}
}

// numbered are the lines of that many devices.
func numbered(prefix string, devices int) string {
	var lines strings.Builder
	for i := range devices {
		_, _ = fmt.Fprintf(&lines, "{\"name\":\"%s-%06d\"}\n", prefix, i)
	}
	return lines.String()
}

// devices counts the hub's.
func (s *site) devices() int {
	s.t.Helper()
	var list admin.Devices
	if err := json.Unmarshal([]byte(s.hubgate("device", "list", "factory", "--limit", "0", "-o", "json").ok(s.t)), &list); err != nil {
		s.t.Fatal(err)
	}
	return len(list.Devices)
}

// has waits until the hub has that many devices.
func (s *site) has(devices int) {
	s.t.Helper()
	eventually(s.t, func() bool { return s.devices() >= devices }, func() string { return fmt.Sprintf("%d devices, not %d", s.devices(), devices) })
}

// TestStopDuringImport: a hubgate that stops waits for no import; who imports is
// told where to go on, and going on there loses nothing and repeats nothing.
func TestStopDuringImport(t *testing.T) {
	t.Parallel()
	const devices, sent, stored = 1000, 600, 512 // the rest is less than what is stored at once
	s := newSite(t)
	v := s.serve()
	f := s.feed("SN", sent)
	s.has(stored)
	if code := v.end(); code != exitOK {
		t.Errorf("serve ended with %d", code)
	}
	got := f.result()
	var from int
	_, rest, _ := strings.Cut(got.err, "go on with --from-line ")
	if _, err := fmt.Sscan(rest, &from); err != nil || got.code != exitUnavailable || from <= stored || from > sent+1 {
		t.Fatalf("%+v", got)
	}
	file := writeFile(t, s.dir, "devices.ndjson", []byte(numbered("SN", devices)))
	s.serve()
	out := s.hubgate("device", "import", "factory", file, "--from-line", fmt.Sprint(from)).ok(t)
	if want := fmt.Sprintf("%d created, 0 updated, 0 unchanged, 0 refused", devices-from+1); !strings.Contains(out, want) {
		t.Errorf("from line %d: %s", from, out)
	}
	if n := s.devices(); n != devices {
		t.Errorf("%d devices, not %d", n, devices)
	}
}

// TestTooManyImports: one more than there may be is turned away and told to come
// back; those at work go on.
func TestTooManyImports(t *testing.T) {
	t.Parallel()
	const most, each = 8, 256 // which is stored at once
	s := newSite(t)
	s.serve()
	var feeds []*feed
	for i := range most {
		feeds = append(feeds, s.feed(fmt.Sprint("SN", i), each))
	}
	s.has(most * each)
	s.hubgateIn(numbered("TN", 1), "device", "import", "factory", "-").fails(t, exitUnavailable,
		"hubgate: 8 imports are at work already: try again later\n")
	for _, f := range feeds {
		_ = f.Close()
		if out := f.result().ok(t); !strings.Contains(out, "256 created") {
			t.Errorf("printed %s", out)
		}
	}
	s.hubgateIn(numbered("TN", 1), "device", "import", "factory", "-").ok(t)
	if n := s.devices(); n != most*each+1 {
		t.Errorf("%d devices", n)
	}
}
