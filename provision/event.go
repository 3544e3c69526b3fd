package provision

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// Severity of a hub event.
type Severity string

// Severities.
const (
	SeverityInfo  Severity = "info"
	SeverityError Severity = "error"
)

// ObjectType is what a hub event is about.
type ObjectType string

// Object types.
const (
	ObjectDevice ObjectType = "device"
	ObjectHub    ObjectType = "hub"
)

// eventSpecVersion is hubgate's own version of the event's form.
const eventSpecVersion = "1.0"

// Event is a hub event: what happened to a device or a hub. It is stored in the
// same step as what it tells. The JSON form is a contract.
type Event struct {
	ID            string     `json:"id"`
	SpecVersion   string     `json:"specversion"`
	Time          time.Time  `json:"time"`
	Severity      Severity   `json:"severity"`
	ObjectType    ObjectType `json:"object-type"`
	ObjectID      string     `json:"object-id"`
	ObjectName    string     `json:"object-name"`
	Hub           HubID      `json:"hub-id"`
	Message       string     `json:"msg"`
	Reason        string     `json:"reason"`
	SourceAddress string     `json:"source-address,omitempty"`
	Decision      string     `json:"decision-id,omitempty"`
	Count         int        `json:"count"`
}

// Act is what an administrator did to a device or a hub: the reason of the
// event that tells of it.
type Act string

// Acts.
const (
	Created  Act = "created"
	Updated  Act = "updated"
	Enabled  Act = "enabled"
	Disabled Act = "disabled"
	Deleted  Act = "deleted"
	// Disconnected: the connections it had were ended.
	Disconnected Act = "disconnected"
	// Bound: a device that an administrator created connected first, and got
	// its key and anchor.
	Bound Act = "bound"
	// A known device was admitted with another certificate than before: under
	// another anchor of the rotation group, with another key, or issued by
	// another CA under its anchor.
	AnchorChanged Act = "anchor_changed"
	KeyChanged    Act = "key_changed"
	IssuerChanged Act = "issuer_changed"
	// KeyPending: a device came with a key that no operator has approved.
	// KeyApproved: one has.
	KeyPending  Act = "key_pending"
	KeyApproved Act = "key_approved"
	// SecretCreated: the device has a new secret, and no other any more;
	// SecretRemoved: it has none.
	SecretCreated Act = "secret_created"
	SecretRemoved Act = "secret_removed"
	// CustomSet: the device has a custom certificate, and no other any more;
	// CustomRemoved: it has none.
	CustomSet     Act = "custom_certificate_set"
	CustomRemoved Act = "custom_certificate_removed"
	// Imported: devices were created out of a file, Count of them.
	Imported Act = "imported"
	// What a hub trusts was changed.
	AnchorAdded         Act = "anchor_added"
	AnchorRemoved       Act = "anchor_removed"
	AnchorExpiring      Act = "anchor_expiring"
	IntermediatesAdded  Act = "intermediates_added"
	IntermediateRemoved Act = "intermediate_removed"
	// What is revoked on a hub was changed.
	Revoked    Act = "revoked"
	Unrevoked  Act = "unrevoked"
	CRLAdded   Act = "crl_added"
	CRLRemoved Act = "crl_removed"
	// Names were put on a hub's claim list or taken off it, Count of them.
	ClaimsAdded   Act = "claims_added"
	ClaimsRemoved Act = "claims_removed"
)

// sentences tell of acts that are not told by "was" and the act.
var sentences = map[Act]string{
	Bound:               "device was bound to its certificate",
	AnchorChanged:       "device moved to another trust anchor",
	KeyChanged:          "device came with another key",
	IssuerChanged:       "device came with a certificate of another issuer",
	KeyPending:          "device came with a key that waits for approval",
	KeyApproved:         "another key of the device was approved",
	SecretCreated:       "device secret was created",
	SecretRemoved:       "device secret was removed",
	CustomSet:           "device got a custom certificate",
	CustomRemoved:       "custom certificate of the device was removed",
	Imported:            "devices were imported",
	AnchorAdded:         "trust anchor was added",
	AnchorRemoved:       "trust anchor was removed",
	IntermediatesAdded:  "intermediates were added",
	IntermediateRemoved: "intermediate was removed",
	Revoked:             "certificate was revoked",
	Unrevoked:           "revocation of a certificate was lifted",
	CRLAdded:            "certificate revocation list was added",
	CRLRemoved:          "certificate revocation list was removed",
	ClaimsAdded:         "claims were added",
	ClaimsRemoved:       "claims were removed",
}

func (a Act) message(object ObjectType) string {
	if sentence, ok := sentences[a]; ok {
		return sentence
	}
	return string(object) + " was " + string(a)
}

// OnDevice is the event of an administrator's act on a device.
func (a Act) OnDevice(d Device, now time.Time) Event {
	return Event{
		ID: newID(), SpecVersion: eventSpecVersion, Time: now, Severity: SeverityInfo,
		ObjectType: ObjectDevice, ObjectID: d.ID.String(), ObjectName: d.Name, Hub: d.Hub,
		Message: a.message(ObjectDevice), Reason: string(a), Count: 1,
	}
}

// OnHub is the event of an administrator's act on a hub.
func (a Act) OnHub(h Hub, now time.Time) Event {
	return Event{
		ID: newID(), SpecVersion: eventSpecVersion, Time: now, Severity: SeverityInfo,
		ObjectType: ObjectHub, ObjectID: h.ID.String(), ObjectName: h.Name, Hub: h.ID,
		Message: a.message(ObjectHub), Reason: string(a), Count: 1,
	}
}

// provisionedEvent tells that a device created itself.
func provisionedEvent(d Device, from netip.Addr, decision string, now time.Time) Event {
	return Event{
		ID: newID(), SpecVersion: eventSpecVersion, Time: now, Severity: SeverityInfo,
		ObjectType: ObjectDevice, ObjectID: d.ID.String(), ObjectName: d.Name, Hub: d.Hub,
		Message: DeviceProvisioned.Message(), Reason: string(DeviceProvisioned),
		SourceAddress: from.String(), Decision: decision, Count: 1,
	}
}

// Reasons of events that tell of trouble and that no check raises.
const (
	// ReasonSessionNotEnded: a session should have been ended, and could not be.
	ReasonSessionNotEnded = "session_not_ended"
	// ReasonEventsLost: retention took events before a sink had them.
	ReasonEventsLost = "events_lost"
	// ReasonCRLUnavailable: a source of CRLs gave none. It is a hub's event.
	ReasonCRLUnavailable = "crl_unavailable"
	// ReasonCRLOverdue: the next list of an issuer is due. It is a hub's event.
	ReasonCRLOverdue = "crl_overdue"
	// ReasonPing: somebody tries whether events arrive.
	ReasonPing = "ping"
)

// PlatformEvent is an event that belongs to no hub. Its hub ID and object ID are
// zero; it is in the partition of the zero hub ID, and for administrators of the
// whole platform alone.
func PlatformEvent(reason string, severity Severity, message string, count int, now time.Time) Event {
	return Event{
		ID: newID(), SpecVersion: eventSpecVersion, Time: now, Severity: severity,
		ObjectType: ObjectHub, ObjectID: HubID{}.String(), Message: message, Reason: reason, Count: count,
	}
}

// HubFailure is an event of something that went wrong about a hub, and that no
// check raised.
func HubFailure(h Hub, reason, message string, now time.Time) Event {
	e := PlatformEvent(reason, SeverityError, message, 1, now)
	e.Hub, e.ObjectID, e.ObjectName = h.ID, h.ID.String(), h.Name
	return e
}

// boundEvent tells that a device was bound to its certificate, or to another one
// than before.
func boundEvent(was, d Device, from netip.Addr, decision string, now time.Time) Event {
	act := Bound
	switch {
	case !was.Bound():
	case d.Anchor != was.Anchor:
		act = AnchorChanged
	case d.CurrentKey != was.CurrentKey:
		act = KeyChanged
	default:
		act = IssuerChanged
	}
	e := act.OnDevice(d, now)
	e.SourceAddress, e.Decision = from.String(), decision
	return e
}

// newID returns a UUIDv7 (RFC 9562), which sorts by time, to a millisecond. It
// cannot be guessed, and is no secret.
func newID() string { return newIDAt(time.Now()) }

func newIDAt(now time.Time) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16|rand.Uint64()&0xffff)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 7<<4
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
