package provision

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// Device is what a hub remembers of one chip.
type Device struct {
	ID          DeviceID
	Hub         HubID
	Name        string
	Description string
	// Version counts the changes of the record, from 1.
	Version uint64

	// Disabled refuses the device; it is how a device is banned. DisabledReason
	// says for people why.
	Disabled       bool
	DisabledReason string
	// AllowInsecure lets the device connect without TLS, by its secret. Without
	// a secret that is nobody yet.
	AllowInsecure bool
	// Secret is that of the device; zero if it has none.
	Secret SecretHash
	// AllowMultipleConnections lets the device hold several connections.
	AllowMultipleConnections bool
	// Filters restrict what the device may publish and subscribe to. Nil, the
	// default, allows everything.
	Filters *Filters

	// FirstKey and CurrentKey are the leaf keys the device was created with
	// and was last accepted with. These four are zero for a device that an
	// administrator created and that never connected: see Bound.
	FirstKey   trust.KeyHash
	CurrentKey trust.KeyHash
	// PendingKey is the last other key that the device came with while its hub
	// lets in approved keys only; zero if it came with none.
	PendingKey trust.KeyHash
	// Anchor is the trust anchor that admitted the device, Issuer the
	// intermediate (or anchor) that signed its leaf.
	Anchor trust.KeyHash
	Issuer trust.KeyHash

	// Custom is the certificate that an administrator gave the device; nil if it
	// has none.
	Custom *CustomCertificate

	// SessionsEndBefore ends every session that began before it: how an
	// operator ends connections without disabling the device.
	SessionsEndBefore time.Time

	// ProvisionedFrom is the source address of the first connection.
	ProvisionedFrom netip.Addr
	CreatedAt       time.Time
	UpdatedAt       time.Time

	// Unknown holds the record's fields of a newer schema. They survive a
	// rewrite by this version.
	Unknown []byte
}

// Bound reports whether the device has connected: until then it has no key and
// no anchor, and its first accepted connection gives it both.
func (d Device) Bound() bool { return d.Anchor != trust.KeyHash{} }

// Filters are a device's message filters: topic patterns, MQTT wildcards.
type Filters struct {
	Publish   Filter
	Subscribe Filter
}

// Filter accepts or rejects the topics that match.
type Filter struct {
	// Reject turns the list into what is refused; else it is all that is
	// allowed.
	Reject bool
	Topics []string
}

// ProvisionedBy is the description of a device that created itself from that
// address.
func ProvisionedBy(from netip.Addr) string {
	return fmt.Sprintf("Auto-provisioned by %s", from)
}

// newDevice is the device that a first connection creates: no filters, no
// insecure connections, no multiple connections.
func newDevice(hub HubID, name string, path trust.Path, from netip.Addr, now time.Time) Device {
	key := trust.KeyHashOf(path.Leaf())
	return Device{
		ID:              DeviceIDOf(hub, name),
		Hub:             hub,
		Name:            name,
		Description:     ProvisionedBy(from),
		Version:         1,
		FirstKey:        key,
		CurrentKey:      key,
		Anchor:          trust.KeyHashOf(path.Anchor()),
		Issuer:          trust.KeyHashOf(path.Issuer()),
		ProvisionedFrom: from,
		CreatedAt:       now,
		UpdatedAt:       now,
	}
}
