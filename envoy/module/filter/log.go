package filter

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
)

// NewLog is a logger whose records become lines of Envoy's log, which adds
// time and level itself.
func NewLog(write func(level slog.Level, line string)) *slog.Logger {
	return slog.New(&handler{write: write})
}

type handler struct {
	write func(slog.Level, string)
	attrs []slog.Attr
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{write: h.write, attrs: append(slices.Clip(h.attrs), attrs...)}
}

// WithGroup is not used here.
func (h *handler) WithGroup(string) slog.Handler { return h }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var line bytes.Buffer
	line.WriteString("hubgate: ")
	text := slog.NewTextHandler(&line, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}})
	err := text.WithAttrs(h.attrs).Handle(ctx, r)
	h.write(r.Level, string(bytes.TrimSpace(line.Bytes())))
	return err
}
