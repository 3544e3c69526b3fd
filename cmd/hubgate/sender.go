package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hubgate/hubgate/admin"
)

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
