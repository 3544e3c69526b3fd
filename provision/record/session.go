package record

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record/recordpb"
	"github.com/hubgate/hubgate/trust"
)

// sessionSchema is the version of a session's form that this build writes.
//
//	1  the first
//	2  how the device got in, if not by an anchor; its chain; why it should have
//	   ended, if it could not be
const sessionSchema = 2

// EncodeSession returns the stored form of a session, without its hub, device
// and ID.
func EncodeSession(s provision.Session) ([]byte, error) {
	m := &recordpb.Session{
		Schema:       sessionSchema,
		DeviceName:   s.DeviceName,
		Protocol:     string(s.Protocol),
		Node:         s.Envoy.Node,
		Epoch:        s.Envoy.Epoch,
		Connection:   s.Connection,
		Since:        nanos(s.Since),
		LastActivity: unlessEqual(nanos(s.LastActivity), nanos(s.Since)),
		Confirmed:    s.Confirmed,
		Unended:      string(s.Unended),
		Expires:      nanos(s.Expires),
		Custom:       s.Custom,
		Anchor:       hashPB(s.Anchor),
	}
	for _, id := range s.Certificates {
		m.Certificates = append(m.Certificates, id[:]...)
	}
	if s.Source.IsValid() {
		m.Source = s.Source.AsSlice()
	}
	if !s.Secret.IsZero() {
		m.Secret = s.Secret[:]
	}
	m.ProtoReflect().SetUnknown(s.Unknown)
	return marshal(m)
}

// DecodeSession reads the stored form of the session of that ID on that hub.
// Its error is ErrCorrupt.
func DecodeSession(hub provision.HubID, id SessionID, b []byte) (provision.Session, error) {
	var m recordpb.Session
	if err := unmarshal(b, &m); err != nil {
		return provision.Session{}, fmt.Errorf("session: %w", err)
	}
	if m.DeviceName == "" {
		return provision.Session{}, fmt.Errorf("session: %w: no device name", ErrCorrupt)
	}
	s := provision.Session{
		ID:           id.String(),
		Hub:          hub,
		Device:       provision.DeviceIDOf(hub, m.DeviceName),
		DeviceName:   m.DeviceName,
		Protocol:     provision.Protocol(m.Protocol),
		Envoy:        provision.EnvoyID{Node: m.Node, Epoch: m.Epoch},
		Connection:   m.Connection,
		Since:        instant(m.Since),
		LastActivity: instant(orElse(m.LastActivity, m.Since)),
		Confirmed:    m.Confirmed,
		Unended:      provision.EndReason(m.Unended),
		Expires:      instant(m.Expires),
		Custom:       m.Custom,
		Unknown:      m.ProtoReflect().GetUnknown(),
	}
	for id := range slices.Chunk(m.Certificates, len(trust.RevocationID{})) {
		if len(id) < len(trust.RevocationID{}) {
			return provision.Session{}, fmt.Errorf("session: %w: revocation IDs of %d bytes", ErrCorrupt, len(m.Certificates))
		}
		s.Certificates = append(s.Certificates, trust.RevocationID(id))
	}
	if len(m.Secret) > 0 {
		if len(m.Secret) != len(s.Secret) {
			return provision.Session{}, fmt.Errorf("session: %w: mark of %d bytes", ErrCorrupt, len(m.Secret))
		}
		s.Secret = provision.SecretMark(m.Secret)
	}
	var errs [2]error
	s.Source, errs[0] = address(m.Source)
	s.Anchor, errs[1] = keyHash(m.Anchor, trust.KeyHash{})
	if err := errors.Join(errs[:]...); err != nil {
		return provision.Session{}, fmt.Errorf("session: %w: %w", ErrCorrupt, err)
	}
	return s, nil
}

// SessionID is a session's ID as keys have it.
type SessionID struct{ uuid.UUID }

// ParseSessionID reads a session's ID. UUIDs alone are IDs, and in their
// canonical form, so that one session has one key.
func ParseSessionID(id string) (SessionID, error) {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.String() != id {
		return SessionID{}, fmt.Errorf("session ID %q is not a UUID", id)
	}
	return SessionID{parsed}, nil
}

// CheckSession reports what makes a session none that a store can keep: an ID
// that is no UUID, or a device that is not the one of its name on its hub. The
// latter is ErrNotFound, as there is no such device.
func CheckSession(s provision.Session) (SessionID, error) {
	id, err := ParseSessionID(s.ID)
	if err != nil {
		return id, err
	}
	if s.Device != provision.DeviceIDOf(s.Hub, s.DeviceName) {
		return id, fmt.Errorf("device %s is not %q on hub %s: %w", s.Device, s.DeviceName, s.Hub, provision.ErrNotFound)
	}
	return id, nil
}
