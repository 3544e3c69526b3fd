package admin

import (
	"net/http"

	"github.com/hubgate/hubgate/admin/access"
)

func (s *Server) backupRoutes() []route {
	return []route{{
		method: "POST", path: "/v1/store/backup", id: "backup", summary: "Get a consistent copy of the embedded store",
		role: access.Admin, everywhere: true, stream: s.streamBackup, answerType: "application/octet-stream",
	}}
}

// streamBackup sends a consistent copy of the store. A copy that could not be
// finished ends without the end of the response, so that no caller takes it for
// whole.
func (s *Server) streamBackup(w http.ResponseWriter, r *http.Request) {
	if s.backup == nil {
		s.fail(w, r, &requestError{http.StatusNotImplemented, "not_supported",
			"this store is Redis, which makes its own backups (BGSAVE, or its append-only file): hubgate has none to give"})
		return
	}
	ctx := r.Context()
	body, err := openStream(w)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	switch written, err := s.backup.Backup(ctx, body); {
	case err == nil:
		s.log.InfoContext(ctx, "backup made", "bytes", written)
	case written == 0:
		s.fail(w, r, err)
	default:
		if ctx.Err() == nil {
			s.log.ErrorContext(ctx, "backup cut short", "bytes", written, "error", err)
		}
		panic(http.ErrAbortHandler) // net/http's own way to say: this response is broken
	}
}
