package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// eventBatch is how many events of a partition are read at once.
const eventBatch = 256

func (s *Server) eventRoutes() []route {
	return []route{{
		method: "GET", path: "/v1/events", id: "streamEvents",
		summary: "Follow hub events (server-sent events); whoever comes back with Last-Event-ID continues without loss or repeat",
		role:    access.Viewer, stream: s.streamEvents, answerType: "text/event-stream", answer: exampleEvents,
		query: []parameter{
			{name: "hub", text: "ID or name of the only hub to follow; all if it is not given."},
			{name: "since", text: "Where to begin: start, or the id of an event; the present if it is not given."},
			{name: "last", text: "Begin at most this many events before the present, instead of since.", least: 1, most: maxPage},
			{name: "follow", text: "false ends the stream at the present.", values: trueOrFalse},
			{name: "severity", text: "Only events of this severity.", values: severities},
			{name: "object_type", text: "Only events about objects of this type.", values: objectTypes},
			{name: "reason", text: "Only events with this reason, such as device_provisioned."},
		},
	}}
}

// What events can be filtered by.
var (
	severities  = []string{string(provision.SeverityInfo), string(provision.SeverityError)}
	objectTypes = []string{string(provision.ObjectDevice), string(provision.ObjectHub)}
)

// streamEvents sends hub events as they come (server-sent events), until the
// caller hangs up. Each has an id, the cursor after it: who comes back with the
// last one (Last-Event-ID, or the parameter since) continues without loss or
// repeat. Other parameters: hub, severity, object_type and reason;
// last, which begins a little before the present instead of since; follow=false,
// which ends at the present. Who is bound to a project gets the
// events of its hubs; events of no hub, whose hub ID is zero, are for those who
// are not.
// Besides messages there is the event "gap": so many events are gone because
// the store keeps only the newest.
func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request) {
	free, err := s.streams.Take(caller(r))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer free()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-s.draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	t, err := s.openTail(ctx, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if t.out, err = openStream(w); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	// The first line tells the cursor, so that a reader that has seen no event
	// yet can come back, too.
	if t.out.printf("id: %s\nevent: begin\ndata: {}\n\n", t.at) != nil {
		return
	}
	t.run(ctx)
}

// stream writes to a response, bounding how long the reader may stall.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// openStream takes a response out of the time limit of ordinary requests, which
// would end it as if the caller had hung up.
func openStream(w http.ResponseWriter) (stream, error) {
	s := stream{w: w, control: http.NewResponseController(w)}
	return s, s.control.SetReadDeadline(time.Time{})
}

// extend gives the next write its time.
func (s stream) extend() error {
	return s.control.SetWriteDeadline(time.Now().Add(stallTimeout))
}

// Write implements io.Writer.
func (s stream) Write(p []byte) (int, error) {
	if err := s.extend(); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}

// printf writes and sends what is written at once.
func (s stream) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(s, format, args...); err != nil {
		return err
	}
	return s.control.Flush()
}

// tail is one reader of events.
type tail struct {
	server *Server
	out    stream
	follow bool
	// only is the hub to read of; zero: all.
	only provision.HubID
	// severity, objectType and reason are all that is wanted; "": any.
	severity, objectType, reason string
	principal                    access.Principal
	at                           position
	// known are the partitions whose position is known: what is missing
	// between it and the next event was lost, not just never read.
	known map[int]bool
}

func (s *Server) openTail(ctx context.Context, r *http.Request) (*tail, error) {
	query, err := parameters(r, "hub", "since", "last", "follow", "severity", "object_type", "reason")
	if err != nil {
		return nil, err
	}
	principal, _ := access.From(ctx)
	t := &tail{
		server: s, follow: true, principal: principal, at: make(position), known: make(map[int]bool),
		severity: query.Get("severity"), objectType: query.Get("object_type"), reason: query.Get("reason"),
	}
	switch {
	case t.severity != "" && !slices.Contains(severities, t.severity):
		return nil, invalid("severity: %q is none of %s", t.severity, strings.Join(severities, ", "))
	case t.objectType != "" && !slices.Contains(objectTypes, t.objectType):
		return nil, invalid("object_type: %q is none of %s", t.objectType, strings.Join(objectTypes, ", "))
	}
	switch query.Get("follow") {
	case "", "true":
	case "false":
		t.follow = false
	default:
		return nil, invalid("follow: %q is neither true nor false", query.Get("follow"))
	}
	if name := query.Get("hub"); name != "" {
		h, err := s.fleet.Find(ctx, caller(r), name)
		if err != nil {
			return nil, err
		}
		t.only = h.ID
	}
	cursor := query.Get("since")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		cursor = last // the browser knows better than the address it was given
	}
	before := 0
	if text := query.Get("last"); text != "" && cursor == "" {
		before, _ = strconv.Atoi(text) // the route's table has checked it
	} else if text != "" && query.Get("since") != "" {
		return nil, invalid("last: is given beside since: choose one")
	}
	return t, t.begin(ctx, cursor, uint64(before))
}

// begin finds the position to start from: that of the cursor, or so many events
// before the present. A partition's position that is missing in a cursor is its
// start.
func (t *tail) begin(ctx context.Context, cursor string, before uint64) error {
	partitions := t.server.store.Partitions()
	if cursor != "" {
		at, err := parsePosition(cursor, partitions)
		if err != nil {
			return err
		}
		t.at = at
	}
	heads, err := t.server.store.LastEvents(ctx)
	if err != nil {
		return fmt.Errorf("last events: %w", err)
	}
	for p, last := range heads {
		if !t.reads(p) {
			continue
		}
		switch {
		case cursor == "":
			t.at[p] = last - min(last, before)
		case t.at[p] > last:
			return &requestError{http.StatusConflict, "cursor_ahead",
				"the cursor is ahead of the store, which was restored or replaced: begin with since=start"}
		}
		if last > 0 {
			// What is gone before a beginning that was only counted back is no loss.
			t.known[p] = t.at[p] > 0 && (cursor != "" || before == 0)
		}
	}
	return nil
}

// reads tells whether the partition can have events that are wanted.
func (t *tail) reads(partition int) bool {
	return t.only.IsZero() || partition == t.only.Partition(t.server.store.Partitions())
}

// wants tells whether the reader gets the event.
func (t *tail) wants(e provision.Event) bool {
	switch {
	case !t.only.IsZero() && e.Hub != t.only,
		t.severity != "" && string(e.Severity) != t.severity,
		t.objectType != "" && string(e.ObjectType) != t.objectType,
		t.reason != "" && e.Reason != t.reason:
		return false
	case t.principal.Project == uuid.Nil:
		return t.principal.Sees(uuid.Nil)
	}
	// Of a hub that is gone nobody can tell any more whose it was.
	h, ok := t.server.gate.Hub(e.Hub.String())
	return ok && t.principal.Sees(h.Project)
}

// run sends events until the context ends, the reader is gone, or, if it does
// not follow, the present is reached.
func (t *tail) run(ctx context.Context) {
	poll := time.NewTicker(t.server.poll)
	defer poll.Stop()
	silent := time.Now()
	failing := false
	for {
		sent, err := t.catchUp(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, errReaderGone):
			return
		case err != nil && !failing:
			// The reader keeps its place; it sees heartbeats meanwhile.
			t.server.log.WarnContext(ctx, "event stream: reading events failed, trying again", "error", err)
		}
		failing = err != nil
		if sent {
			silent = time.Now()
		}
		if !t.follow && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		if time.Since(silent) >= t.server.heartbeat {
			// It moves the cursor past what the reader did not want.
			if t.out.printf("id: %s\n: still here\n\n", t.at) != nil {
				return
			}
			silent = time.Now()
		}
	}
}

// catchUp sends what is there, oldest first across partitions, and tells
// whether it sent anything.
func (t *tail) catchUp(ctx context.Context) (bool, error) {
	sent := false
	for {
		heads, more, err := t.batch(ctx)
		if err != nil {
			return sent, err
		}
		for p := next(heads); p >= 0; p = next(heads) {
			stored := heads[p][0]
			heads[p] = heads[p][1:]
			wrote, err := t.send(p, stored)
			if err != nil {
				return sent, err
			}
			sent = sent || wrote
		}
		if !more {
			return sent, nil
		}
	}
}

// batch reads the next events of every partition, and tells whether there may
// be more.
func (t *tail) batch(ctx context.Context) (map[int][]provision.Stored, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	heads := make(map[int][]provision.Stored)
	more := false
	last, err := t.server.store.LastEvents(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("last events: %w", err)
	}
	for p := range last {
		if !t.reads(p) || last[p] <= t.at[p] {
			continue
		}
		events, err := t.server.store.Events(ctx, p, t.at[p], eventBatch)
		if err != nil {
			return nil, false, fmt.Errorf("partition %d: %w", p, err)
		}
		if len(events) > 0 {
			heads[p] = events
		}
		more = more || len(events) == eventBatch
	}
	return heads, more, nil
}

// next is the partition whose first event is the oldest, -1 if none is left.
// Within a partition the order stays, whatever the clocks said.
func next(heads map[int][]provision.Stored) int {
	oldest := -1
	for p, events := range heads {
		if len(events) == 0 {
			continue
		}
		if oldest < 0 || events[0].Event.Time.Before(heads[oldest][0].Event.Time) {
			oldest = p
		}
	}
	return oldest
}

// errReaderGone ends a stream.
var errReaderGone = errors.New("the reader is gone")

// send sends one event, if it is wanted, and moves the position past it.
func (t *tail) send(partition int, stored provision.Stored) (bool, error) {
	lost := stored.Seq - t.at[partition] - 1
	gap := lost > 0 && t.known[partition]
	t.at[partition], t.known[partition] = stored.Seq, true
	if gap {
		if t.out.printf("event: gap\ndata: {\"partition\":%d,\"lost\":%d}\n\n", partition, lost) != nil {
			return false, errReaderGone
		}
	}
	if !t.wants(stored.Event) {
		return gap, nil
	}
	data, err := json.Marshal(stored.Event)
	if err != nil {
		return false, fmt.Errorf("event %s: %w", stored.Event.ID, err)
	}
	if t.out.printf("id: %s\ndata: %s\n\n", t.at, data) != nil {
		return false, errReaderGone
	}
	return true, nil
}
