package provision

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"

	"github.com/google/uuid"
)

// HubID identifies a hub.
type HubID struct{ uuid.UUID }

// DeviceID identifies a device; it follows from the hub and the device's name.
// It is computable by anyone who knows both, so it is never a credential.
type DeviceID struct{ uuid.UUID }

// IsZero reports whether the ID is unset.
func (id HubID) IsZero() bool { return id.UUID == uuid.Nil }

// IsZero reports whether the ID is unset.
func (id DeviceID) IsZero() bool { return id.UUID == uuid.Nil }

// NewHubID returns a random (version 4) hub ID.
func NewHubID() HubID { return HubID{uuid.New()} }

// ParseHubID reads the canonical form of a hub ID.
func ParseHubID(s string) (HubID, error) {
	id, err := parseID(s)
	return HubID{id}, err
}

// ParseDeviceID reads the canonical form of a device ID.
func ParseDeviceID(s string) (DeviceID, error) {
	id, err := parseID(s)
	return DeviceID{id}, err
}

// parseID accepts the 36-character form only: uuid.Parse takes braces and URNs
// as well, and two spellings of one ID would be two labels for SNI.
func parseID(s string) (uuid.UUID, error) {
	if len(s) != 36 {
		return uuid.Nil, fmt.Errorf("%q is not a UUID", s)
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%q is not a UUID", s)
	}
	return id, nil
}

// DeclaredHubID is the ID of a hub that is declared by name only:
// UUIDv8 (RFC 9562) of SHA-256("hubgate hub" ‖ name)[0:16].
func DeclaredHubID(name string) HubID {
	sum := sha256.Sum256([]byte("hubgate hub" + name))
	return HubID{uuidV8([16]byte(sum[:16]))}
}

// DeviceIDOf is the ID of the device of that name on that hub, a UUIDv8 (RFC
// 9562): bytes 0–1 are SHA-256(hub ID)[0:2], so that all devices of a hub share
// a partition that the ID alone tells; bytes 2–15 are SHA-256(hub ID ‖
// name)[0:14]; then version and variant bits.
func DeviceIDOf(hub HubID, name string) DeviceID {
	h := sha256.Sum256(hub.UUID[:])
	var in [16 + 4*MaxNameRunes]byte // the longest valid name, on the stack
	sum := sha256.Sum256(append(append(in[:0], hub.UUID[:]...), name...))
	var id [16]byte
	copy(id[:2], h[:2])
	copy(id[2:], sum[:14])
	return DeviceID{uuidV8(id)}
}

func uuidV8(b [16]byte) uuid.UUID {
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return b
}

// Partition is the partition, 0 ≤ p < n, that holds the hub and all its own.
func (id HubID) Partition(n int) int { return int(id.slot()) % n }

// slot is what tells the partition, however many there are.
func (id HubID) slot() uint16 {
	h := sha256.Sum256(id.UUID[:])
	return binary.BigEndian.Uint16(h[:2])
}

// Partition is the partition, 0 ≤ p < n, that holds the device: its hub's.
func (id DeviceID) Partition(n int) int {
	return int(binary.BigEndian.Uint16(id.UUID[:2])) % n
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// CheckHubName reports what makes a hub name unusable: it has to be a lowercase
// DNS label (RFC 1123), so that it works in SNI, and not look like a UUID, so
// that it can never be mistaken for another hub's ID.
func CheckHubName(name string) error {
	if !dnsLabel.MatchString(name) {
		return fmt.Errorf("hub name %q: use 1 to 63 lowercase letters, digits and inner dashes (a DNS label)", name)
	}
	if _, err := parseID(name); err == nil {
		return fmt.Errorf("hub name %q: looks like a UUID, which is kept for hub IDs", name)
	}
	return nil
}
