package fleet

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// Record is a device as it is carried from one hubgate to another. What is nil
// stays as it is, and for a new device is the default.
type Record struct {
	Name                     string
	Description              *string
	Enabled                  *bool
	DisabledReason           *string
	AllowInsecure            *bool
	AllowMultipleConnections *bool
	Filters                  **provision.Filters
	// Pins are nil for a device that never connected.
	Pins *Pins
	// CustomCertificate is in PEM; "" for none. It counts for a new device only.
	CustomCertificate string
	// ProvisionedFrom and CreatedAt count for a new device only.
	ProvisionedFrom netip.Addr
	CreatedAt       time.Time
}

// Pins are what a device's certificates are held to.
type Pins struct {
	FirstKey, CurrentKey, Anchor, Issuer trust.KeyHash
}

// ImportCounts tell what became of the records of an import.
type ImportCounts struct {
	Created   int `json:"created"`
	Updated   int `json:"updated"`
	Unchanged int `json:"unchanged"`
	Refused   int `json:"refused"`
	// StillDisabled are those of the others that stay disabled, though the
	// record says that they are enabled.
	StillDisabled int `json:"still_disabled"`
}

// Import is one import of devices into a hub. It is for one goroutine.
//
// Importing the same again changes nothing. A ban outlives an import: a record
// never enables a disabled device unless that is asked for. A device that has
// connected keeps its pins, as they are newer than the record's; one that has
// another first key is another chip, and its record is refused.
type Import struct {
	// Counts are those of the records so far.
	Counts ImportCounts
	fleet  *Fleet
	act    *act
	hub    provision.Hub
	enable bool
}

// ImportDevices begins an import; with enable, records may enable disabled
// devices. It takes an Operator. The caller has to call End.
func (f *Fleet) ImportDevices(ctx context.Context, p access.Principal, hub string, enable bool) (_ *Import, err error) {
	a := f.act(p, provision.Imported)
	defer func() {
		if err != nil {
			a.end(ctx, &err)
		}
	}()
	h, err := f.findFor(ctx, p, hub, a)
	if err != nil {
		return nil, err
	}
	if err := p.Need(access.Operator); err != nil {
		return nil, err
	}
	return &Import{fleet: f, act: a, hub: h, enable: enable}, nil
}

// Hub is the hub that devices are imported into.
func (i *Import) Hub() provision.Hub { return i.hub }

// Put imports records. What became of each is in the results: a *Refusal is the
// record's fault, and the others are put all the same. After an error that is
// returned, all of them can be put again.
func (i *Import) Put(ctx context.Context, records []Record) ([]provision.PutResult, error) {
	now := i.fleet.now()
	results := make([]provision.PutResult, len(records))
	still := make([]bool, len(records))
	var puts []provision.Put
	var of []int // of records
	for n, r := range records {
		custom, err := i.check(ctx, r, now)
		if err != nil {
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				return nil, err
			}
			results[n].Err = err
			continue
		}
		puts, of = append(puts, provision.Put{
			Name: r.Name,
			Merge: func(is *provision.Device) (d provision.Device, err error) {
				d, still[n], err = i.merge(r, custom, is, now)
				return d, err
			},
			Event: func(before, after provision.Device) provision.Event {
				return importedAct(before, after).OnDevice(after, now)
			},
		}), append(of, n)
	}
	put, err := i.fleet.store.PutDevices(ctx, i.hub.ID, puts)
	if err != nil {
		return nil, named(i.hub, err)
	}
	for k, n := range of {
		results[n] = put[k]
	}
	for n, r := range results {
		switch r.Outcome {
		case provision.PutCreated:
			i.Counts.Created++
		case provision.PutUpdated:
			i.Counts.Updated++
		case provision.PutUnchanged:
			i.Counts.Unchanged++
		case provision.PutRefused:
			i.Counts.Refused++
		}
		if still[n] && r.Outcome != provision.PutRefused {
			i.Counts.StillDisabled++
		}
	}
	return results, nil
}

// importedAct is what an import did to a device that was there.
func importedAct(before, after provision.Device) provision.Act {
	switch {
	case after.Disabled && !before.Disabled:
		return provision.Disabled
	case before.Disabled && !after.Disabled:
		return provision.Enabled
	}
	return provision.Updated
}

// importLeeway is how far the clock of whoever made a record may be ahead.
const importLeeway = 24 * time.Hour

// check finds what is wrong with a record whatever there is, and reads its custom
// certificate, nil if it has none.
func (i *Import) check(ctx context.Context, r Record, now time.Time) (custom *provision.CustomCertificate, err error) {
	if !r.CreatedAt.IsZero() && (r.CreatedAt.After(now.Add(importLeeway)) || r.CreatedAt.Before(time.Unix(0, 0))) {
		return nil, invalid("created_at", "created_at: %s is not from 1970 to now", r.CreatedAt.UTC().Format(time.RFC3339))
	}
	if r.Pins != nil && (r.Pins.Anchor == trust.KeyHash{} || r.Pins.FirstKey == trust.KeyHash{} || r.Pins.CurrentKey == trust.KeyHash{} || r.Pins.Issuer == trust.KeyHash{}) {
		return nil, invalid("first_key_sha256", "the three keys and the trust anchor go together: give all four, or none")
	}
	d := provision.Device{Name: r.Name}
	set(&d.Description, r.Description)
	set(&d.DisabledReason, r.DisabledReason)
	set(&d.Filters, r.Filters)
	if err := i.fleet.checkNewDevice(ctx, i.hub, d); err != nil || r.CustomCertificate == "" {
		return nil, err
	}
	if !i.hub.Policy.CustomCertificates {
		return nil, conflict(Conflict, "custom_certificate: hub %s takes none: leave it out, or allow them", i.hub.Name)
	}
	return readCustom(i.hub, r.Name, r.CustomCertificate, time.Time{})
}

// merge makes of a record and of what there is what is to be. It tells whether
// the device stays disabled against the record.
func (i *Import) merge(r Record, custom *provision.CustomCertificate, is *provision.Device, now time.Time) (d provision.Device, still bool, err error) {
	if is != nil {
		d = *is
	} else {
		d = provision.Device{Hub: i.hub.ID, Name: r.Name, ProvisionedFrom: r.ProvisionedFrom, CreatedAt: r.CreatedAt, UpdatedAt: now}
		if d.CreatedAt.IsZero() {
			d.CreatedAt = now
		}
	}
	before := d
	set(&d.Description, r.Description)
	set(&d.AllowInsecure, r.AllowInsecure)
	set(&d.AllowMultipleConnections, r.AllowMultipleConnections)
	set(&d.Filters, r.Filters)
	if r.Enabled != nil {
		still = *r.Enabled && before.Disabled && !i.enable
		d.Disabled = !*r.Enabled || still
	}
	if d.Disabled && !still {
		set(&d.DisabledReason, r.DisabledReason)
	}
	if !d.Disabled {
		d.DisabledReason = ""
	}
	if p := r.Pins; p != nil {
		switch {
		case !d.Bound():
			d.FirstKey, d.CurrentKey, d.Anchor, d.Issuer = p.FirstKey, p.CurrentKey, p.Anchor, p.Issuer
		case d.FirstKey != p.FirstKey:
			return d, false, conflict(Conflict, "the device is bound to another key here: leave the keys out of the record, or delete the device first")
		}
	}
	switch {
	case is == nil:
		d.Custom = custom
	case custom != nil && !custom.Equal(d.Custom): // which may have been replaced, or removed, since
		return d, false, conflict(Conflict, "custom_certificate: the device has none or another here: leave it out of the record, or set it with `hubgate device certificate set`")
	}
	if is != nil && d.Description == before.Description && d.AllowInsecure == before.AllowInsecure &&
		d.AllowMultipleConnections == before.AllowMultipleConnections && d.Filters.Equal(before.Filters) &&
		d.Disabled == before.Disabled && d.DisabledReason == before.DisabledReason && d.Anchor == before.Anchor {
		return d, still, provision.ErrUnchanged
	}
	if before.AllowInsecure && !d.AllowInsecure {
		endBySecret(&d, now)
	}
	d.UpdatedAt = now
	return d, still, nil
}

// End ends the import, whole or cut short by the error: a hub event tells how
// many devices were created, and a line in the log of everything. It returns the
// error, or why the event could not be stored.
func (i *Import) End(ctx context.Context, err error) error {
	c := i.Counts
	i.act.object = append(i.act.object,
		slog.Int("created", c.Created), slog.Int("updated", c.Updated), slog.Int("unchanged", c.Unchanged),
		slog.Int("refused", c.Refused), slog.Int("still_disabled", c.StillDisabled))
	if c.Created > 0 {
		event := provision.Imported.OnHub(i.hub, i.fleet.now())
		event.Count = c.Created
		err = errors.Join(err, i.fleet.store.AppendEvents(ctx, i.hub.ID.Partition(i.fleet.store.Partitions()), []provision.Event{event}))
	}
	i.act.end(ctx, &err)
	return err
}

// exportPage is how many devices are read at once.
const exportPage = 1000

// ExportDevices calls each for the hub's devices, page by page in the order of
// their creation, with the cursor behind the page, "" at the end. It begins
// after the given cursor. A device that is there from begin to end is told
// exactly once.
func (f *Fleet) ExportDevices(ctx context.Context, p access.Principal, hub, cursor string, each func(page []provision.Device, next string) error) error {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return err
	}
	for {
		page, next, err := f.store.Devices(ctx, h.ID, provision.ByCreation, cursor, exportPage)
		if err != nil {
			return named(h, err)
		}
		if err := each(page, next); err != nil || next == "" {
			return err
		}
		cursor = next
	}
}
