package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// follower is an event tail at work.
type follower struct {
	out, err *lockedBuffer
	stop     context.CancelFunc
	done     chan int
}

func (s *site) follow(flags ...string) *follower {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := &follower{new(lockedBuffer), new(lockedBuffer), stop, make(chan int, 1)}
	args := append([]string{"event", "tail", "--config", s.config}, flags...)
	go func() { f.done <- run(ctx, args, strings.NewReader(""), f.out, f.err) }()
	s.t.Cleanup(stop)
	return f
}

func (f *follower) sees(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() bool { return strings.Contains(f.out.String(), text) }, func() string {
		return "no " + text + " in\n" + f.out.String() + f.err.String()
	})
}

// end stops it, as Ctrl-C does, and returns what it said at last.
func (f *follower) end(t *testing.T) string {
	t.Helper()
	f.stop()
	if code := <-f.done; code != exitOK {
		t.Errorf("ended with %d", code)
	}
	return f.err.String()
}

// TestTailResumes follows events live, across a restart of hubgate, and again
// from the cursor that it left behind: nothing is lost or shown twice.
func TestTailResumes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	v.connect(s.factory.device(t, "before"))
	all := s.follow("--since", "start")
	all.sees(t, "before")
	live := s.follow("--hub", "factory")
	// It has begun once it sees something.
	for i := 0; !strings.Contains(live.out.String(), "warm-up"); i++ {
		v.connect(s.factory.device(t, fmt.Sprintf("warm-up-%d", i)))
	}
	v.connect(s.factory.device(t, "first"))
	live.sees(t, "factory/first")

	v.end()
	v = s.serve()
	v.connect(s.factory.device(t, "second"))
	for _, f := range []*follower{live, all} {
		f.sees(t, "factory/second")
		for _, name := range []string{"factory/first ", "factory/second "} {
			if n := strings.Count(f.out.String(), name); n != 1 {
				t.Errorf("%s was shown %d times:\n%s", name, n, f.out)
			}
		}
	}
	if strings.Contains(live.out.String(), "factory/before") {
		t.Errorf("what was before was shown:\n%s", live.out)
	}
	said := live.end(t)
	if !strings.Contains(said, "hubgate went away; waiting for it\n") {
		t.Errorf("the restart went unmentioned: %s", said)
	}
	all.end(t)

	v.connect(s.factory.device(t, "third"))
	_, cursor, _ := strings.Cut(strings.TrimSpace(said), "--since ")
	if rest := s.hubgate("event", "tail", "--follow=false", "--since", cursor).ok(t); strings.Count(rest, "\n") != 1 || !strings.Contains(rest, "factory/third") {
		t.Errorf("from cursor %q:\n%s", cursor, rest)
	}
}

func TestTailOfNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve()
	if out := s.hubgate("event", "tail", "--since", "start", "--follow=false").ok(t); !strings.HasPrefix(out, "There are no events.") {
		t.Errorf("printed %s", out)
	}
	s.hubgate("event", "tail", "--since", "yesterday").fails(t, exitError,
		"hubgate: cursor \"yesterday\": \"yesterday\" is no partition of this store\n")
	s.hubgate("event", "tail", "--since", "39:7").fails(t, exitConflict,
		"hubgate: the cursor is ahead of the store, which was restored or replaced: begin with since=start\n")
}

// TestTailJSON: every line is an event, with the cursor after it.
func TestTailJSON(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	v.connect(s.factory.device(t, "SN-0001"))
	v.connect(s.factory.device(t, "SN-0002"))
	var first struct {
		Name   string `json:"object-name"`
		Cursor string `json:"cursor"`
	}
	lines := strings.Split(s.hubgate("event", "tail", "--since", "start", "--follow=false", "-o", "json").ok(t), "\n")
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || first.Name != "SN-0001" {
		t.Fatalf("the first line: %v, %+v", err, first)
	}
	rest := s.hubgate("event", "tail", "--since", first.Cursor, "--follow=false").ok(t)
	if strings.Contains(rest, "SN-0001") || !strings.Contains(rest, "SN-0002") {
		t.Errorf("after the first:\n%s", rest)
	}
}
