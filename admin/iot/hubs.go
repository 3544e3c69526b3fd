package iot

import (
	"bytes"
	"cmp"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
)

// show shows a hub. It has no organization: its project stands for one, as with
// the vendor an organization's default project has its ID.
func (a *API) show(h fleet.Hub) hub {
	endpoint := h.Name
	if a.domain != "" {
		endpoint += "." + a.domain
	}
	return hub{
		ID: h.ID.String(), Name: h.Name, Status: a.status(h.Hub), ProductPlan: cmp.Or(h.ProductPlan, planShared),
		Enabled: !h.Disabled && !h.Deleting, DeviceCount: uint64(h.Devices), ConnectedDeviceCount: uint64(h.Connected),
		Endpoint: endpoint, DisableEvents: h.EventsDisabled, EventsTopicPrefix: h.EventsTopicPrefix, Region: a.region,
		CreatedAt: h.CreatedAt.UTC(), UpdatedAt: h.UpdatedAt.UTC(), ProjectID: h.Project.String(), OrganizationID: h.Project.String(),
		EnableDeviceAutoProvisioning: h.AutoProvisioning, HasCustomCA: len(h.Anchors) > 0,
	}
}

// status is what clients wait for. A change that the store has and this process
// does not go by yet is under way; so is a deletion, until the hub is gone.
func (a *API) status(h provision.Hub) hubStatus {
	inForce, known := a.gate.Hub(h.ID.String())
	switch {
	case h.Deleting, h.Disabled && known && !inForce.Disabled:
		return hubDisabling
	case h.Disabled:
		return hubDisabled
	case !known, inForce.Disabled:
		return hubEnabling
	}
	return hubReady
}

// shown is the answer that is one hub.
func (a *API) shown(h fleet.Hub, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return a.show(h), nil
}

// hubOrders compares hubs by what a list can be ordered by.
var hubOrders = map[string]func(a *API, x, y provision.Hub) int{
	"name":         func(_ *API, x, y provision.Hub) int { return cmp.Compare(x.Name, y.Name) },
	"status":       func(a *API, x, y provision.Hub) int { return cmp.Compare(a.status(x), a.status(y)) },
	"product_plan": func(_ *API, x, y provision.Hub) int { return cmp.Compare(x.ProductPlan, y.ProductPlan) },
	"created_at":   func(_ *API, x, y provision.Hub) int { return x.CreatedAt.Compare(y.CreatedAt) },
	"updated_at":   func(_ *API, x, y provision.Hub) int { return x.UpdatedAt.Compare(y.UpdatedAt) },
}

func (a *API) listHubs(r *http.Request) (any, error) {
	q, err := parameters(r, "page", "page_size", "order_by", "project_id", "organization_id", "name")
	if err != nil {
		return nil, err
	}
	w, err := q.window()
	if err != nil {
		return nil, err
	}
	field, descending, err := q.order("name", "status", "product_plan", "created_at", "updated_at")
	if err != nil {
		return nil, err
	}
	var projects []uuid.UUID
	for _, name := range []string{"project_id", "organization_id"} {
		if text := q.Get(name); text != "" {
			id, err := parseID(name, text)
			if err != nil {
				return nil, err
			}
			projects = append(projects, id)
		}
	}
	hubs, err := a.fleet.AllHubs(principal(r))
	if err != nil {
		return nil, err
	}
	name := q.Get("name")
	hubs = slices.DeleteFunc(hubs, func(h provision.Hub) bool {
		return name != "" && h.Name != name || slices.ContainsFunc(projects, func(id uuid.UUID) bool { return id != h.Project })
	})
	order := hubOrders[field]
	slices.SortFunc(hubs, func(x, y provision.Hub) int {
		c := order(a, x, y)
		if descending {
			c = -c
		}
		return cmp.Or(c, x.CreatedAt.Compare(y.CreatedAt), compareIDs(x.ID, y.ID))
	})
	described, err := a.fleet.Describe(r.Context(), part(hubs, w)...)
	if err != nil {
		return nil, err
	}
	list := listHubsResponse{TotalCount: count(len(hubs)), Hubs: []hub{}}
	for _, h := range described {
		list.Hubs = append(list.Hubs, a.show(h))
	}
	return list, nil
}

func compareIDs(x, y provision.HubID) int { return bytes.Compare(x.UUID[:], y.UUID[:]) }

// hubID is the hub that the path names.
func hubID(r *http.Request) (string, error) {
	id, err := parseID("hub_id", r.PathValue("hub"))
	return id.String(), err
}

func (a *API) getHub(r *http.Request) (any, error) {
	id, err := hubID(r)
	if err != nil {
		return nil, err
	}
	return a.shown(a.fleet.Hub(r.Context(), principal(r), id))
}

func (a *API) createHub(r *http.Request) (any, error) {
	var asked createHubRequest
	if err := decode(r, &asked); err != nil {
		return nil, err
	}
	plan, err := planOf(asked.ProductPlan, asked.TwinsGraphiteConfig)
	if err != nil {
		return nil, err
	}
	spec := fleet.HubSpec{Name: asked.Name, ProductPlan: cmp.Or(plan, planShared)}
	if asked.ProjectID != "" {
		if spec.Project, err = parseID("project_id", asked.ProjectID); err != nil {
			return nil, err
		}
	}
	if asked.DisableEvents != nil {
		spec.EventsDisabled = *asked.DisableEvents
	}
	if asked.EventsTopicPrefix != nil {
		spec.EventsTopicPrefix = *asked.EventsTopicPrefix
	}
	return a.shown(a.fleet.CreateHub(r.Context(), principal(r), spec))
}

// plans are what the SDK may ask for. Nothing is different about them here, but
// a client that asked for one expects to read it back.
var plans = []string{planShared, "plan_dedicated", "plan_ha"}

// planOf reads a plan; "" is none named.
func planOf(plan string, t *twins) (string, error) {
	switch {
	case t != nil:
		return "", notImplemented(noTwins)
	case plan == "", plan == "plan_unknown":
		return "", nil
	case !slices.Contains(plans, plan):
		return "", invalid("product_plan", constraint, "%q is none of %s", plan, strings.Join(plans, ", "))
	}
	return plan, nil
}

func (a *API) updateHub(r *http.Request) (any, error) {
	var asked updateHubRequest
	if err := decode(r, &asked); err != nil {
		return nil, err
	}
	plan, err := planOf(asked.ProductPlan, asked.TwinsGraphiteConfig)
	if err != nil {
		return nil, err
	}
	change := fleet.HubChange{
		Name: asked.Name, EventsDisabled: asked.DisableEvents, EventsTopicPrefix: asked.EventsTopicPrefix,
		AutoProvisioning: asked.EnableDeviceAutoProvisioning,
	}
	if plan != "" {
		change.ProductPlan = &plan
	}
	return a.changeHub(r, change)
}

func (a *API) enableHub(r *http.Request) (any, error)  { return a.setHubEnabled(r, true) }
func (a *API) disableHub(r *http.Request) (any, error) { return a.setHubEnabled(r, false) }

func (a *API) setHubEnabled(r *http.Request, enabled bool) (any, error) {
	if err := decode(r, &struct{}{}); err != nil {
		return nil, err
	}
	return a.changeHub(r, fleet.HubChange{Enabled: &enabled})
}

func (a *API) changeHub(r *http.Request, change fleet.HubChange) (any, error) {
	id, err := hubID(r)
	if err != nil {
		return nil, err
	}
	return a.shown(a.fleet.UpdateHub(r.Context(), principal(r), id, change))
}

func (a *API) deleteHub(r *http.Request) (any, error) {
	q, err := parameters(r, "delete_devices")
	if err != nil {
		return nil, err
	}
	devices, err := q.flag("delete_devices")
	if err != nil {
		return nil, err
	}
	id, err := hubID(r)
	if err != nil {
		return nil, err
	}
	return nil, a.fleet.DeleteHub(r.Context(), principal(r), id, devices != nil && *devices)
}

// setHubCA adds a trust anchor. The ones before stay until they are retired
// (native API), so that a fleet can move from one to the next.
func (a *API) setHubCA(r *http.Request) (any, error) {
	var asked setHubCARequest
	if err := decode(r, &asked); err != nil {
		return nil, err
	}
	id, err := hubID(r)
	if err != nil {
		return nil, err
	}
	_, err = a.fleet.AddAnchor(r.Context(), principal(r), id, fleet.AnchorSpec{
		Certificate: asked.CACertPEM, Challenge: asked.ChallengeCertPEM,
	})
	if err != nil {
		return nil, err
	}
	return a.shown(a.fleet.Hub(r.Context(), principal(r), id))
}

// getHubCA gives the newest trust anchor.
func (a *API) getHubCA(r *http.Request) (any, error) {
	id, err := hubID(r)
	if err != nil {
		return nil, err
	}
	h, err := a.fleet.Find(r.Context(), principal(r), id)
	if err != nil {
		return nil, err
	}
	if len(h.Anchors) == 0 {
		f := notFound("hub_ca", id)
		f.Message = "hub " + h.Name + " has no CA yet: install one (SetHubCA)"
		return nil, f
	}
	newest := h.Anchors[len(h.Anchors)-1] // they are in the order of their installation
	return getHubCAResponse{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newest}))}, nil
}

// principal is who asks. The zero one may do nothing.
func principal(r *http.Request) access.Principal {
	p, _ := access.From(r.Context())
	return p
}
