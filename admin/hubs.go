package admin

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
)

// Hub is a hub as the API shows it.
type Hub struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// ProjectID is the project that the hub belongs to; it may be none.
	ProjectID string `json:"project_id,omitempty" format:"uuid"`
	// DeclaredIn is the file that declares the hub; only there can it be
	// changed. Empty for a stored hub.
	DeclaredIn string `json:"declared_in,omitempty"`
	// Status is deleting while a deleted hub's devices are being removed.
	Status  string `json:"status" enum:"ready,disabled,deleting"`
	Enabled bool   `json:"enabled"`
	// AutoProvisioning lets devices that nobody knows yet create themselves.
	AutoProvisioning bool `json:"auto_provisioning"`
	// HasOwnCA says whether the hub has a trust anchor.
	HasOwnCA bool `json:"has_own_ca"`
	// SNIOnly keeps the hub from being found by who issued a certificate.
	SNIOnly           bool          `json:"sni_only"`
	UnicodeNames      bool          `json:"unicode_names"`
	EventsDisabled    bool          `json:"events_disabled"`
	EventsTopicPrefix string        `json:"events_topic_prefix"`
	Policy            Policy        `json:"policy"`
	TrustAnchors      []Certificate `json:"trust_anchors"`
	Intermediates     []Certificate `json:"intermediates"`
	Devices           int           `json:"devices"`
	ConnectedDevices  int           `json:"connected_devices"`
	// CreatedAt and UpdatedAt are not known of a declared hub.
	CreatedAt *time.Time `json:"created_at,omitempty"`
	UpdatedAt *time.Time `json:"updated_at,omitempty"`
}

// Hubs is a page of a list of hubs.
type Hubs struct {
	Hubs []Hub `json:"hubs"`
	// Next is the cursor of the next page, "" at the end.
	Next string `json:"next,omitempty"`
}

// NewHub is a hub to create.
type NewHub struct {
	Name      string `json:"name"`
	ProjectID string `json:"project_id,omitempty" format:"uuid"`
	// Enabled is true if it is not given.
	Enabled           *bool  `json:"enabled,omitempty"`
	AutoProvisioning  bool   `json:"auto_provisioning,omitempty"`
	SNIOnly           bool   `json:"sni_only,omitempty"`
	UnicodeNames      bool   `json:"unicode_names,omitempty"`
	EventsDisabled    bool   `json:"events_disabled,omitempty"`
	EventsTopicPrefix string `json:"events_topic_prefix,omitempty"`
	// Policy is what differs from the default one.
	Policy *PolicyChange `json:"policy,omitempty"`
}

// HubChange is an edit of a hub: what is not given stays.
type HubChange struct {
	Name              *string       `json:"name,omitempty"`
	Enabled           *bool         `json:"enabled,omitempty"`
	AutoProvisioning  *bool         `json:"auto_provisioning,omitempty"`
	SNIOnly           *bool         `json:"sni_only,omitempty"`
	UnicodeNames      *bool         `json:"unicode_names,omitempty"`
	EventsDisabled    *bool         `json:"events_disabled,omitempty"`
	EventsTopicPrefix *string       `json:"events_topic_prefix,omitempty"`
	Policy            *PolicyChange `json:"policy,omitempty"`
}

// Certificate is what tells one certificate from another.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Fingerprint is the SHA-256 of the whole certificate.
	Fingerprint string `json:"fingerprint_sha256"`
}

func certificate(c *x509.Certificate) Certificate {
	sum := sha256.Sum256(c.Raw)
	return Certificate{
		Subject:     c.Subject.String(),
		Issuer:      c.Issuer.String(),
		Serial:      hex.EncodeToString(c.SerialNumber.Bytes()),
		NotBefore:   c.NotBefore.UTC(),
		NotAfter:    c.NotAfter.UTC(),
		Fingerprint: hex.EncodeToString(sum[:]),
	}
}

// certificates shows a list of DER. The gate serves hubs whose certificates
// parse, and no others.
func certificates(ders [][]byte) ([]Certificate, error) {
	all := make([]Certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
		all[i] = certificate(c)
	}
	return all, nil
}

func showHub(h fleet.Hub) (Hub, error) {
	anchors, err := certificates(h.Anchors)
	if err != nil {
		return Hub{}, fmt.Errorf("hub %s: trust anchors: %w", h.Name, err)
	}
	intermediates, err := certificates(h.Intermediates)
	if err != nil {
		return Hub{}, fmt.Errorf("hub %s: intermediates: %w", h.Name, err)
	}
	shown := Hub{
		ID: h.ID.String(), Name: h.Name, DeclaredIn: h.Declared, Status: string(h.Status()), Enabled: h.Status() == fleet.Ready,
		AutoProvisioning: h.AutoProvisioning, HasOwnCA: len(anchors) > 0, SNIOnly: h.SNIOnly, UnicodeNames: h.UnicodeNames,
		EventsDisabled: h.EventsDisabled, EventsTopicPrefix: h.EventsTopicPrefix, Policy: showPolicy(h.Policy),
		TrustAnchors: anchors, Intermediates: intermediates, Devices: h.Devices, ConnectedDevices: h.Connected,
		CreatedAt: timeOf(h.CreatedAt), UpdatedAt: timeOf(h.UpdatedAt),
	}
	if h.Project != uuid.Nil {
		shown.ProjectID = h.Project.String()
	}
	return shown, nil
}

// timeOf is nil for the zero time.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (s *Server) hubRoutes() []route {
	const all, one = "/v1/hubs", "/v1/hubs/{hub}"
	return []route{
		{
			method: "GET", path: all, id: "listHubs", summary: "List hubs by name",
			role: access.Viewer, answer: Hubs{Hubs: []Hub{exampleHub}}, serve: s.listHubs,
			query: []parameter{
				cursorParameter, limitParameter,
				{name: "project_id", text: "Only hubs of that project."},
				{name: "name", text: "Only the hub of that name."},
			},
		},
		{
			method: "POST", path: all, id: "createHub", summary: "Create a hub",
			role: access.Admin, body: NewHub{Name: exampleHub.Name}, answer: exampleHub, status: http.StatusCreated, serve: s.createHub,
		},
		{
			method: "GET", path: one, id: "getHub", summary: "Show a hub",
			role: access.Viewer, answer: exampleHub, serve: s.getHub,
		},
		{
			method: "PATCH", path: one, id: "updateHub",
			summary: "Change a hub: enabled and auto_provisioning as an operator, the rest as an admin",
			role:    access.Operator, body: HubChange{AutoProvisioning: &exampleTrue}, answer: exampleHub, serve: s.updateHub,
		},
		{
			method: "DELETE", path: one, id: "deleteHub", summary: "Delete a hub; its status is deleting until its devices are gone",
			role: access.Admin, serve: s.deleteHub,
			query: []parameter{{name: "with_devices", text: "Delete its devices with it; else it must have none.", values: trueOrFalse}},
		},
	}
}

// caller is who asks.
func caller(r *http.Request) access.Principal {
	p, _ := access.From(r.Context())
	return p
}

func (s *Server) listHubs(r *http.Request) (any, error) {
	query := r.URL.Query()
	limit, err := pageSize(query.Get("limit"))
	if err != nil {
		return nil, err
	}
	cursor, err := openCursor("hubs", query.Get("cursor"))
	if err != nil {
		return nil, err
	}
	project, err := projectOf(query.Get("project_id"))
	if err != nil {
		return nil, err
	}
	hubs, next, err := s.fleet.Hubs(r.Context(), caller(r), fleet.HubQuery{
		Name: query.Get("name"), Project: project, Cursor: cursor, Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	list := Hubs{Hubs: make([]Hub, len(hubs)), Next: sealCursor("hubs", next)}
	for i, h := range hubs {
		if list.Hubs[i], err = showHub(h); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func projectOf(text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return uuid.Nil, invalid("project_id: %q is no UUID", text)
	}
	return id, nil
}

func (s *Server) createHub(r *http.Request) (any, error) {
	var body NewHub
	if _, err := decodeChange(r, &body); err != nil {
		return nil, err
	}
	project, err := projectOf(body.ProjectID)
	if err != nil {
		return nil, err
	}
	policy, err := body.Policy.change()
	if err != nil {
		return nil, err
	}
	return s.aHub(s.fleet.CreateHub(r.Context(), caller(r), fleet.HubSpec{
		Name: body.Name, Project: project, Disabled: body.Enabled != nil && !*body.Enabled, AutoProvisioning: body.AutoProvisioning,
		SNIOnly: body.SNIOnly, UnicodeNames: body.UnicodeNames,
		EventsDisabled: body.EventsDisabled, EventsTopicPrefix: body.EventsTopicPrefix, Policy: policy,
	}))
}

// aHub shows what an act on a hub returned.
func (s *Server) aHub(h fleet.Hub, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return showHub(h)
}

func (s *Server) getHub(r *http.Request) (any, error) {
	return s.aHub(s.fleet.Hub(r.Context(), caller(r), r.PathValue("hub")))
}

func (s *Server) updateHub(r *http.Request) (any, error) {
	var body HubChange
	if _, err := decodeChange(r, &body); err != nil {
		return nil, err
	}
	policy, err := body.Policy.change()
	if err != nil {
		return nil, err
	}
	return s.aHub(s.fleet.UpdateHub(r.Context(), caller(r), r.PathValue("hub"), fleet.HubChange{
		Enabled: body.Enabled, AutoProvisioning: body.AutoProvisioning, Name: body.Name, SNIOnly: body.SNIOnly,
		UnicodeNames: body.UnicodeNames, EventsDisabled: body.EventsDisabled, EventsTopicPrefix: body.EventsTopicPrefix,
		Policy: policy,
	}))
}

func (s *Server) deleteHub(r *http.Request) (any, error) {
	return nil, s.fleet.DeleteHub(r.Context(), caller(r), r.PathValue("hub"), cmp.Or(r.URL.Query().Get("with_devices"), "false") == "true")
}
