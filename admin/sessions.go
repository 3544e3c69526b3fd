package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// Session is a live connection of a device as the API shows it.
type Session struct {
	ID         string `json:"id"`
	HubID      string `json:"hub_id"`
	HubName    string `json:"hub_name"`
	DeviceID   string `json:"device_id"`
	DeviceName string `json:"device_name"`
	Protocol   string `json:"protocol"`
	// Insecure is true of a connection without TLS.
	Insecure bool   `json:"insecure"`
	Source   string `json:"source,omitempty"`
	// Node is the Envoy, Connection its number of the connection.
	Node       string `json:"node"`
	Connection uint64 `json:"connection"`
	// Confirmed is false for the first seconds, until the Envoy says that the
	// connection is open.
	Confirmed bool `json:"confirmed"`
	// CanBeEnded is false where the Envoy has not hubgate's library.
	CanBeEnded bool `json:"can_be_ended"`
	// Unended is why it should have been ended, where that could not be.
	Unended        string    `json:"unended,omitempty"`
	Since          time.Time `json:"since"`
	LastActivityAt time.Time `json:"last_activity_at"`
}

// Sessions is a page of a list.
type Sessions struct {
	Sessions []Session `json:"sessions"`
	// Next is the cursor of the next page, "" at the end.
	Next string `json:"next,omitempty"`
}

func showSession(hub provision.Hub, s provision.Session) Session {
	shown := Session{
		ID: s.ID, HubID: s.Hub.String(), HubName: hub.Name, DeviceID: s.Device.String(), DeviceName: s.DeviceName, Protocol: string(s.Protocol), Insecure: !s.Secret.IsZero(),
		Node: s.Envoy.Node, Connection: s.Connection, Confirmed: s.Confirmed, CanBeEnded: s.Envoy.HasLibrary(),
		Unended: string(s.Unended),
		Since:   s.Since.UTC(), LastActivityAt: s.LastActivity.UTC(),
	}
	if s.Source.IsValid() {
		shown.Source = s.Source.String()
	}
	return shown
}

func showSessions(hub provision.Hub, sessions []provision.Session) []Session {
	shown := make([]Session, len(sessions))
	for i, s := range sessions {
		shown[i] = showSession(hub, s)
	}
	return shown
}

func (s *Server) sessionRoutes() []route {
	return []route{
		{
			method: "GET", path: "/v1/sessions", id: "listSessions", summary: "List live connections, hub by hub",
			role: access.Viewer, answer: Sessions{Sessions: []Session{exampleSession}}, serve: s.listSessions,
			query: []parameter{
				{name: "hub", text: "ID or name of the only hub to list; all if it is not given."},
				cursorParameter, limitParameter,
			},
		},
		{
			method: "POST", path: "/v1/hubs/{hub}/devices/{device}/end-sessions", id: "endSessions",
			summary: "End the connections that a device has now; it may connect again at once",
			role:    access.Operator, answer: Sessions{Sessions: []Session{exampleSession}}, serve: s.endSessions,
		},
	}
}

// listSessions lists the live sessions of one hub or of all, hub by hub.
func (s *Server) listSessions(r *http.Request) (any, error) {
	query, err := parameters(r, "hub", "cursor", "limit")
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(query.Get("limit"))
	if err != nil {
		return nil, err
	}
	hubs, err := s.fleet.AllHubs(caller(r))
	if err != nil {
		return nil, err
	}
	scope := "sessions"
	if name := query.Get("hub"); name != "" {
		h, err := s.fleet.Find(r.Context(), caller(r), name)
		if err != nil {
			return nil, err
		}
		hubs, scope = []provision.Hub{h}, "sessions of "+h.ID.String()
	}
	slices.SortFunc(hubs, func(a, b provision.Hub) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	position, err := openCursor(scope, query.Get("cursor"))
	if err != nil {
		return nil, invalid("cursor: %q is none of this list", query.Get("cursor"))
	}
	at, cursor, _ := strings.Cut(position, "/")

	page := Sessions{Sessions: []Session{}}
	for _, h := range hubs {
		if h.ID.String() < at {
			continue
		}
		if h.ID.String() != at {
			cursor = ""
		}
		for more := true; more; more = cursor != "" {
			if len(page.Sessions) == limit {
				page.Next = sealCursor(scope, h.ID.String()+"/"+cursor)
				return page, nil
			}
			var sessions []provision.Session
			sessions, cursor, err = s.store.HubSessions(r.Context(), h.ID, cursor, limit-len(page.Sessions))
			if err != nil {
				return nil, fmt.Errorf("list sessions: %w", err)
			}
			page.Sessions = append(page.Sessions, showSessions(h, sessions)...)
		}
	}
	return page, nil
}

// pageSize reads a list's limit.
func pageSize(text string) (int, error) {
	if text == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, invalid("limit: %q is no number from 1 to %d", text, maxPage)
	}
	return limit, nil
}

// endSessions ends the sessions that a device has now; it may connect again at
// once. What it answers are those sessions.
func (s *Server) endSessions(r *http.Request) (any, error) {
	h, sessions, err := s.fleet.EndSessions(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device"))
	if err != nil {
		return nil, err
	}
	return Sessions{Sessions: showSessions(h, sessions)}, nil
}
