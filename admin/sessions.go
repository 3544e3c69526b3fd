package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

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
	Source     string `json:"source,omitempty"`
	// Node is the Envoy, Connection its number of the connection.
	Node       string `json:"node"`
	Connection uint64 `json:"connection"`
	// Confirmed is false for the first seconds, until the Envoy says that the
	// connection is open.
	Confirmed bool `json:"confirmed"`
	// CanBeEnded is false where the Envoy has not hubgate's library.
	CanBeEnded     bool      `json:"can_be_ended"`
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
		ID: s.ID, HubID: s.Hub.String(), HubName: hub.Name, DeviceID: s.Device.String(), DeviceName: s.DeviceName, Protocol: string(s.Protocol),
		Node: s.Envoy.Node, Connection: s.Connection, Confirmed: s.Confirmed, CanBeEnded: s.Envoy.HasLibrary(),
		Since: s.Since.UTC(), LastActivityAt: s.LastActivity.UTC(),
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
	hubs := s.gate.Hubs()
	scope := "sessions"
	if name := query.Get("hub"); name != "" {
		h, ok := s.gate.Hub(name)
		if !ok {
			return nil, s.noHub(name)
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
	h, err := s.hub(r)
	if err != nil {
		return nil, err
	}
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	sessions, err := s.store.DeviceSessions(r.Context(), d.Hub, d.ID)
	if err != nil {
		return nil, fmt.Errorf("sessions of device %q: %w", d.Name, err)
	}
	now := s.now()
	before := now
	for _, session := range sessions {
		// Another host's clock, which may be ahead, said when it began.
		if !session.Since.Before(before) {
			before = session.Since.Add(time.Nanosecond)
		}
	}
	changed, err := s.store.UpdateDevice(r.Context(), provision.Update{
		Hub: d.Hub, Device: d.ID,
		Change: func(d *provision.Device) error {
			if before.After(d.SessionsEndBefore) {
				d.SessionsEndBefore = before
			}
			d.UpdatedAt = now
			return nil
		},
		Event: func(d provision.Device) provision.Event { return provision.Disconnected.OnDevice(d, now) },
	})
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", d.Name, err)
	}
	s.acted(r, provision.Disconnected, changed)
	return Sessions{Sessions: showSessions(h, sessions)}, nil
}

// lookers bounds the look-ups of sessions for one list of devices.
const lookers = 16

// show shows devices with what is known of their connections.
func (s *Server) show(ctx context.Context, devices ...provision.Device) ([]Device, error) {
	shown := make([]Device, len(devices))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookers)
	for i, d := range devices {
		group.Go(func() error {
			shown[i] = showDevice(d)
			sessions, err := s.store.DeviceSessions(ctx, d.Hub, d.ID)
			if err != nil {
				return fmt.Errorf("sessions of device %q: %w", d.Name, err)
			}
			for _, session := range sessions {
				if !session.Confirmed {
					continue
				}
				shown[i].IsConnected = true
				if at := session.LastActivity.UTC(); shown[i].LastActivityAt == nil || at.After(*shown[i].LastActivityAt) {
					shown[i].LastActivityAt = &at
				}
			}
			return nil
		})
	}
	return shown, group.Wait()
}

// showOne is show for one device.
func (s *Server) showOne(ctx context.Context, d provision.Device) (any, error) {
	shown, err := s.show(ctx, d)
	if err != nil {
		return nil, err
	}
	return shown[0], nil
}
