package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

type exportFlags struct {
	*target
	std      streams
	hub, out string
	disabled bool
	progress bool
}

func newDeviceExport(t *target, std streams) *cobra.Command {
	f := &exportFlags{target: t, std: std}
	c := &cobra.Command{
		Use:   "export HUB",
		Short: "Write all devices of a hub, one on each line",
		Long: `Write all devices of a hub as JSON, one on each line, in the order of their
creation: to standard output, or to a file that appears once it is whole. A
connection that breaks is made again, and the export goes on where it was.

--disabled writes the bans alone: imported on another hub or in another region,
they disable these devices there, known or not, and change nothing else.`,
		Example: `  hubgate device export factory --out factory.ndjson
  hubgate device export factory --disabled --out bans.ndjson`,
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			f.hub = args[0]
			return f.run(c.Context())
		},
	}
	flags := c.Flags()
	flags.BoolVar(&f.disabled, "disabled", false, "only disabled devices, with no more than it takes to ban them elsewhere")
	flags.StringVar(&f.out, "out", "", "write into this file instead of standard output")
	flags.BoolVar(&f.progress, "progress", false, "tell how far it is, even if standard error is no terminal")
	return c
}

func (f *exportFlags) run(ctx context.Context) (err error) {
	if f.out == "" {
		_, err := f.export(ctx, f.std.out)
		return err
	}
	if _, err := os.Lstat(f.out); err == nil {
		return fmt.Errorf("%s is there already: choose another name", f.out)
	}
	part, err := os.CreateTemp(filepath.Dir(f.out), "."+filepath.Base(f.out)+".part-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part.Name()) }()
	w := bufio.NewWriterSize(part, 1<<20)
	devices, err := f.export(ctx, w)
	if err := errors.Join(err, w.Flush(), part.Sync(), part.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, never replaces what somebody put there meanwhile.
	if err := os.Link(part.Name(), f.out); err != nil {
		return err
	}
	return say(f.std.out, "%s: %s of hub %s. `hubgate device import` reads it.\n", f.out, count(devices, "device"), f.hub)
}

// exportTries bounds how often in a row a connection breaks without bringing a
// page.
const exportTries = 5

func (f *exportFlags) export(ctx context.Context, w io.Writer) (devices int, err error) {
	p := newMeter(f.std, f.progress, "devices")
	defer p.clear()
	err = f.with(ctx, func(client *client) error {
		e := &exporter{w: w, told: func(n int) { devices += n; p.at(devices, func() string { return "" }) }}
		for tries := 0; ; {
			before := e.cursor
			err := f.pages(ctx, client, e)
			if err == nil || ctx.Err() != nil || !errors.As(err, new(*unreachableError)) {
				return err
			}
			if e.cursor != before {
				tries = 0
			}
			if tries++; tries >= exportTries || e.cursor == "" {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(retryAfter):
			}
		}
	})
	return devices, err
}

// exporter writes whole pages, so that it can go on behind the last one.
type exporter struct {
	w      io.Writer
	told   func(devices int)
	cursor string
}

func (f *exportFlags) pages(ctx context.Context, client *client, e *exporter) error {
	query := url.Values{"cursors": {"true"}}
	if f.disabled {
		query.Set("disabled", "true")
	}
	if e.cursor != "" {
		query.Set("cursor", e.cursor)
	}
	response, err := client.open(ctx, http.MethodGet, hubPath(f.hub)+"/devices/export", query, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var page bytes.Buffer
	devices := 0
	write := func() error {
		_, err := e.w.Write(page.Bytes())
		page.Reset()
		e.told(devices)
		devices = 0
		return err
	}
	lines := bufio.NewReaderSize(response.Body, 2*admin.MaxRecordLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return write()
		case err != nil:
			return client.unreachable(ctx, err)
		}
		if bytes.HasPrefix(line, []byte(`{"next":`)) {
			var c admin.ExportCursor
			if err := json.Unmarshal(line, &c); err != nil {
				return fmt.Errorf("hubgate's answer cannot be read: %w", err)
			}
			if err := write(); err != nil {
				return err
			}
			e.cursor = c.Next
			continue
		}
		page.Write(line)
		devices++
	}
}
