// Package record is the stored form of hubs, devices and sessions, shared by the
// stores.
//
// Records are protobuf messages that carry a schema number. Fields of a newer
// schema survive a rewrite by an older version, so that versions N and N+1 can
// run side by side on one store. What follows from the key (hub, device ID) or
// from another field is left out: a device takes about 140 bytes.
package record

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record/recordpb"
	"github.com/hubgate/hubgate/trust"
)

// Schema is the version of the form of hubs and devices that this build writes.
//
//	1  the first
//	2  hubs have a project, facts of their anchors, settings of events, a
//	   proposal; devices may be unbound, and have a reason of their ban
//	3  hubs have a policy, anchors a rotation group,
//	   devices a secret, a custom certificate, and a key that waits for approval
const Schema = 3

// ErrCorrupt marks bytes that are no record.
var ErrCorrupt = errors.New("corrupt record")

// EncodeHub returns the stored form of a hub.
func EncodeHub(h provision.Hub) ([]byte, error) {
	m := &recordpb.Hub{
		Schema:           Schema,
		Id:               h.ID.UUID[:],
		Name:             h.Name,
		Version:          h.Version,
		Declared:         h.Declared,
		Disabled:         h.Disabled,
		Deleting:         h.Deleting,
		AutoProvisioning: h.AutoProvisioning,
		SniOnly:          h.SNIOnly,
		UnicodeNames:     h.UnicodeNames,
		Anchors:          h.Anchors,
		Intermediates:    h.Intermediates,
		Created:          nanos(h.CreatedAt),
		Updated:          unlessEqual(nanos(h.UpdatedAt), nanos(h.CreatedAt)),

		EventsDisabled:    h.EventsDisabled,
		EventsTopicPrefix: h.EventsTopicPrefix,
		ProductPlan:       h.ProductPlan,
		AnchorFacts:       anchorFactsPB(h.AnchorFacts),
		CrlSources:        h.CRLSources,
		Revocations:       h.Revocations,
	}
	var err error
	if m.Policy, err = policyPB(h.Policy); err != nil {
		return nil, fmt.Errorf("encode record: policy: %w", err)
	}
	if h.Project != uuid.Nil {
		m.Project = h.Project[:]
	}
	if p := h.Proposal; p != nil {
		m.Proposal = &recordpb.Proposal{
			Id: p.ID[:], At: nanos(p.At), Anchors: p.Anchors, Intermediates: p.Intermediates, SniOnly: p.SNIOnly,
			Admission: rulesPB(p.Admission),
		}
	}
	m.ProtoReflect().SetUnknown(h.Unknown)
	return marshal(m)
}

// DecodeHub reads the stored form of a hub. Its error is ErrCorrupt.
func DecodeHub(b []byte) (provision.Hub, error) {
	var m recordpb.Hub
	if err := unmarshal(b, &m); err != nil {
		return provision.Hub{}, fmt.Errorf("hub: %w", err)
	}
	if len(m.Id) != 16 || m.Name == "" {
		return provision.Hub{}, fmt.Errorf("hub: %w: no ID or no name", ErrCorrupt)
	}
	h := provision.Hub{
		ID:               provision.HubID{UUID: [16]byte(m.Id)},
		Name:             m.Name,
		Version:          m.Version,
		Declared:         m.Declared,
		Disabled:         m.Disabled,
		Deleting:         m.Deleting,
		AutoProvisioning: m.AutoProvisioning,
		SNIOnly:          m.SniOnly,
		UnicodeNames:     m.UnicodeNames,
		Anchors:          m.Anchors,
		Intermediates:    m.Intermediates,
		CreatedAt:        instant(m.Created),
		UpdatedAt:        instant(orElse(m.Updated, m.Created)),
		Unknown:          m.ProtoReflect().GetUnknown(),

		EventsDisabled:    m.EventsDisabled,
		EventsTopicPrefix: m.EventsTopicPrefix,
		ProductPlan:       m.ProductPlan,
		CRLSources:        m.CrlSources,
		Revocations:       m.Revocations,
	}
	var errs [5]error
	h.Project, errs[0] = uuidOf(m.Project)
	h.Policy, errs[3] = policy(m.Policy)
	h.AnchorFacts, errs[1] = anchorFacts(m.AnchorFacts)
	if p := m.Proposal; p != nil {
		h.Proposal = &provision.Proposal{
			At: instant(p.At), Anchors: p.Anchors, Intermediates: p.Intermediates, SNIOnly: p.SniOnly,
		}
		h.Proposal.ID, errs[2] = uuidOf(p.Id)
		h.Proposal.Admission, errs[4] = rules(p.Admission)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return provision.Hub{}, fmt.Errorf("hub: %w: %w", ErrCorrupt, err)
	}
	return h, nil
}

// uuidOf reads a UUID; an absent one is the zero UUID.
func uuidOf(b []byte) (uuid.UUID, error) {
	if len(b) == 0 {
		return uuid.Nil, nil
	}
	return uuid.FromBytes(b)
}

// anchorFactsPB returns them in the order of their fingerprints, so that equal
// records are equal bytes.
func anchorFactsPB(facts map[trust.Fingerprint]provision.AnchorFacts) []*recordpb.AnchorFacts {
	var all []*recordpb.AnchorFacts
	for print, f := range facts {
		all = append(all, &recordpb.AnchorFacts{
			Fingerprint: print[:], Added: nanos(f.AddedAt), AddedBy: f.AddedBy, Waived: f.Waived, WaiverReason: f.WaiverReason,
			Group: f.Group,
		})
	}
	slices.SortFunc(all, func(a, b *recordpb.AnchorFacts) int { return bytes.Compare(a.Fingerprint, b.Fingerprint) })
	return all
}

func anchorFacts(all []*recordpb.AnchorFacts) (map[trust.Fingerprint]provision.AnchorFacts, error) {
	if len(all) == 0 {
		return nil, nil
	}
	facts := make(map[trust.Fingerprint]provision.AnchorFacts, len(all))
	for _, f := range all {
		if len(f.Fingerprint) != len(trust.Fingerprint{}) {
			return nil, fmt.Errorf("fingerprint of %d bytes", len(f.Fingerprint))
		}
		facts[trust.Fingerprint(f.Fingerprint)] = provision.AnchorFacts{
			AddedAt: instant(f.Added), AddedBy: f.AddedBy, Waived: f.Waived, WaiverReason: f.WaiverReason,
			Group: f.Group,
		}
	}
	return facts, nil
}

// EncodeDevice returns the stored form of a device, without its hub and ID.
func EncodeDevice(d provision.Device) ([]byte, error) {
	m := &recordpb.Device{
		Schema:                   Schema,
		Name:                     d.Name,
		Version:                  d.Version,
		Disabled:                 d.Disabled,
		AllowInsecure:            d.AllowInsecure,
		AllowMultipleConnections: d.AllowMultipleConnections,
		DisabledReason:           d.DisabledReason,
		FirstKey:                 hashPB(d.FirstKey),
		PendingKey:               hashPB(d.PendingKey),
		Anchor:                   hashPB(d.Anchor),
		Created:                  nanos(d.CreatedAt),
		Updated:                  unlessEqual(nanos(d.UpdatedAt), nanos(d.CreatedAt)),
		SessionsEndBefore:        nanos(d.SessionsEndBefore),
	}
	if d.Description != provision.ProvisionedBy(d.ProvisionedFrom) {
		m.Description = &d.Description
	}
	if d.CurrentKey != d.FirstKey {
		m.CurrentKey = d.CurrentKey[:]
	}
	if d.Issuer != d.Anchor {
		m.Issuer = d.Issuer[:]
	}
	if !d.Secret.IsZero() {
		m.Secret = d.Secret[:]
	}
	if c := d.Custom; c != nil {
		m.Custom = &recordpb.CustomCertificate{Der: c.DER, Key: c.Key[:], Expires: nanos(c.Expires)}
	}
	if d.ProvisionedFrom.IsValid() {
		m.ProvisionedFrom = d.ProvisionedFrom.AsSlice()
	}
	if f := d.Filters; f != nil {
		m.Filters = &recordpb.Filters{Publish: filterPB(f.Publish), Subscribe: filterPB(f.Subscribe)}
	}
	m.ProtoReflect().SetUnknown(d.Unknown)
	return marshal(m)
}

// DecodeDevice reads the stored form of a device of that hub. Its error is
// ErrCorrupt.
func DecodeDevice(hub provision.HubID, b []byte) (provision.Device, error) {
	var m recordpb.Device
	if err := unmarshal(b, &m); err != nil {
		return provision.Device{}, fmt.Errorf("device: %w", err)
	}
	d := provision.Device{
		ID:                       provision.DeviceIDOf(hub, m.Name),
		Hub:                      hub,
		Name:                     m.Name,
		Version:                  m.Version,
		Disabled:                 m.Disabled,
		AllowInsecure:            m.AllowInsecure,
		AllowMultipleConnections: m.AllowMultipleConnections,
		DisabledReason:           m.DisabledReason,
		CreatedAt:                instant(m.Created),
		UpdatedAt:                instant(orElse(m.Updated, m.Created)),
		SessionsEndBefore:        instant(m.SessionsEndBefore),
		Unknown:                  m.ProtoReflect().GetUnknown(),
	}
	var errs [8]error
	if m.Name == "" {
		errs[0] = errors.New("no name")
	}
	d.FirstKey, errs[1] = keyHash(m.FirstKey, trust.KeyHash{})
	d.CurrentKey, errs[2] = keyHash(m.CurrentKey, d.FirstKey)
	d.PendingKey, errs[5] = keyHash(m.PendingKey, trust.KeyHash{})
	d.Anchor, errs[3] = keyHash(m.Anchor, trust.KeyHash{})
	d.Issuer, errs[4] = keyHash(m.Issuer, d.Anchor)
	if c := m.Custom; c != nil {
		d.Custom = &provision.CustomCertificate{DER: c.Der, Expires: instant(c.Expires)}
		if d.Custom.Key, errs[6] = keyHash(c.Key, trust.KeyHash{}); errs[6] == nil && d.Custom.Key == (trust.KeyHash{}) {
			errs[6] = errors.New("custom certificate without a key")
		}
	}
	d.ProvisionedFrom, errs[7] = address(m.ProvisionedFrom)
	if err := errors.Join(errs[:]...); err != nil {
		return provision.Device{}, fmt.Errorf("device: %w: %w", ErrCorrupt, err)
	}
	if len(m.Secret) > 0 {
		if len(m.Secret) != len(d.Secret) {
			return provision.Device{}, fmt.Errorf("device: %w: secret's hash of %d bytes", ErrCorrupt, len(m.Secret))
		}
		d.Secret = provision.SecretHash(m.Secret)
	}
	d.Description = provision.ProvisionedBy(d.ProvisionedFrom)
	if m.Description != nil {
		d.Description = *m.Description
	}
	if f := m.Filters; f != nil {
		d.Filters = &provision.Filters{Publish: filter(f.Publish), Subscribe: filter(f.Subscribe)}
	}
	return d, nil
}

func marshal(m proto.Message) ([]byte, error) {
	// Deterministic, so that equal records are equal bytes: the stores compare
	// bytes to find out whether a record changed under an edit.
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return b, nil
}

func unmarshal(b []byte, m interface {
	proto.Message
	GetSchema() uint32
}) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if m.GetSchema() == 0 {
		return fmt.Errorf("%w: no schema number", ErrCorrupt)
	}
	return nil
}

// hashPB leaves out a zero hash: of a device that is not bound.
func hashPB(k trust.KeyHash) []byte {
	if k == (trust.KeyHash{}) {
		return nil
	}
	return k[:]
}

// keyHash reads a hash; an absent one takes the given value.
func keyHash(b []byte, absent trust.KeyHash) (trust.KeyHash, error) {
	switch len(b) {
	case 0:
		return absent, nil
	case len(trust.KeyHash{}):
		return trust.KeyHash(b), nil
	default:
		return trust.KeyHash{}, fmt.Errorf("key hash of %d bytes", len(b))
	}
}

// address reads an IP address; an absent one is the zero Addr.
func address(b []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(b)
	if !ok && len(b) > 0 {
		return a, fmt.Errorf("address of %d bytes", len(b))
	}
	return a, nil
}

func filterPB(f provision.Filter) *recordpb.Filter {
	return &recordpb.Filter{Reject: f.Reject, Topics: f.Topics}
}

func filter(m *recordpb.Filter) provision.Filter {
	return provision.Filter{Reject: m.GetReject(), Topics: m.GetTopics()}
}

// nanos is 0 for the zero time, so that it takes no bytes and comes back as
// the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func unlessEqual(v, other int64) int64 {
	if v == other {
		return 0
	}
	return v
}

func orElse(v, other int64) int64 {
	if v == 0 {
		return other
	}
	return v
}
