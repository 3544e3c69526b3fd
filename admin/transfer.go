package admin

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
)

const (
	// MaxRecordLine bounds a line of an import, in bytes.
	MaxRecordLine = 64 << 10
	// importBatch is how many lines are stored, and acknowledged, at once.
	importBatch = 256
	// maxTransfers bounds the imports at work at once, and the exports, of each
	// principal to a quarter.
	maxTransfers = 8
	ndjson       = "application/x-ndjson"
)

// ImportResult is a line of the answer to an import: lines up to Through are
// done, with these counts so far; or Line was refused, with the error; or the
// import ended, done or with the error.
type ImportResult struct {
	Line    int                 `json:"line,omitempty"`
	Through int                 `json:"through,omitempty"`
	Counts  *fleet.ImportCounts `json:"counts,omitempty"`
	Done    bool                `json:"done,omitempty"`
	Error   string              `json:"error,omitempty"`
	Message string              `json:"message,omitempty"`
}

// ExportCursor is the line behind each page of an export that was asked for
// cursors: from there an export that broke goes on.
type ExportCursor struct {
	Next string `json:"next"`
}

func (s *Server) transferRoutes() []route {
	return []route{
		{
			method: "POST", path: "/v1/hubs/{hub}/devices/import", id: "importDevices",
			summary: "Create and edit devices, one on each line; the answer tells of each line that was refused, and how far all are done",
			role:    access.Operator, stream: s.importDevices, bodyType: ndjson, body: exampleImport, answerType: ndjson, answer: exampleImported,
			query: []parameter{{name: "enable", text: "Whether a line may enable a device that is disabled here; false if it is not given.", values: trueOrFalse}},
		},
		{
			method: "GET", path: "/v1/hubs/{hub}/devices/export", id: "exportDevices",
			summary: "Get all devices, one on each line, in the order of their creation",
			role:    access.Viewer, stream: s.exportDevices, answerType: ndjson, answer: exampleExport,
			query: []parameter{
				{name: "disabled", text: "true: only disabled devices, with no more than it takes to ban them elsewhere.", values: trueOrFalse},
				{name: "cursors", text: "true: a line {\"next\": cursor} after each page.", values: trueOrFalse},
				{name: "cursor", text: "Where to go on: a cursor of an export that broke."},
			},
		},
	}
}

// importDevices creates and edits devices.
func (s *Server) importDevices(w http.ResponseWriter, r *http.Request) {
	if mediaType(r) != ndjson {
		s.fail(w, r, &requestError{http.StatusUnsupportedMediaType, "unsupported_media_type", "send " + ndjson + ": a device on each line"})
		return
	}
	free, err := s.imports.Take(caller(r))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer free()
	p, _ := access.From(r.Context())
	work, err := s.fleet.ImportDevices(r.Context(), p, r.PathValue("hub"), r.URL.Query().Get("enable") == "true")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	(&importer[fleet.Record]{
		server: s, work: work, counts: &work.Counts,
		parse: func(line []byte) (fleet.Record, error) { return readRecord(work.Hub(), line) },
	}).serve(w, r)
}

func mediaType(r *http.Request) string {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(kind)
}

// importer is an import at work, of one R on each line.
type importer[R any] struct {
	server *Server
	work   interface {
		Hub() provision.Hub
		Put(ctx context.Context, records []R) ([]provision.PutResult, error)
		End(ctx context.Context, err error) error
	}
	counts *fleet.ImportCounts // work's
	parse  func(line []byte) (R, error)

	body    io.Reader
	control *http.ResponseController
	out     stream
	json    *json.Encoder
	line    int // the last one read
	through int // the last one done

	// what the next flush stores and tells
	records []R
	lines   []int // of records
	refused []ImportResult
}

// serve reads lines and answers while it does.
func (i *importer[R]) serve(w http.ResponseWriter, r *http.Request) {
	i.body, i.control = r.Body, http.NewResponseController(w)
	if err := i.open(w); err != nil {
		i.server.fail(w, r, i.work.End(r.Context(), err))
		return
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-i.server.draining: // ends the read that waits
			_ = i.control.SetReadDeadline(time.Unix(1, 0))
		case <-stop:
		}
	}()
	err := i.run(r.Context())
	// What was done is told, whoever is still there to hear it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTimeout)
	defer cancel()
	i.end(ctx, r, i.work.End(ctx, err))
}

func (i *importer[R]) open(w http.ResponseWriter) (err error) {
	// Answers come while lines are still read.
	if err := i.control.EnableFullDuplex(); err != nil {
		return fmt.Errorf("full duplex: %w", err)
	}
	if i.out, err = openStream(w); err != nil {
		return err
	}
	i.json = json.NewEncoder(i.out)
	i.json.SetEscapeHTML(false)
	w.Header().Set("Content-Type", ndjson)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return i.control.Flush()
}

// Read gives whoever sends the lines its time for each piece.
func (i *importer[R]) Read(p []byte) (int, error) {
	select {
	case <-i.server.draining:
		return 0, errDraining
	default:
	}
	if err := i.control.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return i.body.Read(p)
}

var errDraining = errors.New("hubgate is stopping")

func (i *importer[R]) run(ctx context.Context) error {
	lines := bufio.NewReaderSize(i, MaxRecordLine)
	for {
		line, err := readLine(lines)
		if err != nil && !errors.Is(err, errLongLine) {
			// A line without an end counts if it is the last; not if the rest was lost.
			end := errors.Is(err, io.EOF)
			if end && len(line) > 0 {
				i.line++
				i.take(line)
			}
			if flushed := i.flush(ctx); flushed != nil || end {
				return flushed
			}
			return err
		}
		i.line++
		if err != nil {
			i.refuse(i.line, invalid("the line is longer than %d bytes", MaxRecordLine))
		} else {
			i.take(line)
		}
		if len(i.records) == importBatch || i.line-i.through >= 4*importBatch {
			if err := i.flush(ctx); err != nil {
				return err
			}
		}
	}
}

var errLongLine = errors.New("long line")

// readLine reads a line without its end, skipping one that is too long. A line
// with the error io.EOF has no end.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return bytes.TrimSpace(line), err
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return nil, errLongLine
}

// take keeps a line's record for the next batch.
func (i *importer[R]) take(line []byte) {
	if len(line) == 0 {
		return
	}
	record, err := i.parse(line)
	if err != nil {
		i.refuse(i.line, err)
		return
	}
	i.records, i.lines = append(i.records, record), append(i.lines, i.line)
}

// refuse remembers a line that is at fault itself.
func (i *importer[R]) refuse(line int, err error) {
	i.counts.Refused++
	i.tell(line, err)
}

func (i *importer[R]) tell(line int, err error) {
	_, code, text := failure(err)
	i.refused = append(i.refused, ImportResult{Line: line, Error: code, Message: text})
}

// flush stores the batch, tells of what was refused, line by line, and
// acknowledges all lines so far.
func (i *importer[R]) flush(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	results, err := i.work.Put(limited, i.records)
	if err != nil {
		return err
	}
	for n, r := range results {
		if r.Outcome == provision.PutRefused {
			i.tell(i.lines[n], r.Err)
		}
	}
	slices.SortFunc(i.refused, func(a, b ImportResult) int { return cmp.Compare(a.Line, b.Line) })
	for _, r := range i.refused {
		if err := i.json.Encode(r); err != nil {
			return err
		}
	}
	i.records, i.lines, i.refused, i.through = i.records[:0], i.lines[:0], i.refused[:0], i.line
	counts := *i.counts
	if err := i.json.Encode(ImportResult{Through: i.through, Counts: &counts}); err != nil {
		return err
	}
	return i.control.Flush()
}

// end says how it ended.
func (i *importer[R]) end(ctx context.Context, r *http.Request, err error) {
	counts := *i.counts
	last := ImportResult{Through: i.through, Counts: &counts, Done: err == nil}
	if err != nil {
		var status int
		status, last.Error, last.Message = failure(err)
		switch {
		case isClosed(i.server.draining):
			_, last.Error, last.Message = failure(errDraining)
		case status >= http.StatusInternalServerError && r.Context().Err() == nil:
			i.server.log.ErrorContext(ctx, "import cut short", "hub_id", i.work.Hub().ID.String(), "line", i.through, "error", err)
		}
	}
	_ = i.json.Encode(last) // nobody may be there to hear it
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// exportDevices sends a device on each line. An export that could not be
// finished ends without the end of the response, so that no caller takes it for
// whole.
func (s *Server) exportDevices(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	cursor, err := openCursor("export", query.Get("cursor"))
	if err != nil {
		s.fail(w, r, invalid("cursor: %q is none of an export", query.Get("cursor")))
		return
	}
	free, err := s.exports.Take(caller(r))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer free()
	out, err := openStream(w)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	buffered := bufio.NewWriterSize(out, 64<<10)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	begun := false
	bans, cursors := query.Get("disabled") == "true", query.Get("cursors") == "true"
	p, _ := access.From(r.Context())
	err = s.fleet.ExportDevices(r.Context(), p, r.PathValue("hub"), cursor, func(page []provision.Device, next string) error {
		if isClosed(s.draining) {
			return errDraining
		}
		if !begun {
			begun = true
			w.Header().Set("Content-Type", ndjson)
			w.Header().Set("Cache-Control", "no-store")
		}
		for _, d := range page {
			if bans && !d.Disabled {
				continue
			}
			if err := lines.Encode(recordOf(d, bans)); err != nil {
				return err
			}
		}
		if cursors && next != "" {
			if err := lines.Encode(ExportCursor{sealCursor("export", next)}); err != nil {
				return err
			}
		}
		return buffered.Flush()
	})
	switch {
	case err == nil:
	case !begun:
		s.fail(w, r, err)
	default:
		if r.Context().Err() == nil && !errors.Is(err, errDraining) {
			s.log.ErrorContext(r.Context(), "export cut short", "hub", r.PathValue("hub"), "error", err)
		}
		panic(http.ErrAbortHandler) // net/http's own way to say: this response is broken
	}
}
