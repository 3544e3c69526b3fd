package fleet

import (
	"context"
	"errors"
	"log/slog"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// errUnchanged ends an edit that has nothing to do: no event tells of it.
var errUnchanged = errors.New("unchanged")

// act is one act of an administrator, for the log.
type act struct {
	fleet  *Fleet
	who    access.Principal
	what   provision.Act
	object []slog.Attr
}

// onHub and onDevice say what the act is on, as soon as that is known.
func (a *act) onHub(h provision.Hub) {
	a.object = []slog.Attr{slog.String("hub", h.Name), slog.String("hub_id", h.ID.String())}
}

func (a *act) onDevice(d provision.Device) {
	a.object = append(a.object, slog.String("device", d.Name), slog.String("device_id", d.ID.String()))
}

// on names an object that is neither.
func (a *act) on(key, value string) { a.object = append(a.object, slog.String(key, value)) }

// end writes the act's line: who, what, on what, and what became of it. An act
// that changed nothing has none.
func (a *act) end(ctx context.Context, err *error) {
	level, outcome := slog.LevelInfo, "done"
	var refusal *Refusal
	switch {
	case *err == nil:
	case errors.Is(*err, errUnchanged):
		*err = nil
		return
	case errors.Is(*err, access.ErrDenied):
		level, outcome = slog.LevelWarn, "denied"
	case errors.As(*err, &refusal), errors.Is(*err, provision.ErrNotFound), errors.Is(*err, provision.ErrExists):
		outcome = "refused"
	default:
		level, outcome = slog.LevelWarn, "failed"
	}
	attrs := []slog.Attr{
		slog.String("act", string(a.what)), slog.String("by", a.who.Name), slog.String("role", a.who.Role.String()),
	}
	if a.who.TokenID != "" {
		attrs = append(attrs, slog.String("token_id", a.who.TokenID))
	}
	attrs = append(append(attrs, a.object...), slog.String("outcome", outcome))
	if *err != nil {
		attrs = append(attrs, slog.String("error", (*err).Error()))
	}
	a.fleet.log.LogAttrs(ctx, level, "administrator's act", attrs...)
}

func (f *Fleet) act(p access.Principal, what provision.Act) *act {
	return &act{fleet: f, who: p, what: what}
}
