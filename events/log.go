package events

import (
	"context"
	"log/slog"

	"github.com/hubgate/hubgate/provision"
)

// LogConfig is what a log sink is made of.
type LogConfig struct {
	// Severity is the least that is logged: "" or info for all, error.
	Severity provision.Severity
	// Logger nil: slog.Default.
	Logger *slog.Logger
}

// Log is a sink that writes a line per event.
type Log struct{ config LogConfig }

// NewLog makes a log sink.
func NewLog(c LogConfig) *Log {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Log{c}
}

// Name implements Sink.
func (l *Log) Name() string { return "log" }

// Wants implements Sink.
func (l *Log) Wants(e provision.Event) bool { return meets(l.config.Severity, e) }

// Deliver implements Sink.
func (l *Log) Deliver(ctx context.Context, events []provision.Event) (int, error) {
	for _, e := range events {
		l.config.Logger.LogAttrs(ctx, slog.LevelInfo, "hub event",
			slog.String("id", e.ID), slog.Time("event_time", e.Time), slog.String("severity", string(e.Severity)),
			slog.String("object_type", string(e.ObjectType)), slog.String("object_id", e.ObjectID), slog.String("object_name", e.ObjectName),
			slog.String("hub_id", e.Hub.String()), slog.String("reason", e.Reason), slog.String("text", e.Message),
			slog.String("source_address", e.SourceAddress), slog.String("decision_id", e.Decision), slog.Int("count", e.Count))
	}
	return len(events), nil
}

// Close implements Sink.
func (l *Log) Close() error { return nil }
