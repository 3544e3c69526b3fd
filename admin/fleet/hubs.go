package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// Status is what a hub is doing.
type Status string

// Statuses.
const (
	Ready    Status = "ready"
	Disabled Status = "disabled"
	// Deleting: its devices are being removed; it is gone when that is done.
	Deleting Status = "deleting"
)

// Hub is a hub and what is counted of it.
type Hub struct {
	provision.Hub
	Devices int
	// Connected is how many devices have a connection. It may be some seconds
	// old where there are very many.
	Connected int
}

// Status says what the hub is doing.
func (h Hub) Status() Status {
	switch {
	case h.Deleting:
		return Deleting
	case h.Disabled:
		return Disabled
	}
	return Ready
}

// HubQuery narrows a list of hubs.
type HubQuery struct {
	Name    string    // only the hub of that name
	Project uuid.UUID // only hubs of that project; zero: of all that the principal sees
	Cursor  string    // where the page before ended
	Limit   int
}

// AllHubs returns the hubs in force that the principal sees, by name.
func (f *Fleet) AllHubs(p access.Principal) ([]provision.Hub, error) {
	if err := p.Need(access.Viewer); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(f.gate.Hubs(), func(h provision.Hub) bool { return !p.Sees(h.Project) }), nil
}

// Hubs returns a page of hubs, by name, and the cursor of the next, "" at the
// end.
func (f *Fleet) Hubs(ctx context.Context, p access.Principal, q HubQuery) ([]Hub, string, error) {
	all, err := f.AllHubs(p)
	if err != nil {
		return nil, "", err
	}
	all = slices.DeleteFunc(all, func(h provision.Hub) bool {
		return q.Name != "" && h.Name != q.Name || q.Project != uuid.Nil && h.Project != q.Project || h.Name <= q.Cursor
	})
	next := ""
	if len(all) > q.Limit {
		all = all[:q.Limit]
		next = all[q.Limit-1].Name
	}
	hubs, err := f.Describe(ctx, all...)
	return hubs, next, err
}

// counters bounds how many hubs are counted at once.
const counters = 16

// Describe counts what there is of hubs.
func (f *Fleet) Describe(ctx context.Context, hubs ...provision.Hub) ([]Hub, error) {
	described := make([]Hub, len(hubs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(counters)
	for i, h := range hubs {
		group.Go(func() error {
			devices, err := f.store.CountDevices(ctx, h.ID)
			if err != nil {
				return fmt.Errorf("hub %s: count devices: %w", h.Name, err)
			}
			connected, err := f.connected.of(ctx, f.store, h.ID)
			if err != nil {
				return fmt.Errorf("hub %s: count connected devices: %w", h.Name, err)
			}
			described[i] = Hub{Hub: h, Devices: devices, Connected: connected}
			return nil
		})
	}
	return described, group.Wait()
}

func (f *Fleet) describe(ctx context.Context, h provision.Hub) (Hub, error) {
	all, err := f.Describe(ctx, h)
	if err != nil {
		return Hub{}, err
	}
	return all[0], nil
}

// Hub returns the hub of that ID or name.
func (f *Fleet) Hub(ctx context.Context, p access.Principal, idOrName string) (Hub, error) {
	h, err := f.Find(ctx, p, idOrName)
	if err != nil {
		return Hub{}, err
	}
	return f.describe(ctx, h)
}

// Find returns the hub of that ID or name, nothing counted. A declared one has
// the settings that are in force here.
func (f *Fleet) Find(ctx context.Context, p access.Principal, idOrName string) (provision.Hub, error) {
	if err := p.Need(access.Viewer); err != nil {
		return provision.Hub{}, err
	}
	h, err := f.find(ctx, idOrName)
	switch {
	case errors.Is(err, provision.ErrNotFound), err == nil && !p.Sees(h.Project):
		return provision.Hub{}, f.noHub(p, idOrName)
	case err != nil:
		return provision.Hub{}, fmt.Errorf("hub %q: %w", idOrName, err)
	}
	return h, nil
}

// find asks the store, so that what one process was told is true at once, and
// the Gate for what only a file tells.
func (f *Fleet) find(ctx context.Context, idOrName string) (provision.Hub, error) {
	if h, ok := f.gate.Hub(idOrName); ok && h.Declared != "" {
		return h, nil
	}
	name := strings.ToLower(idOrName)
	if id, err := provision.ParseHubID(name); err == nil {
		return f.store.Hub(ctx, id)
	}
	if provision.CheckHubName(name) != nil {
		return provision.Hub{}, provision.ErrNotFound
	}
	return f.store.HubByName(ctx, name)
}

// noHub names the hubs there are, if they are few.
func (f *Fleet) noHub(p access.Principal, name string) error {
	const few = 5
	hubs, _ := f.AllHubs(p)
	there := ""
	switch {
	case len(hubs) == 0:
		there = ": there is none yet"
	case len(hubs) <= few:
		names := make([]string, len(hubs))
		for i, h := range hubs {
			names[i] = h.Name
		}
		there = ": there is " + strings.Join(names, ", ")
	}
	return fmt.Errorf("hub %q %w%s", name, provision.ErrNotFound, there)
}

// findFor is Find for an act, which it notes the hub in.
func (f *Fleet) findFor(ctx context.Context, p access.Principal, idOrName string, a *act) (provision.Hub, error) {
	h, err := f.Find(ctx, p, idOrName)
	if err != nil {
		a.on("hub", idOrName)
		return h, err
	}
	a.onHub(h)
	return h, nil
}

// findStored is findFor for a change: a declared hub is refused.
func (f *Fleet) findStored(ctx context.Context, p access.Principal, idOrName string, a *act) (provision.Hub, error) {
	h, err := f.findFor(ctx, p, idOrName, a)
	if err == nil && h.Declared != "" {
		err = declared(h)
	}
	return h, err
}

// HubSpec is a hub to create.
type HubSpec struct {
	Name string
	// Project is the hub's; zero: that of the principal.
	Project           uuid.UUID
	Disabled          bool
	AutoProvisioning  bool // always refused: a new hub has no anchor
	SNIOnly           bool
	UnicodeNames      bool
	EventsDisabled    bool
	EventsTopicPrefix string
	ProductPlan       string
	Policy            *PolicyChange // of the default one
}

// CreateHub creates a hub. It takes an Admin; one of a project creates hubs of
// that project only.
func (f *Fleet) CreateHub(ctx context.Context, p access.Principal, spec HubSpec) (_ Hub, err error) {
	a := f.act(p, provision.Created)
	a.on("hub", spec.Name)
	defer a.end(ctx, &err)
	if err := p.Need(access.Admin); err != nil {
		return Hub{}, err
	}
	if p.Project != uuid.Nil {
		if spec.Project == uuid.Nil {
			spec.Project = p.Project
		}
		if spec.Project != p.Project {
			return Hub{}, fmt.Errorf("%w: %q is limited to project %s", access.ErrDenied, p.Name, p.Project)
		}
	}
	now := f.now()
	h := provision.Hub{
		ID: provision.NewHubID(), Name: spec.Name, Project: spec.Project,
		Disabled: spec.Disabled, SNIOnly: spec.SNIOnly, UnicodeNames: spec.UnicodeNames,
		EventsDisabled: spec.EventsDisabled, EventsTopicPrefix: spec.EventsTopicPrefix, ProductPlan: spec.ProductPlan,
		CreatedAt: now, UpdatedAt: now,
	}
	if h.Policy, err = spec.Policy.apply(h.Policy); err != nil {
		return Hub{}, err
	}
	if err := checkHub(h); err != nil {
		return Hub{}, err
	}
	if spec.AutoProvisioning {
		return Hub{}, noAnchor(h)
	}
	h, err = f.store.CreateHub(ctx, h, provision.Created.OnHub(h, now))
	if err != nil {
		return Hub{}, err // which names the hub
	}
	a.object = nil
	a.onHub(h)
	f.inForce(ctx, h)
	return Hub{Hub: h}, nil
}

func noAnchor(h provision.Hub) error {
	return conflict(NoAnchor, "auto-provisioning needs a trust anchor, and hub %s has none: install its CA first", h.Name)
}

const (
	maxPrefix = 128 // bytes of a topic prefix
	maxPlan   = 64  // bytes of a product plan
)

// checkHub checks what of a hub people choose.
func checkHub(h provision.Hub) error {
	if err := provision.CheckHubName(h.Name); err != nil {
		return invalid("name", "%s", err)
	}
	prefix := h.EventsTopicPrefix
	switch {
	case len(prefix) > maxPrefix:
		return invalid("events_topic_prefix", "events_topic_prefix has %d bytes, more than %d", len(prefix), maxPrefix)
	case !utf8.ValidString(prefix), strings.ContainsAny(prefix, "+#"), strings.ContainsFunc(prefix, unicode.IsControl):
		return invalid("events_topic_prefix", "events_topic_prefix %q: an MQTT topic has no wildcards and no control characters", prefix)
	case strings.HasPrefix(prefix, "/"), strings.HasSuffix(prefix, "/"):
		return invalid("events_topic_prefix", "events_topic_prefix %q begins or ends with /", prefix)
	case len(h.ProductPlan) > maxPlan:
		return invalid("product_plan", "product_plan has %d bytes, more than %d", len(h.ProductPlan), maxPlan)
	}
	return nil
}

// HubChange is an edit of a hub; what is nil stays.
type HubChange struct {
	Enabled           *bool
	AutoProvisioning  *bool
	Name              *string
	SNIOnly           *bool
	UnicodeNames      *bool
	EventsDisabled    *bool
	EventsTopicPrefix *string
	ProductPlan       *string
	Policy            *PolicyChange
}

// role is what the change takes.
func (c HubChange) role() access.Role {
	rest := c
	rest.Enabled, rest.AutoProvisioning = nil, nil
	if rest == (HubChange{}) {
		return access.Operator
	}
	return access.Admin
}

// act is what the change is called.
func (c HubChange) act() provision.Act {
	switch {
	case c.Enabled == nil:
		return provision.Updated
	case *c.Enabled:
		return provision.Enabled
	}
	return provision.Disabled
}

func (c HubChange) changesRules() bool { return c.Policy != nil && c.Policy.Admission != nil }

// apply edits the hub. It returns errUnchanged if it is like that.
func (c HubChange) apply(h *provision.Hub, now time.Time) error {
	after := *h
	set(&after.Name, c.Name)
	set(&after.AutoProvisioning, c.AutoProvisioning)
	set(&after.SNIOnly, c.SNIOnly)
	set(&after.UnicodeNames, c.UnicodeNames)
	set(&after.EventsDisabled, c.EventsDisabled)
	set(&after.EventsTopicPrefix, c.EventsTopicPrefix)
	set(&after.ProductPlan, c.ProductPlan)
	if c.Enabled != nil {
		after.Disabled = !*c.Enabled
	}
	var err error
	if after.Policy, err = c.Policy.apply(h.Policy); err != nil {
		return err
	}
	if err := checkHub(after); err != nil {
		return err
	}
	if c.changesRules() {
		if err := policyError(provision.CheckRules(after)); err != nil {
			return err
		}
	}
	if after.AutoProvisioning && !h.AutoProvisioning && len(h.Anchors) == 0 {
		return noAnchor(*h)
	}
	if after.Name == h.Name && after.AutoProvisioning == h.AutoProvisioning && after.SNIOnly == h.SNIOnly &&
		after.UnicodeNames == h.UnicodeNames && after.EventsDisabled == h.EventsDisabled &&
		after.EventsTopicPrefix == h.EventsTopicPrefix && after.ProductPlan == h.ProductPlan && after.Disabled == h.Disabled &&
		after.Policy.Equal(h.Policy) {
		return errUnchanged
	}
	after.UpdatedAt = now
	*h = after
	return nil
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// UpdateHub edits a hub. Enabling, disabling and the auto-provisioning toggle
// take an Operator, the rest an Admin.
func (f *Fleet) UpdateHub(ctx context.Context, p access.Principal, idOrName string, c HubChange) (_ Hub, err error) {
	a := f.act(p, c.act())
	defer a.end(ctx, &err)
	h, err := f.findStored(ctx, p, idOrName, a)
	if err != nil {
		return Hub{}, err
	}
	if err := p.Need(c.role()); err != nil {
		return Hub{}, err
	}
	now := f.now()
	before := h
	edit := func(h *provision.Hub) error {
		before = *h
		if err := c.apply(h, now); err != nil {
			return err
		}
		if before.SNIOnly && !h.SNIOnly && len(h.Intermediates) > 0 && p.Project != uuid.Nil {
			return conflict(Conflict, "hub %s has intermediates that were uploaded, and would be found by them: nobody proved to own their keys. "+
				"Remove them first, or have an admin of all projects do it", h.Name)
		}
		return nil
	}
	event := func(after provision.Hub) provision.Event {
		if c.Enabled != nil && after.Disabled == before.Disabled {
			return provision.Updated.OnHub(after, now) // something else was changed
		}
		return c.act().OnHub(after, now)
	}
	if c.SNIOnly != nil && !*c.SNIOnly || c.changesRules() { // it comes to be found by its anchors, or may keep fewer devices out
		h, err = f.changeTrust(ctx, p, h.ID, edit, event)
	} else {
		h, err = f.store.UpdateHub(ctx, h.ID, edit, event)
	}
	switch {
	case errors.Is(err, errUnchanged):
		h = before
	case err != nil:
		return Hub{}, named(before, err)
	default:
		f.inForce(ctx, h)
	}
	described, derr := f.describe(ctx, h)
	return described, errors.Join(derr, err)
}

// named adds the hub's name to an error that has no text of its own.
func named(h provision.Hub, err error) error {
	var refusal *Refusal
	if errors.As(err, &refusal) || errors.Is(err, provision.ErrExists) {
		return err
	}
	return fmt.Errorf("hub %s: %w", h.Name, err)
}

// inForce has this process go by a change at once; the others hear of it by the
// store's change feed. It is the store's change that counts, so a failure here
// is none of the act.
func (f *Fleet) inForce(ctx context.Context, h provision.Hub) {
	if err := f.gate.Refresh(ctx, h.ID); err != nil {
		f.log.WarnContext(ctx, "a change of a hub is not in force here yet", "hub", h.Name, "error", err)
	}
}

// deletionPatience is how long DeleteHub waits for a hub's devices to go.
const deletionPatience = 5 * time.Second

// DeleteHub deletes a hub, with its devices only if that is said. It takes an
// Admin. It returns when the hub is gone, or after some seconds: then the hub's
// status is Deleting until Run has finished it. Deleting a hub that is being
// deleted is no error.
func (f *Fleet) DeleteHub(ctx context.Context, p access.Principal, idOrName string, withDevices bool) (err error) {
	a := f.act(p, provision.Deleted)
	defer a.end(ctx, &err)
	h, err := f.findFor(ctx, p, idOrName, a)
	if err != nil {
		return err
	}
	if _, here := f.gate.Hub(h.ID.String()); here && h.Declared != "" {
		return declared(h)
	}
	if err := p.Need(access.Admin); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, deletionPatience)
	defer cancel()
	deletion := f.store.DeleteEmptyHub
	if withDevices {
		deletion = f.store.DeleteHub
	}
	err = deletion(waiting, h.ID, provision.Deleted.OnHub(h, f.now()))
	if errors.Is(err, provision.ErrNotEmpty) {
		n, cerr := f.store.CountDevices(ctx, h.ID)
		if cerr != nil {
			return named(h, cerr)
		}
		return &Refusal{Kind: ErrConflict, Code: InUse, Devices: n,
			Message: fmt.Sprintf("hub %s has %d devices: say that they are to be deleted with it", h.Name, n)}
	}
	f.inForce(ctx, h)
	if err != nil && ctx.Err() == nil {
		if now, herr := f.store.Hub(ctx, h.ID); herr == nil && now.Deleting {
			return nil // Run finishes it
		}
	}
	return err
}
