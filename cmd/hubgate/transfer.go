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
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/admin/fleet"
)

const ndjson = "application/x-ndjson"

type importFlags struct {
	*target
	std      streams
	output   output
	hub      string
	from     int
	rejects  string
	enable   bool
	progress bool
}

func newDeviceImport(t *target, std streams) *cobra.Command {
	f := &importFlags{target: t, std: std}
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
		Args: args("HUB", "FILE"),
		ValidArgsFunction: t.completeHubs(func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		}),
		RunE: func(c *cobra.Command, args []string) error {
			if f.from < 1 {
				return usage("--from-line: %d is no number of a line: the first is 1", f.from)
			}
			f.hub = args[0]
			return f.run(c.Context(), args[1])
		},
	}
	f.output.flag(c)
	flags := c.Flags()
	flags.IntVar(&f.from, "from-line", 1, "begin with this line")
	flags.StringVar(&f.rejects, "rejects", "", "write the lines that are refused into this file, as they are")
	flags.BoolVar(&f.enable, "enable", false, "let a line enable a device that is disabled here")
	flags.BoolVar(&f.progress, "progress", false, "tell how far it is, even if standard error is no terminal")
	return c
}

func (f *importFlags) run(ctx context.Context, path string) (err error) {
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
	query := url.Values{}
	if f.enable {
		query.Set("enable", "true")
	}
	defer s.stop()
	response, err := client.send(ctx, http.MethodPost, hubPath(f.hub)+"/devices/import", query, s, ndjson)
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
		p.at(r.Through, func() string { return countsText(*r.Counts) })
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
	if err := say(f.std.out, "%s imported into hub %s: %s.\n", count(r.Through-f.from+1, "line"), f.hub, countsText(*r.Counts)); err != nil {
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

// maxAhead bounds how many lines are sent and not acknowledged, and with their
// length the memory of an import. It is beyond what hubgate gathers.
const maxAhead = 4096

// sender is the body of an import: the lines of a file, of which it remembers
// those that are not acknowledged yet, as they may be refused.
type sender struct {
	in      *bufio.Reader
	from    int
	rejects io.Writer

	mu      sync.Mutex
	changed *sync.Cond
	ahead   [][]byte // sent, not acknowledged; the first is line done+1
	done    int      // counted from the first line that was sent
	long    []int    // lines that were too long to send, not told yet
	longAll int
	stopped bool
	err     error // of the input
	rest    []byte
}

func newSender(in io.Reader, from int, rejects io.Writer) *sender {
	s := &sender{in: bufio.NewReaderSize(in, admin.MaxRecordLine), from: from, rejects: rejects}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// skip passes the lines before the first.
func (s *sender) skip() error {
	for n := 1; n < s.from; {
		_, err := s.in.ReadSlice('\n')
		switch {
		case err == nil:
			n++
		case errors.Is(err, io.EOF):
			return fmt.Errorf("--from-line %d: the file has only %s", s.from, count(n-1, "line"))
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
	return nil
}

// Read implements io.Reader, for the HTTP client.
func (s *sender) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		line, err := s.next()
		if err != nil {
			return 0, err
		}
		s.rest = line
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// next is the next line to send.
func (s *sender) next() ([]byte, error) {
	line, err := s.in.ReadSlice('\n')
	tooLong := errors.Is(err, bufio.ErrBufferFull)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case tooLong:
		// It goes where refused lines go, piece by piece; an empty line takes
		// its place, so that both sides count alike.
		for errors.Is(err, bufio.ErrBufferFull) {
			if _, werr := s.rejects.Write(line); werr != nil {
				s.err = fmt.Errorf("--rejects: %w", werr)
				return nil, s.err
			}
			line, err = s.in.ReadSlice('\n')
		}
		if err == nil || errors.Is(err, io.EOF) {
			_, err = s.rejects.Write(append(bytes.TrimRight(line, "\n"), '\n'))
		}
		if err != nil {
			s.err = err
			return nil, err
		}
		s.longAll++
		s.long = append(s.long, s.done+len(s.ahead)+1)
		line = []byte("\n")
	case errors.Is(err, io.EOF) && len(line) > 0:
		line = append(bytes.Clone(line), '\n')
	case err != nil:
		if !errors.Is(err, io.EOF) {
			s.err = err
		}
		return nil, err
	}
	for len(s.ahead) >= maxAhead && !s.stopped {
		s.changed.Wait()
	}
	if s.stopped {
		return nil, errors.New("the import has ended")
	}
	line = bytes.Clone(line)
	s.ahead = append(s.ahead, line)
	return line, nil
}

// Close implements io.Closer. The input is not the sender's to close.
func (s *sender) Close() error { //nolint:unparam // io.Closer
	s.stop()
	return nil
}

func (s *sender) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.changed.Broadcast()
}

// failure is why the input ended early, nil if it did not.
func (s *sender) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *sender) through() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

func (s *sender) tooLong() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longAll
}

// tooLongLines returns those lines once.
func (s *sender) tooLongLines() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.long
	s.long = nil
	return lines
}

// acknowledge forgets the lines up to that one.
func (s *sender) acknowledge(line int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(max(line-s.done, 0), len(s.ahead))
	s.done += n
	s.ahead = append(s.ahead[:0:0], s.ahead[n:]...)
	s.changed.Broadcast()
}

// reject keeps a line that was refused.
func (s *sender) reject(line int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := line - s.done - 1
	if at < 0 || at >= len(s.ahead) {
		return fmt.Errorf("hubgate refused line %d, which it was not sent", line)
	}
	_, err := s.rejects.Write(s.ahead[at])
	return err
}

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

// meter tells people on a terminal how far something is.
type meter struct {
	std      streams
	on       bool
	terminal bool
	what     string
	next     time.Time
	shown    bool
}

// meterEvery is how often it tells.
const meterEvery = time.Second

func newMeter(std streams, always bool, what string) *meter {
	terminal := isTerminal(std.err)
	return &meter{std: std, on: terminal || always, terminal: terminal, what: what, next: time.Now().Add(meterEvery)}
}

func (f *importFlags) meter(what string) *meter { return newMeter(f.std, f.progress, what) }

func (m *meter) at(n int, more func() string) {
	if now := time.Now(); !m.on || now.Before(m.next) {
		return
	}
	m.next = time.Now().Add(meterEvery)
	text := fmt.Sprintf("%d %s", n, m.what)
	if more := more(); more != "" {
		text += ": " + more
	}
	if !m.terminal {
		_ = say(m.std.err, "%s\n", text)
		return
	}
	_ = say(m.std.err, "\r\x1b[K%s", text)
	m.shown = true
}

// clear takes the line away, for others to write.
func (m *meter) clear() {
	if m.shown {
		_ = say(m.std.err, "\r\x1b[K")
		m.shown = false
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
