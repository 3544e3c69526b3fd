package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// message is one server-sent event.
type message struct{ id, event, data, comment string }

// reader reads an event stream.
type reader struct {
	t     testing.TB
	lines *bufio.Scanner
	close func()
}

func (r *rig) events(query, lastID string) *reader {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/v1/events"+query, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultClient.Do(request) //nolint:bodyclose // the reader closes it
	if err != nil {
		r.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		r.t.Fatalf("%s %s", response.Status, response.Header.Get("Content-Type"))
	}
	s := &reader{r.t, bufio.NewScanner(response.Body), func() { cancel(); _ = response.Body.Close() }}
	r.t.Cleanup(s.close)
	if m, ok := s.next(); !ok || m.event != "begin" || m.id == "" {
		r.t.Fatalf("the stream begins with %+v", m)
	}
	return s
}

// next is the next message, false at the end of the stream.
func (s *reader) next() (message, bool) {
	s.t.Helper()
	var m message
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "id":
			m.id = value
		case "event":
			m.event = value
		case "data":
			m.data = value
		default:
			if s.lines.Text() == "" {
				return m, true
			}
			m.comment = value
		}
	}
	return m, false
}

// names reads so many events and returns the names of their objects, and the
// cursor after the last.
func (s *reader) names(n int) (names []string, cursor string) {
	s.t.Helper()
	for len(names) < n {
		m, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended after %v: %v", names, s.lines.Err())
		}
		var e provision.Event
		if err := json.Unmarshal([]byte(m.data), &e); err != nil {
			s.t.Fatalf("%+v: %v", m, err)
		}
		names, cursor = append(names, e.ObjectName), m.id
	}
	return names, cursor
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestEventsResume reads part of a stream, comes back with the cursor of any
// event, and misses and repeats nothing, across partitions.
func TestEventsResume(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.connect("a", "a1")
	r.connect("b", "b1")
	live := r.events("", "")
	r.connect("a", "a2")
	got, _ := live.names(1)
	expect(t, "live", got, "a2")
	r.connect("b", "b2")
	got, cursor := live.names(1)
	expect(t, "live", got, "b2")
	live.close()
	r.connect("b", "b3")
	r.connect("a", "a3")
	got, _ = r.events("", cursor).names(2)
	expect(t, "Last-Event-ID", got, "b3", "a3")
	got, _ = r.events("?since="+cursor, "").names(2)
	expect(t, "since", got, "b3", "a3")

	all := r.events("?since=start&follow=false", "")
	for i, want := range []string{"a1", "b1", "a2", "b2", "b3", "a3"} {
		got, cursor := all.names(1)
		expect(t, "all", got, want)
		rest := r.events("?follow=false", cursor)
		for _, want := range []string{"a1", "b1", "a2", "b2", "b3", "a3"}[i+1:] {
			got, _ := rest.names(1)
			expect(t, "after "+cursor, got, want)
		}
		if m, ok := rest.next(); ok {
			t.Errorf("after %s there is also %+v", cursor, m)
		}
	}
}

func TestEventsOfOneHub(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for i := range 3 {
		r.connect("a", fmt.Sprintf("a%d", i))
		r.connect("b", fmt.Sprintf("b%d", i))
	}
	for _, hub := range []string{"b", provision.DeclaredHubID("b").String()} {
		got, _ := r.events("?since=start&follow=false&hub="+hub, "").names(3)
		expect(t, hub, got, "b0", "b1", "b2")
	}
}

// TestEventsGap tells what retention took from a reader who was away.
// TestEventsLast begins so many events back, as far as there are any, and
// reports none of the older ones as lost.
func TestEventsLast(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for i := range retention + 5 {
		r.connect("a", fmt.Sprintf("a%d", i))
	}
	for _, tt := range []struct {
		last  int
		first string
	}{{1, "a24"}, {3, "a22"}, {1000, "a5"}} {
		events := r.events(fmt.Sprintf("?hub=a&follow=false&last=%d", tt.last), "")
		if m, _ := events.next(); m.event != "" || !strings.Contains(m.data, fmt.Sprintf("%q", tt.first)) {
			t.Errorf("last=%d begins with %+v, want %s", tt.last, m, tt.first)
		}
	}
	_, cursor := r.events("?hub=a&follow=false&last=2", "").names(1)
	got, _ := r.events("?hub=a&follow=false&last=20", cursor).names(1)
	expect(t, "after a cursor, which goes first", got, "a24")
}

func TestEventsGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.connect("a", "first")
	_, cursor := r.events("?since=start", "").names(1)
	const more = 5
	for i := range retention + more {
		r.connect("a", fmt.Sprintf("d%d", i))
	}
	s := r.events("?follow=false", cursor)
	m, _ := s.next()
	var gap struct{ Lost int }
	if err := json.Unmarshal([]byte(m.data), &gap); err != nil || m.event != "gap" {
		t.Fatalf("no gap but %+v", m)
	}
	kept := 0
	for _, ok := s.next(); ok; _, ok = s.next() {
		kept++
	}
	if gap.Lost < 1 || gap.Lost+kept != retention+more {
		t.Errorf("%d lost and %d kept of %d", gap.Lost, kept, retention+more)
	}
	// Who asks for all that is kept has lost nothing.
	if m, _ := r.events("?since=start&follow=false", "").next(); m.event == "gap" {
		t.Error("a reader from the start is told of a gap")
	}
}

func TestEventsHeartbeat(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Heartbeat = 20 * time.Millisecond })
	s := r.events("", "")
	for range 2 {
		if m, ok := s.next(); !ok || m.comment != "still here" {
			t.Errorf("no heartbeat but %+v", m)
		}
	}
}

func TestEventsEndWithTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := r.events("", "")
	begun := time.Now()
	r.stop()
	if m, ok := s.next(); ok {
		t.Errorf("after the end came %+v", m)
	}
	if took := time.Since(begun); took > shutdownTimeout {
		t.Errorf("the stream held the server up for %s", took)
	}
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.MaxStreams = 1 })
	first := r.events("", "")
	if status, text := r.do("GET", "/v1/events", ""); status != 503 || !strings.Contains(text, "1 event streams are open already") {
		t.Errorf("%d %s", status, text)
	}
	first.close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if status, _ := r.do("GET", "/v1/events?follow=false", ""); status == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a closed stream still counts")
		}
	}
}

// TestEventsFiltered: a reader gets what it asks for, and can come back with any
// cursor, a heartbeat's too.
func TestEventsFiltered(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Heartbeat = 20 * time.Millisecond })
	r.connect("a", "a1")
	hub, _ := r.gate.Hub("b")
	denied := provision.PlatformEvent("chain_untrusted", provision.SeverityError, "no", 3, time.Now())
	denied.Hub, denied.ObjectID, denied.ObjectName = hub.ID, hub.ID.String(), "b"
	platform := provision.PlatformEvent("hub_unknown", provision.SeverityError, "no", 1, time.Now())
	platform.ObjectName = "platform"
	for _, e := range []provision.Event{denied, platform} {
		if err := r.store.AppendEvents(t.Context(), e.Hub.Partition(r.store.Partitions()), []provision.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	r.connect("b", "b1")
	for query, want := range map[string][]string{
		"":                                {"a1", "b", "platform", "b1"},
		"&severity=error":                 {"b", "platform"},
		"&severity=info":                  {"a1", "b1"},
		"&object_type=device&hub=b":       {"b1"},
		"&object_type=hub&severity=error": {"b", "platform"},
		"&reason=device_provisioned":      {"a1", "b1"},
		"&reason=hub_unknown":             {"platform"},
		"&reason=chain_untrusted&hub=b":   {"b"},
		"&reason=hub_unknown&hub=b":       nil,
	} {
		s := r.events("?since=start&follow=false"+query, "")
		got, _ := s.names(len(want))
		expect(t, query, got, want...)
		if m, ok := s.next(); ok {
			t.Errorf("%s: after the last came %+v", query, m)
		}
		s.close()
	}
	s := r.events("?since=start&reason=chain_untrusted", "")
	got, _ := s.names(1)
	expect(t, "followed", got, "b")
	m, _ := s.next()
	if m.id == "" || m.comment != "still here" {
		t.Fatalf("no heartbeat with a cursor but %+v", m)
	}
	r.connect("a", "a2")
	got, _ = r.events("?follow=false", m.id).names(1)
	expect(t, "after the heartbeat", got, "a2")
	for query, want := range map[string]string{"?severity=warning": "severity", "?object_type=chip": "object_type"} {
		if status, text := r.do("GET", "/v1/events"+query, ""); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
}

// TestEventsOfProjects: who is bound to a project gets its hubs' events alone.
func TestEventsOfProjects(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	project := uuid.New()
	hub := provision.Hub{ID: provision.NewHubID(), Name: "own", Project: project}
	if _, err := r.store.CreateHub(t.Context(), hub, provision.Created.OnHub(hub, time.Now())); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, ok := r.gate.Hub("own"); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the hub is not served")
		}
	}
	own, _ := r.gate.Hub("own")
	other, _ := r.gate.Hub("a")
	about := func(h provision.HubID) provision.Event {
		return provision.Event{Hub: h, Severity: provision.SeverityInfo, ObjectType: provision.ObjectHub}
	}
	for _, c := range []struct {
		principal            access.Principal
		own, other, platform bool
	}{
		{access.Local(), true, true, true},
		{access.Principal{Role: access.Viewer, Project: project}, true, false, false},
		{access.Principal{Role: access.Viewer, Project: uuid.New()}, false, false, false},
		{access.Principal{}, false, false, false},
	} {
		reader := &tail{server: &Server{gate: r.gate}, principal: c.principal}
		for e, want := range map[provision.Event]bool{
			about(own.ID): c.own, about(other.ID): c.other, about(provision.HubID{}): c.platform,
		} {
			if got := reader.wants(e); got != want {
				t.Errorf("%+v gets the event of hub %s: %t", c.principal, e.Hub, got)
			}
		}
	}
}
