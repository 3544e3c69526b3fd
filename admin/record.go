package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// DeviceRecord is a device on a line of an export or of an import. In an import
// only the name has to be there: what is left out stays as it is, and for a new
// device is the default. id, hub_id and updated_at tell where a line came from.
type DeviceRecord struct {
	ID                       string         `json:"id,omitempty"`
	HubID                    string         `json:"hub_id,omitempty"`
	Name                     string         `json:"name"`
	Description              *string        `json:"description,omitempty"`
	Enabled                  *bool          `json:"enabled,omitempty"`
	DisabledReason           *string        `json:"disabled_reason,omitempty"`
	AllowInsecure            *bool          `json:"allow_insecure,omitempty"`
	AllowMultipleConnections *bool          `json:"allow_multiple_connections,omitempty"`
	MessageFilters           *recordFilters `json:"message_filters,omitempty"`
	FirstKey                 string         `json:"first_key_sha256,omitempty"`
	CurrentKey               string         `json:"current_key_sha256,omitempty"`
	Anchor                   string         `json:"trust_anchor_key_sha256,omitempty"`
	Issuer                   string         `json:"issuer_key_sha256,omitempty"`
	CustomCertificate        string         `json:"custom_certificate,omitempty"` // PEM
	ProvisionedFrom          string         `json:"provisioned_from,omitempty"`
	CreatedAt                string         `json:"created_at,omitempty"`
	UpdatedAt                string         `json:"updated_at,omitempty"`
}

// recordFilters tells filters that are left out from there being none.
type recordFilters struct{ *Filters }

// UnmarshalJSON implements json.Unmarshaler, strictly.
func (f *recordFilters) UnmarshalJSON(text []byte) error {
	return strict(text, &f.Filters)
}

// MarshalJSON implements json.Marshaler.
func (f recordFilters) MarshalJSON() ([]byte, error) { return json.Marshal(f.Filters) }

// recordOf shows a device to another hubgate. A ban is what another region
// needs of a disabled device: nothing that would change what it knows of one of
// its own.
func recordOf(d provision.Device, ban bool) DeviceRecord {
	enabled := !d.Disabled
	r := DeviceRecord{ID: d.ID.String(), HubID: d.Hub.String(), Name: d.Name, Enabled: &enabled, UpdatedAt: d.UpdatedAt.UTC().Format(time.RFC3339Nano)}
	if d.Disabled {
		r.DisabledReason = &d.DisabledReason
	}
	if ban {
		return r
	}
	r.Description, r.AllowInsecure, r.AllowMultipleConnections = &d.Description, &d.AllowInsecure, &d.AllowMultipleConnections
	r.CreatedAt = d.CreatedAt.UTC().Format(time.RFC3339Nano)
	r.MessageFilters = new(recordFilters)
	if f := d.Filters; f != nil {
		r.MessageFilters.Filters = &Filters{showFilter(f.Publish), showFilter(f.Subscribe)}
	}
	if d.Bound() {
		r.FirstKey, r.CurrentKey, r.Anchor, r.Issuer = d.FirstKey.String(), d.CurrentKey.String(), d.Anchor.String(), d.Issuer.String()
	}
	if d.Custom != nil {
		r.CustomCertificate = pemOf(d.Custom.DER)
	}
	if d.ProvisionedFrom.IsValid() {
		r.ProvisionedFrom = d.ProvisionedFrom.String()
	}
	return r
}

// readRecord reads a line.
func readRecord(hub provision.Hub, line []byte) (fleet.Record, error) {
	var r DeviceRecord
	if err := strict(line, &r); err != nil {
		return fleet.Record{}, invalid("it is not the JSON that belongs here: %s", fault(err))
	}
	if r.Name == "" {
		return fleet.Record{}, invalid("name: it is missing")
	}
	if id := provision.DeviceIDOf(hub.ID, r.Name).String(); r.ID != "" && r.HubID == hub.ID.String() && r.ID != id {
		return fleet.Record{}, invalid("id: the device %q of this hub has the ID %s, not %s", r.Name, id, r.ID)
	}
	record := fleet.Record{
		Name: r.Name, Description: r.Description, Enabled: r.Enabled, DisabledReason: r.DisabledReason,
		AllowInsecure: r.AllowInsecure, AllowMultipleConnections: r.AllowMultipleConnections,
		CustomCertificate: r.CustomCertificate,
	}
	if r.CreatedAt != "" {
		created, err := time.Parse(time.RFC3339Nano, r.CreatedAt)
		if err != nil {
			return fleet.Record{}, invalid("created_at: %q is no time: write it as 2026-01-31T12:00:00Z", r.CreatedAt)
		}
		record.CreatedAt = created
	}
	if r.MessageFilters != nil {
		filters, err := readFilters(r.MessageFilters.Filters)
		if err != nil {
			return fleet.Record{}, err
		}
		record.Filters = &filters
	}
	if r.FirstKey != "" || r.CurrentKey != "" || r.Anchor != "" || r.Issuer != "" {
		record.Pins = new(fleet.Pins)
		for _, key := range []struct {
			name, text string
			hash       *trust.KeyHash
		}{
			{"first_key_sha256", r.FirstKey, &record.Pins.FirstKey},
			{"current_key_sha256", r.CurrentKey, &record.Pins.CurrentKey},
			{"trust_anchor_key_sha256", r.Anchor, &record.Pins.Anchor},
			{"issuer_key_sha256", r.Issuer, &record.Pins.Issuer},
		} {
			hash, err := trust.ParseKeyHash(key.text)
			if key.text != "" && err != nil {
				return fleet.Record{}, invalid("%s: %q is no SHA-256, which has 64 hexadecimal digits", key.name, key.text)
			}
			*key.hash = hash
		}
	}
	if r.ProvisionedFrom != "" {
		address, err := netip.ParseAddr(r.ProvisionedFrom)
		if err != nil {
			return fleet.Record{}, invalid("provisioned_from: %q is no IP address", r.ProvisionedFrom)
		}
		record.ProvisionedFrom = address
	}
	return record, nil
}

func readFilters(f *Filters) (*provision.Filters, error) {
	if f == nil {
		return nil, nil //nolint:nilnil // no filters are none
	}
	var filters provision.Filters
	for _, one := range []struct {
		name string
		from Filter
		to   *provision.Filter
	}{{"publish", f.Publish, &filters.Publish}, {"subscribe", f.Subscribe, &filters.Subscribe}} {
		switch one.from.Policy {
		case "accept":
		case "reject":
			one.to.Reject = true
		default:
			return nil, invalid("message_filters.%s.policy: %q is neither accept nor reject", one.name, one.from.Policy)
		}
		one.to.Topics = one.from.Topics
	}
	return &filters, nil
}

// strict reads exactly one value of exactly the fields that are known.
func strict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one value")
	}
	return nil
}

// fault says what is wrong with JSON, without the names of our types.
func fault(err error) string {
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	if kind.Field == "" {
		return "it is " + kind.Value + ", not an object"
	}
	return fmt.Sprintf("%s cannot be of the kind %s", kind.Field, kind.Value)
}
