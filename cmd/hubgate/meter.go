package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

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
