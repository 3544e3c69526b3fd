package admin

import (
	"cmp"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// Device is a device as the API shows it. Keys and issuers are SHA-256 hashes
// of public keys (SPKI).
type Device struct {
	ID             string `json:"id"`
	HubID          string `json:"hub_id"`
	Name           string `json:"name"`
	Description    string `json:"description"`
	Status         string `json:"status" enum:"enabled,disabled"`
	Enabled        bool   `json:"enabled"`
	DisabledReason string `json:"disabled_reason,omitempty"`
	// AllowInsecure lets the device connect without TLS, by its secret: that is
	// nobody while HasSecret is false.
	AllowInsecure            bool     `json:"allow_insecure"`
	HasSecret                bool     `json:"has_secret"`
	AllowMultipleConnections bool     `json:"allow_multiple_connections"`
	MessageFilters           *Filters `json:"message_filters"`
	ProvisionedFrom          string   `json:"provisioned_from,omitempty"`
	// These four are "" until the first connection of a device that was created
	// by hand.
	FirstKey   string `json:"first_key_sha256"`
	CurrentKey string `json:"current_key_sha256"`
	Anchor     string `json:"trust_anchor_key_sha256"`
	Issuer     string `json:"issuer_key_sha256"`
	// PendingKey is the last key that waits for an operator's approval.
	PendingKey string `json:"pending_key_sha256,omitempty"`
	// CustomCertificate is the one certificate, by its key, that lets the device
	// in, if an operator gave it one.
	CustomCertificate *CustomCertificate `json:"custom_certificate,omitempty"`
	// IsConnected tells whether a connection is open; LastActivityAt, to a
	// minute, when bytes were last seen on one that is.
	IsConnected    bool       `json:"is_connected"`
	LastActivityAt *time.Time `json:"last_activity_at,omitempty"`
	Version        uint64     `json:"version"`
	CreatedAt      time.Time  `json:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at"`
}

// NewDevice is a device to create before it ever connects: its first accepted
// connection gives it its key and trust anchor.
type NewDevice struct {
	Name                     string   `json:"name"`
	Description              string   `json:"description,omitempty"`
	Enabled                  *bool    `json:"enabled,omitempty"` // true if it is not given
	DisabledReason           string   `json:"disabled_reason,omitempty"`
	AllowInsecure            bool     `json:"allow_insecure,omitempty"`
	AllowMultipleConnections bool     `json:"allow_multiple_connections,omitempty"`
	MessageFilters           *Filters `json:"message_filters,omitempty" openapi:"nullable"`
}

// DeviceChange is an edit of a device: what is not given stays.
type DeviceChange struct {
	Description              *string `json:"description,omitempty"`
	Enabled                  *bool   `json:"enabled,omitempty"`
	DisabledReason           *string `json:"disabled_reason,omitempty"`
	AllowInsecure            *bool   `json:"allow_insecure,omitempty"`
	AllowMultipleConnections *bool   `json:"allow_multiple_connections,omitempty"`
	// MessageFilters are replaced as a whole; null removes them.
	MessageFilters *Filters `json:"message_filters,omitempty" openapi:"nullable"`
}

// DeviceSecret is what a device connects with where there is no TLS: user name
// and password of MQTT, or of HTTP's basic authentication.
type DeviceSecret struct {
	DeviceID string `json:"device_id"`
	UserName string `json:"user_name"`
	// Secret is told this once.
	Secret string `json:"secret"`
	// AllowInsecure is the device's: while it is false, the secret opens nothing.
	AllowInsecure bool `json:"allow_insecure"`
}

// NewCustomCertificate is a certificate to give a device.
type NewCustomCertificate struct {
	Certificate string `json:"certificate"` // PEM
}

// CustomCertificate is a device's custom certificate.
type CustomCertificate struct {
	Key         string    `json:"key_sha256"`
	NotAfter    time.Time `json:"not_after"`
	Certificate string    `json:"certificate"` // PEM
}

// Ban says why a device is disabled.
type Ban struct {
	Reason string `json:"reason,omitempty"`
}

// Approval is a key that a device may come with.
type Approval struct {
	Key string `json:"key_sha256"`
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

func showDevice(d fleet.Device) Device {
	shown := Device{
		ID: d.ID.String(), HubID: d.Hub.String(), Name: d.Name, Description: d.Description,
		Status: "enabled", Enabled: !d.Disabled, DisabledReason: d.DisabledReason,
		AllowInsecure: d.AllowInsecure, HasSecret: !d.Secret.IsZero(), AllowMultipleConnections: d.AllowMultipleConnections,
		IsConnected: d.Connected, LastActivityAt: timeOf(d.LastActivity),
		Version: d.Version, CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
	}
	if d.Disabled {
		shown.Status = "disabled"
	}
	if d.Bound() {
		shown.FirstKey, shown.CurrentKey = d.FirstKey.String(), d.CurrentKey.String()
		shown.Anchor, shown.Issuer = d.Anchor.String(), d.Issuer.String()
	}
	if d.PendingKey != (trust.KeyHash{}) {
		shown.PendingKey = d.PendingKey.String()
	}
	if c := d.Custom; c != nil {
		shown.CustomCertificate = &CustomCertificate{c.Key.String(), c.Expires.UTC(), pemOf(c.DER)}
	}
	if d.ProvisionedFrom.IsValid() {
		shown.ProvisionedFrom = d.ProvisionedFrom.String()
	}
	if f := d.Filters; f != nil {
		shown.MessageFilters = &Filters{showFilter(f.Publish), showFilter(f.Subscribe)}
	}
	return shown
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// aDevice shows what an act on a device returned.
func aDevice(d fleet.Device, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return showDevice(d), nil
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
				{name: "enabled", text: "Only devices that are, or are not. A page of a narrowed list may be short and not be the last.", values: trueOrFalse},
				{name: "connected", text: "Only devices that have a connection, or have none.", values: trueOrFalse},
				{name: "name_prefix", text: "Only devices whose names begin with it."},
				{name: "anchor", text: "Only devices last admitted by the CA of that key (SHA-256, hexadecimal)."},
			},
		},
		{
			method: "POST", path: all, id: "createDevice", summary: "Create a device before it connects",
			role: access.Operator, body: NewDevice{Name: exampleDevice.Name}, answer: exampleDevice, status: http.StatusCreated, serve: s.createDevice,
		},
		{
			method: "GET", path: one, id: "getDevice", summary: "Show a device",
			role: access.Viewer, answer: exampleDevice, serve: s.getDevice,
		},
		{
			method: "PATCH", path: one, id: "updateDevice", summary: "Change a device",
			role: access.Operator, body: DeviceChange{Description: &exampleDevice.Description}, answer: exampleDevice, serve: s.updateDevice,
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
		{
			method: "POST", path: one + "/approve", id: "approveKey", summary: "Let a device in with another key",
			role: access.Operator, body: Approval{Key: exampleKey}, answer: exampleDevice, serve: s.approveKey,
		},
		{
			method: "POST", path: one + "/secret", id: "createDeviceSecret",
			summary: "Give a device a new secret for connections without TLS, and end those that it has",
			role:    access.Operator, answer: exampleSecret, status: http.StatusCreated, serve: s.createSecret,
		},
		{
			method: "DELETE", path: one + "/secret", id: "removeDeviceSecret", summary: "Take a device's secret, and end its connections",
			role: access.Operator, serve: s.removeSecret,
		},
		{
			method: "PUT", path: one + "/certificate", id: "setDeviceCertificate",
			summary: "Let a device in with this certificate and no other, and end its connections",
			role:    access.Operator, body: NewCustomCertificate{examplePEM}, answer: exampleDevice, serve: s.setCustomCertificate,
		},
		{
			method: "DELETE", path: one + "/certificate", id: "removeDeviceCertificate",
			summary: "Take a device's custom certificate, and end its connections",
			role:    access.Operator, serve: s.removeCustomCertificate,
		},
	}
}

func (s *Server) listDevices(r *http.Request) (any, error) {
	query := r.URL.Query()
	limit, err := pageSize(query.Get("limit"))
	if err != nil {
		return nil, err
	}
	sort := cmp.Or(query.Get("sort"), "name")
	cursor, err := openCursor(sort, query.Get("cursor"))
	if err != nil {
		return nil, err
	}
	q := fleet.DeviceQuery{
		Order: orders[sort], Cursor: cursor, Limit: limit, NamePrefix: query.Get("name_prefix"),
		Enabled: truth(query.Get("enabled")), Connected: truth(query.Get("connected")),
	}
	if text := query.Get("anchor"); text != "" {
		anchor, err := trust.ParseKeyHash(text)
		if err != nil {
			return nil, invalid("anchor: %s", err)
		}
		q.Anchor = &anchor
	}
	devices, next, err := s.fleet.Devices(r.Context(), caller(r), r.PathValue("hub"), q)
	if err != nil {
		return nil, err
	}
	list := Devices{Devices: make([]Device, len(devices)), Next: sealCursor(sort, next)}
	for i, d := range devices {
		list.Devices[i] = showDevice(d)
	}
	return list, nil
}

// truth reads a parameter that the table of routes has checked, nil if it is
// not given.
func truth(text string) *bool {
	if text == "" {
		return nil
	}
	is := text == "true"
	return &is
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
	return aDevice(s.fleet.Device(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device")))
}

func (s *Server) createDevice(r *http.Request) (any, error) {
	var body NewDevice
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	filters, err := readFilters(body.MessageFilters)
	if err != nil {
		return nil, err
	}
	return aDevice(s.fleet.CreateDevice(r.Context(), caller(r), r.PathValue("hub"), fleet.DeviceSpec{
		Name: body.Name, Description: body.Description, Disabled: body.Enabled != nil && !*body.Enabled, DisabledReason: body.DisabledReason,
		AllowInsecure: body.AllowInsecure, AllowMultipleConnections: body.AllowMultipleConnections, Filters: filters,
	}))
}

func (s *Server) updateDevice(r *http.Request) (any, error) {
	var body DeviceChange
	nulls, err := decodeChange(r, &body, "message_filters")
	if err != nil {
		return nil, err
	}
	change := fleet.DeviceChange{
		Description: body.Description, Enabled: body.Enabled, DisabledReason: body.DisabledReason,
		AllowInsecure: body.AllowInsecure, AllowMultipleConnections: body.AllowMultipleConnections,
	}
	if body.MessageFilters != nil || len(nulls) > 0 {
		filters, err := readFilters(body.MessageFilters)
		if err != nil {
			return nil, err
		}
		change.Filters = &filters
	}
	return s.change(r, change)
}

func (s *Server) change(r *http.Request, c fleet.DeviceChange) (any, error) {
	return aDevice(s.fleet.UpdateDevice(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device"), c))
}

func (s *Server) enableDevice(r *http.Request) (any, error) {
	enabled := true
	return s.change(r, fleet.DeviceChange{Enabled: &enabled})
}

// disableDevice has a body only if there is a reason to give.
func (s *Server) disableDevice(r *http.Request) (any, error) {
	var ban Ban
	if r.ContentLength != 0 {
		if err := decode(r, &ban); err != nil {
			return nil, err
		}
	}
	enabled := false
	change := fleet.DeviceChange{Enabled: &enabled}
	if ban.Reason != "" {
		change.DisabledReason = &ban.Reason
	}
	return s.change(r, change)
}

func (s *Server) approveKey(r *http.Request) (any, error) {
	var body Approval
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	key, err := trust.ParseKeyHash(body.Key)
	if err != nil {
		return nil, invalid("key_sha256: %s", err)
	}
	return aDevice(s.fleet.ApproveKey(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device"), key))
}

func (s *Server) deleteDevice(r *http.Request) (any, error) {
	return nil, s.fleet.DeleteDevice(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device"))
}

func (s *Server) createSecret(r *http.Request) (any, error) {
	h, d, secret, err := s.fleet.CreateSecret(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device"))
	if err != nil {
		return nil, err
	}
	return DeviceSecret{DeviceID: d.ID.String(), UserName: h.Name + "/" + d.Name, Secret: secret, AllowInsecure: d.AllowInsecure}, nil
}

func (s *Server) removeSecret(r *http.Request) (any, error) {
	return nil, s.fleet.RemoveSecret(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device"))
}

func (s *Server) setCustomCertificate(r *http.Request) (any, error) {
	var body NewCustomCertificate
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	return aDevice(s.fleet.SetCustomCertificate(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device"), body.Certificate))
}

func (s *Server) removeCustomCertificate(r *http.Request) (any, error) {
	return nil, s.fleet.RemoveCustomCertificate(r.Context(), caller(r), r.PathValue("hub"), r.PathValue("device"))
}
