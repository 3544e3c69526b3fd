package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/provision"
)

func newEvent(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("event", "Show hub events",
		newEventTail(&t, std),
	), "")
}

func newEventTail(t *target, std streams) *cobra.Command {
	f := &tail{target: t, std: std}
	c := &cobra.Command{
		Use:   "tail",
		Short: "Show events as they happen",
		Long: `Show hub events as they happen, until Ctrl-C. A hubgate that restarts is waited
for, and nothing is lost or shown twice. At the end, standard error tells the
cursor from which --since continues.`,
		Example: `  hubgate event tail --hub factory
  hubgate event tail --severity error
  hubgate event tail --since start --follow=false -o json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context()) },
	}
	f.output.flag(c)
	c.Flags().StringVar(&f.hub, "hub", "", "of this hub alone (name or ID)")
	c.Flags().StringVar(&f.severity, "severity", "", "info or error alone")
	c.Flags().StringVar(&f.objectType, "object-type", "", "about a device or a hub alone")
	c.Flags().StringVar(&f.reason, "reason", "", "with this reason alone, such as device_provisioned")
	c.Flags().StringVar(&f.cursor, "since", "", "start, for all that is kept, or a cursor (default: now)")
	_ = c.RegisterFlagCompletionFunc("hub", t.completeHubFlag) // fails only for a flag that is not there
	c.Flags().BoolVar(&f.follow, "follow", true, "wait for more; false ends with what is there")
	return c
}

// tail follows the event stream.
type tail struct {
	*target
	std    streams
	output output
	hub    string
	follow bool
	// severity, objectType and reason are all that is shown; "": any.
	severity, objectType, reason string
	cursor                       string            // after the last event shown, "" before any
	begun                        bool              // the stream has begun once
	shown                        int               // events
	names                        map[string]string // of hubs, by ID
}

// retryAfter is the pause before a server that went away is asked again.
const retryAfter = time.Second

func (f *tail) run(ctx context.Context) error {
	waiting := false
	for {
		err := f.stream(ctx)
		switch {
		case ctx.Err() != nil:
			if f.cursor != "" && f.output == outputTable {
				f.note("Continue with: hubgate event tail --since %s\n", f.cursor)
			}
			return nil
		case err == nil && !f.follow:
			if f.shown == 0 && f.output == outputTable {
				return say(f.std.out, "There are no events. They appear when devices first connect and when somebody changes something.\n")
			}
			return nil
		case err != nil && (!f.begun || isAnswer(err)):
			return err // it never worked, or hubgate says why not
		case err == nil || !waiting:
			waiting = true
			f.note("hubgate went away; waiting for it\n")
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

// note tells people something that is no event.
func (f *tail) note(format string, args ...any) {
	_ = say(f.std.err, format, args...) // nobody is there to read it
}

func isAnswer(err error) bool {
	var refused *apiError
	return errors.As(err, &refused) && refused.status < http.StatusInternalServerError
}

// stream shows events until the stream ends.
func (f *tail) stream(ctx context.Context) error {
	return f.with(ctx, func(c *client) error {
		if err := f.learnNames(ctx, c); err != nil {
			return err
		}
		query := url.Values{"follow": {fmt.Sprint(f.follow)}}
		if f.hub != "" {
			query.Set("hub", f.hub)
		}
		for name, value := range map[string]string{
			"severity": f.severity, "object_type": f.objectType, "reason": f.reason, "since": f.cursor,
		} {
			if value != "" {
				query.Set(name, value)
			}
		}
		response, err := c.open(ctx, http.MethodGet, "/v1/events", query, nil)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if err := f.show(response.Body); err != nil && ctx.Err() == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		return nil
	})
}

func (f *tail) learnNames(ctx context.Context, c *client) error {
	list, err := c.hubs(ctx)
	if err != nil {
		return err
	}
	f.names = make(map[string]string, len(list.Hubs))
	for _, h := range list.Hubs {
		f.names[h.ID] = h.Name
	}
	return nil
}

// maxLine bounds a line of the stream; a cursor over all partitions is the
// longest thing in it.
const maxLine = 1 << 20

// show reads server-sent events: lines of fields, a blank line after each event.
func (f *tail) show(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	fields := map[string]string{}
	for lines.Scan() {
		if line := lines.Text(); line != "" {
			name, value, _ := strings.Cut(line, ": ")
			fields[name] = value
			continue
		}
		if err := f.event(fields); err != nil {
			return err
		}
		clear(fields)
	}
	return lines.Err()
}

// event shows one event and moves the cursor past it.
func (f *tail) event(fields map[string]string) error {
	switch data := fields["data"]; {
	case data == "": // a sign of life
	case fields["event"] == "begin":
		f.begun = true
	case fields["event"] == "gap":
		var gap struct{ Lost uint64 }
		if err := json.Unmarshal([]byte(data), &gap); err != nil {
			return err
		}
		f.note("%s lost: the store keeps only the newest\n", count(int(gap.Lost), "event"))
	default:
		shown := shownEvent{Cursor: fields["id"]}
		if err := json.Unmarshal([]byte(data), &shown.Event); err != nil {
			return fmt.Errorf("an event cannot be read: %w", err)
		}
		if err := f.print(shown); err != nil {
			return err
		}
	}
	if id := fields["id"]; id != "" {
		f.cursor = id
	}
	return nil
}

// shownEvent is an event as -o json shows it: with the cursor after it.
type shownEvent struct {
	provision.Event
	Cursor string `json:"cursor"`
}

func (f *tail) print(e shownEvent) error {
	f.shown++
	switch f.output {
	case outputJSON: // a line each
		encoder := json.NewEncoder(f.std.out)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(e)
	case outputYAML: // a document each
		if err := say(f.std.out, "---\n"); err != nil {
			return err
		}
		return printYAML(f.std.out, e)
	}
	hub := e.Hub.String()
	if name := f.names[hub]; name != "" {
		hub = name
	}
	object := hub
	if e.ObjectType == provision.ObjectDevice {
		object += "/" + e.ObjectName
	}
	text := e.Message
	if e.SourceAddress != "" {
		text += " from " + e.SourceAddress
	}
	if e.Count > 1 {
		text += fmt.Sprintf(" (%d times)", e.Count)
	}
	return say(f.std.out, "%s  %-5s  %-28s  %s\n", clock(e.Time), e.Severity, object, text)
}
