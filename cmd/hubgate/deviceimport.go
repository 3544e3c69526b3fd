package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/admin/fleet"
)

const ndjson = "application/x-ndjson"

// importFlags are those of every import, of devices and of claims.
type importFlags struct {
	*target
	std      streams
	output   output
	hub      string
	from     int
	rejects  string
	progress bool

	// path is that of the import below the hub's, kind what its lines are, and
	// counts tells what became of them.
	path, kind string
	query      url.Values
	counts     func(fleet.ImportCounts) string
}

// add adds the flags, and the check of them before work.
func (f *importFlags) add(c *cobra.Command) {
	f.output.flag(c)
	flags := c.Flags()
	flags.IntVar(&f.from, "from-line", 1, "begin with this line")
	flags.StringVar(&f.rejects, "rejects", "", "write the lines that are refused into this file, as they are")
	flags.BoolVar(&f.progress, "progress", false, "tell how far it is, even if standard error is no terminal")
	c.Args = args("HUB", "FILE")
	c.ValidArgsFunction = f.completeHubs(func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveDefault
	})
}

func newDeviceImport(t *target, std streams) *cobra.Command {
	f := &importFlags{target: t, std: std, path: "/devices/import", kind: ndjson, query: url.Values{}, counts: countsText}
	var enable bool
	c := &cobra.Command{
		Use:   "import HUB FILE",
		Short: "Create and edit devices out of a file",
		Long: `Create and edit devices out of a file with a JSON object on each line, as
` + "`hubgate device export`" + ` writes it; - is standard input. Only the name has to be
there: what is left out stays as it is, and for a new device is the default.

Importing the same again changes nothing. A device that is disabled here stays
so, unless --enable is said. One that has connected keeps its keys. New devices
raise no events of their own; one event of the hub counts them.

A line that is wrong is told with its number and the reason, goes into --rejects,
and does not keep the others. When hubgate goes away, the command says from which
line --from-line goes on. Exit code 8: some lines were refused.`,
		Example: `  hubgate device import factory devices.ndjson --rejects rejected.ndjson
  hubgate device export factory --disabled | hubgate device import factory - --context other-region`,
		RunE: func(c *cobra.Command, args []string) error {
			if enable {
				f.query.Set("enable", "true")
			}
			return f.run(c.Context(), args[0], args[1])
		},
	}
	f.add(c)
	c.Flags().BoolVar(&enable, "enable", false, "let a line enable a device that is disabled here")
	return c
}

func (f *importFlags) run(ctx context.Context, hub, path string) (err error) {
	if f.from < 1 {
		return usage("--from-line: %d is no number of a line: the first is 1", f.from)
	}
	f.hub = hub
	in := f.std.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	rejects := io.Discard
	if f.rejects != "" {
		file, err := os.OpenFile(f.rejects, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("--rejects: %s is there already: choose another name", f.rejects)
		}
		if err != nil {
			return fmt.Errorf("--rejects: %w", err)
		}
		defer func() { err = errors.Join(err, file.Sync(), file.Close()) }()
		rejects = file
	}
	return f.with(ctx, func(client *client) error {
		s := newSender(in, f.from, rejects)
		last, err := f.transfer(ctx, client, s)
		if err != nil {
			return err
		}
		if err := f.output.print(f.std.out, last, func() error { return f.summary(last) }); err != nil {
			return err
		}
		if last.Counts.Refused > 0 {
			return errPartly
		}
		return nil
	})
}

// transfer sends the lines while it reads what became of them.
func (f *importFlags) transfer(ctx context.Context, client *client, s *sender) (last admin.ImportResult, err error) {
	if err := s.skip(); err != nil {
		return last, err
	}
	defer s.stop()
	response, err := client.send(ctx, http.MethodPost, hubPath(f.hub)+f.path, f.query, s, f.kind)
	switch {
	case errors.As(err, new(*apiError)):
		return last, err // it never began
	case err != nil:
		return last, f.broken(s, err)
	}
	defer func() { _ = response.Body.Close() }()
	p := f.meter("lines")
	defer p.clear()
	for d := json.NewDecoder(response.Body); ; {
		var r admin.ImportResult
		if err := d.Decode(&r); err != nil {
			return last, f.broken(s, client.unreachable(ctx, errors.Join(err, s.failure())))
		}
		switch {
		case r.Line > 0:
			p.clear()
			f.tell(f.from-1+r.Line, r.Message)
			if err := s.reject(r.Line); err != nil {
				return last, fmt.Errorf("--rejects: %w", err)
			}
			continue
		case r.Counts == nil:
			return last, errors.New("hubgate's answer cannot be read")
		}
		s.acknowledge(r.Through)
		f.tellLong(s)
		r.Counts.Refused += s.tooLong()
		p.at(r.Through, func() string { return f.counts(*r.Counts) })
		if r.Error != "" {
			return last, f.broken(s, &apiError{status: http.StatusServiceUnavailable, Code: r.Error, Message: r.Message})
		}
		if r.Done {
			if err := s.failure(); err != nil { // the end of what could be read is not that of the file
				return last, f.broken(s, err)
			}
			r.Through += f.from - 1
			return r, nil
		}
	}
}

// tell tells of a line that was refused.
func (f *importFlags) tell(line int, message string) {
	_ = say(f.std.err, "line %d: %s\n", line, message)
}

// tellLong tells of lines that were not even sent.
func (f *importFlags) tellLong(s *sender) {
	for _, line := range s.tooLongLines() {
		f.tell(f.from-1+line, fmt.Sprintf("the line is longer than %d bytes", admin.MaxRecordLine))
	}
}

// broken says where to go on.
func (f *importFlags) broken(s *sender, err error) error {
	f.tellLong(s)
	return fmt.Errorf("%w\nAll lines before %d are done: go on with --from-line %d", err, f.from+s.through(), f.from+s.through())
}

func (f *importFlags) summary(r admin.ImportResult) error {
	if err := say(f.std.out, "%s imported into hub %s: %s.\n", count(r.Through-f.from+1, "line"), f.hub, f.counts(*r.Counts)); err != nil {
		return err
	}
	if n := r.Counts.StillDisabled; n > 0 {
		if err := say(f.std.out, "%s here, though the file has them enabled: --enable would enable them.\n", stay(n)); err != nil {
			return err
		}
	}
	switch {
	case r.Counts.Refused == 0:
		return nil
	case f.rejects == "":
		return say(f.std.out, "Mend the refused lines and import the file again: what is done is not done twice.\n")
	default:
		return say(f.std.out, "The refused lines are in %s: mend and import it.\n", f.rejects)
	}
}

func stay(n int) string {
	if n == 1 {
		return "1 device stays disabled"
	}
	return strconv.Itoa(n) + " devices stay disabled"
}

func countsText(c fleet.ImportCounts) string {
	return fmt.Sprintf("%d created, %d updated, %d unchanged, %d refused", c.Created, c.Updated, c.Unchanged, c.Refused)
}
