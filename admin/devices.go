package admin

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// Device is a device as the API shows it. Keys and issuers are SHA-256 hashes
// of public keys (SPKI).
type Device struct {
	ID                       string   `json:"id"`
	HubID                    string   `json:"hub_id"`
	Name                     string   `json:"name"`
	Description              string   `json:"description"`
	Enabled                  bool     `json:"enabled"`
	AllowInsecure            bool     `json:"allow_insecure"`
	AllowMultipleConnections bool     `json:"allow_multiple_connections"`
	MessageFilters           *Filters `json:"message_filters"`
	ProvisionedFrom          string   `json:"provisioned_from,omitempty"`
	FirstKey                 string   `json:"first_key_sha256"`
	CurrentKey               string   `json:"current_key_sha256"`
	Anchor                   string   `json:"trust_anchor_key_sha256"`
	Issuer                   string   `json:"issuer_key_sha256"`
	// IsConnected tells whether a connection is open; LastActivityAt, to a
	// minute, when bytes were last seen on one that is.
	IsConnected    bool       `json:"is_connected"`
	LastActivityAt *time.Time `json:"last_activity_at,omitempty"`
	Version        uint64     `json:"version"`
	CreatedAt      time.Time  `json:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at"`
}

// Filters are a device's message filters; a device without has none.
type Filters struct {
	Publish   Filter `json:"publish"`
	Subscribe Filter `json:"subscribe"`
}

// Filter accepts or rejects topics.
type Filter struct {
	Policy string   `json:"policy"` // accept or reject
	Topics []string `json:"topics"`
}

// Devices is a page of a list.
type Devices struct {
	Devices []Device `json:"devices"`
	// Next is the cursor of the next page, "" at the end.
	Next string `json:"next,omitempty"`
}

func showDevice(d provision.Device) Device {
	shown := Device{
		ID: d.ID.String(), HubID: d.Hub.String(), Name: d.Name, Description: d.Description, Enabled: !d.Disabled,
		AllowInsecure: d.AllowInsecure, AllowMultipleConnections: d.AllowMultipleConnections,
		FirstKey: d.FirstKey.String(), CurrentKey: d.CurrentKey.String(),
		Anchor: d.Anchor.String(), Issuer: d.Issuer.String(),
		Version: d.Version, CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
	}
	if d.ProvisionedFrom.IsValid() {
		shown.ProvisionedFrom = d.ProvisionedFrom.String()
	}
	if f := d.Filters; f != nil {
		shown.MessageFilters = &Filters{showFilter(f.Publish), showFilter(f.Subscribe)}
	}
	return shown
}

func showFilter(f provision.Filter) Filter {
	policy := "accept"
	if f.Reject {
		policy = "reject"
	}
	return Filter{policy, f.Topics}
}

func (s *Server) deviceRoutes() []route {
	const all = "/v1/hubs/{hub}/devices"
	const one = all + "/{device}"
	return []route{
		{
			method: "GET", path: all, id: "listDevices", summary: "List a hub's devices",
			role: access.Viewer, answer: Devices{Devices: []Device{exampleDevice}}, serve: s.listDevices,
			query: []parameter{
				cursorParameter, limitParameter,
				{name: "sort", text: "The order; name if it is not given.", values: []string{"name", "created"}},
			},
		},
		{
			method: "GET", path: one, id: "getDevice", summary: "Show a device",
			role: access.Viewer, answer: exampleDevice, serve: s.getDevice,
		},
		{
			method: "DELETE", path: one, id: "deleteDevice", summary: "Delete a device and end its connections: it may provision itself again",
			role: access.Operator, serve: s.deleteDevice,
		},
		{
			method: "POST", path: one + "/enable", id: "enableDevice", summary: "Let a device connect",
			role: access.Operator, answer: exampleDevice, serve: s.enableDevice,
		},
		{
			method: "POST", path: one + "/disable", id: "disableDevice", summary: "Ban a device and end its connections",
			role: access.Operator, answer: exampleDevice, serve: s.disableDevice,
		},
	}
}

func (s *Server) listDevices(r *http.Request) (any, error) {
	h, err := s.hub(r)
	if err != nil {
		return nil, err
	}
	query, err := parameters(r, "cursor", "limit", "sort")
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(query.Get("limit"))
	if err != nil {
		return nil, err
	}
	sort := cmp.Or(query.Get("sort"), "name")
	order, ok := orders[sort]
	if !ok {
		return nil, invalid("sort: %q is neither name nor created", sort)
	}
	cursor, err := openCursor(sort, query.Get("cursor"))
	if err != nil {
		return nil, err
	}
	devices, next, err := s.store.Devices(r.Context(), h.ID, order, cursor, limit)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	shown, err := s.show(r.Context(), devices...)
	if err != nil {
		return nil, err
	}
	return Devices{Devices: shown, Next: sealCursor(sort, next)}, nil
}

var orders = map[string]provision.Order{"name": provision.ByName, "created": provision.ByCreation}

// sealCursor makes a store's cursor opaque, and bound to the order of its list:
// in another it would skip devices without a word.
func sealCursor(sort, cursor string) string {
	if cursor == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(sort + ":" + cursor))
}

func openCursor(sort, sealed string) (string, error) {
	if sealed == "" {
		return "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(sealed)
	cursor, ok := strings.CutPrefix(string(text), sort+":")
	if err != nil || !ok {
		return "", invalid("cursor: %q is none of a list sorted by %s", sealed, sort)
	}
	return cursor, nil
}

// parameters refuses those that are not known: a mistyped one would be ignored
// where it was meant to narrow.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query cannot be read: %v", err)
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return nil, invalid("unknown parameter %q: known are %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, invalid("parameter %s is given twice", name)
		}
	}
	return query, nil
}

func (s *Server) getDevice(r *http.Request) (any, error) {
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	return s.showOne(r.Context(), d)
}

// device finds the device that the path names by its ID or its name. An ID that
// no device has may still be a name.
func (s *Server) device(r *http.Request) (provision.Device, error) {
	h, err := s.hub(r)
	if err != nil {
		return provision.Device{}, err
	}
	key := r.PathValue("device")
	id, err := provision.ParseDeviceID(key)
	if err == nil {
		d, err := s.store.DeviceByID(r.Context(), h.ID, id)
		if !errors.Is(err, provision.ErrNotFound) {
			return d, err
		}
	}
	d, err := s.store.Device(r.Context(), h.ID, key)
	if errors.Is(err, provision.ErrNotFound) {
		return d, fmt.Errorf("device %q on hub %s %w", key, h.Name, provision.ErrNotFound)
	}
	return d, err
}

func (s *Server) enableDevice(r *http.Request) (any, error) {
	return s.setDisabled(r, false, provision.Enabled)
}

func (s *Server) disableDevice(r *http.Request) (any, error) {
	return s.setDisabled(r, true, provision.Disabled)
}

// errUnchanged ends an update that has nothing to do: no event tells of it.
var errUnchanged = errors.New("unchanged")

func (s *Server) setDisabled(r *http.Request, disabled bool, act provision.Act) (any, error) {
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	now := s.now()
	changed, err := s.store.UpdateDevice(r.Context(), provision.Update{
		Hub: d.Hub, Device: d.ID,
		Change: func(d *provision.Device) error {
			if d.Disabled == disabled {
				return errUnchanged
			}
			d.Disabled = disabled
			d.UpdatedAt = now
			return nil
		},
		Event: func(d provision.Device) provision.Event { return act.OnDevice(d, now) },
	})
	switch {
	case errors.Is(err, errUnchanged):
		return s.showOne(r.Context(), d)
	case err != nil:
		return nil, fmt.Errorf("device %q: %w", d.Name, err)
	}
	s.acted(r, act, changed)
	return s.showOne(r.Context(), changed)
}

func (s *Server) deleteDevice(r *http.Request) (any, error) {
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	now := s.now()
	err = s.store.DeleteDevice(r.Context(), d.Hub, d.ID, func(d provision.Device) provision.Event {
		return provision.Deleted.OnDevice(d, now)
	})
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", d.Name, err)
	}
	s.acted(r, provision.Deleted, d)
	return nil, nil
}

func (s *Server) acted(r *http.Request, act provision.Act, d provision.Device) {
	s.log.InfoContext(r.Context(), "administrator's act", "act", string(act),
		"device", d.Name, "device_id", d.ID.String(), "hub_id", d.Hub.String())
}
