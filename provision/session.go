package provision

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// PendingSession is how long a session counts without being confirmed by its
// Envoy: from the check to the first byte that goes through.
const PendingSession = 10 * time.Second

// EnvoyID names one process of Envoy. The epoch is random per process, so that
// a connection ID, which restarts with the process, is never mistaken for
// another's. An Envoy without hubgate's module has none.
type EnvoyID struct {
	Node  string
	Epoch string
}

// LoggedEpoch begins what stands for the epoch of an Envoy without hubgate's
// library where only its access log tells of a session; what follows is the
// session's ID, so that each such session has a lease of its own.
const LoggedEpoch = "log/"

// HasLibrary reports whether the Envoy has hubgate's library, and can be told to
// end a connection.
func (e EnvoyID) HasLibrary() bool {
	return e.Epoch != "" && !strings.HasPrefix(e.Epoch, LoggedEpoch)
}

// Session is a live connection of a device: a connection of an Envoy process
// that a check allowed.
//
//	pending ──confirmed by its Envoy──▶ confirmed ──closed, or its Envoy's lease ran out──▶ gone
//	   └─────────10 s──────────▶ gone
type Session struct {
	ID         string // UUIDv7, minted by the check
	Hub        HubID
	Device     DeviceID
	DeviceName string
	Protocol   Protocol
	Envoy      EnvoyID
	// Connection is Envoy's number of the connection.
	Connection uint64
	Source     netip.Addr
	// Secret marks the secret that the device connected with, without TLS; zero
	// for a certificate.
	Secret SecretMark
	// Custom is set if the device connected with its custom certificate, under no
	// anchor of its hub.
	Custom bool
	// Anchor is the key of the trust anchor that its chain led to; zero if it led to
	// none, or nobody knows.
	Anchor trust.KeyHash
	// Since is when the check allowed it.
	Since time.Time
	// Certificates are the IDs by which its chain can be revoked, and Expires is
	// when the first certificate of the chain expires. Neither is known of a
	// session that nobody has a record of.
	Certificates []trust.RevocationID
	Expires      time.Time
	// Confirmed is set once the Envoy said that the connection is open.
	Confirmed bool
	// LastActivity is when bytes were last seen, to a minute; Since at first.
	LastActivity time.Time
	// Unended is why it should have been ended, and could not be, as its Envoy
	// has not hubgate's library; "" if it may go on.
	Unended EndReason
	// Unknown holds the record's fields of a newer schema. They survive a
	// rewrite by this version.
	Unknown []byte
}

// Tracker knows the sessions of devices. It is safe for concurrent use.
type Tracker interface {
	// Allowed is told of a check that was allowed, and returns the ID of the
	// connection's session: the one it has, if an earlier check on the same
	// connection made it, else that of the session it is given. "" means that
	// the connection cannot be followed. It does not block.
	Allowed(ctx context.Context, s Session) string
	// Claim is told of a check that is allowed unless another live session of
	// TCP is there, and returns that one, nil if there is none.
	Claim(ctx context.Context, s Session) (other *Session, err error)
	// Connected returns the newest live session of TCP of a device, nil if there
	// is none.
	Connected(ctx context.Context, hub HubID, device DeviceID) (*Session, error)
}

// newSession is the session of a connection that was just allowed.
func newSession(f *Facts, d Decision) Session {
	c := &f.Connection
	s := Session{
		ID: newID(), Hub: d.Hub, Device: d.Device, DeviceName: d.DeviceName, Protocol: c.Protocol,
		Envoy: EnvoyID{Node: c.Node}, Source: c.Source, Since: f.Now, LastActivity: f.Now,
	}
	if i := f.Identity; i != nil {
		s.Certificates, s.Expires, s.Anchor, s.Custom = i.Revocable, i.Expires, i.Anchor, f.alone()
		if f.Device != nil && f.Device.Custom != nil && f.Device.Custom.Expires.Before(s.Expires) {
			s.Expires = f.Device.Custom.Expires
		}
	}
	if !c.TLS {
		s.Secret = c.Credentials.Secret.Mark()
	}
	epoch, number, ok := strings.Cut(c.EnvoyConnection, "/")
	if ok {
		s.Envoy.Epoch = epoch
	} else {
		number = c.EnvoyConnection
	}
	s.Connection, _ = strconv.ParseUint(number, 10, 64) // 0, which Envoy never uses, if there is none
	return s
}

// EndReason is why a session is ended.
type EndReason string

// Why sessions end.
const (
	EndHubGone        EndReason = "hub_gone"
	EndHubDisabled    EndReason = "hub_disabled"
	EndDeviceGone     EndReason = "device_gone"
	EndDeviceDisabled EndReason = "device_disabled"
	EndSecretChanged  EndReason = "secret_changed"
	EndCustomChanged  EndReason = "certificate_changed"
	EndAnchorRemoved  EndReason = "anchor_removed"
	EndElsewhere      EndReason = "connected_elsewhere"
	EndOrdered        EndReason = "ended_by_operator"
	EndRevoked        EndReason = "certificate_revoked"
	EndChainExpired   EndReason = "chain_expired"
	EndTooOld         EndReason = "session_too_old"
)

// MustEnd says why a session may not go on, "" if it may: its hub and device as
// they are now, nil if they are gone. It is pure.
func MustEnd(s Session, h *Hub, d *Device, now time.Time) EndReason {
	switch {
	case h == nil || h.Deleting:
		return EndHubGone
	case h.Disabled:
		return EndHubDisabled
	case d == nil, s.Secret.IsZero() && d.Custom == nil && !d.Bound():
		// One that never connected was created anew: the session is of a device
		// of its name that is gone.
		return EndDeviceGone
	case d.Disabled:
		return EndDeviceDisabled
	case !s.Secret.IsZero() && (!d.AllowInsecure || s.Secret != d.Secret.Mark()):
		return EndSecretChanged
	case s.foreignTo(d, h):
		return EndCustomChanged
	case s.lostAnchor(d, h):
		return EndAnchorRemoved
	case s.Since.Before(d.SessionsEndBefore):
		return EndOrdered
	}
	return s.EndedBy(h, now)
}

// EndedBy says why a session may not go on, "" if it may, by what is known of it
// alone: its chain is revoked or has expired, it is too old, or it came with a
// custom certificate, which its hub takes no more. It is pure.
func (s Session) EndedBy(h *Hub, now time.Time) EndReason {
	if s.Custom && !h.Policy.CustomCertificates {
		return EndCustomChanged
	}
	if h.isRevoked(s.Certificates) {
		return EndRevoked
	}
	if ends, reason := s.EndsAt(h); !ends.IsZero() && !now.Before(ends) {
		return reason
	}
	return ""
}

// EndsAt is when the session has to end if nothing changes, and why: when its
// chain expires, or when it is as old as a session of the hub may become. It is
// the zero time if it need not. It is pure.
func (s Session) EndsAt(h *Hub) (ends time.Time, reason EndReason) {
	if !s.Expires.IsZero() {
		ends, reason = s.Expires.Add(time.Nanosecond), EndChainExpired // valid until then inclusive
	}
	if age := h.Policy.MaxSessionAge; age > 0 {
		if old := s.Since.Add(age); ends.IsZero() || old.Before(ends) {
			ends, reason = old, EndTooOld
		}
	}
	return ends, reason
}

// AnchorOf returns the key of the anchor that the session came in under, zero if it
// was by none. Of a session that nobody has a record of, it is the anchor that
// admitted the device last.
func (s Session) AnchorOf(d *Device) trust.KeyHash {
	if s.Anchor == (trust.KeyHash{}) && s.Secret.IsZero() && !s.Custom && d.Custom == nil {
		return d.Anchor
	}
	return s.Anchor
}

func (s Session) lostAnchor(d *Device, h *Hub) bool {
	anchor := s.AnchorOf(d)
	return anchor != trust.KeyHash{} && !trustedBy(anchor, h)
}

// trustedBy reports whether the anchor is still one of the hub's.
func trustedBy(anchor trust.KeyHash, h *Hub) bool {
	certs, err := parseAll(h.Anchors)
	return err == nil && slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return trust.KeyHashOf(c) == anchor })
}

// LostEnvoyKept is how long a store keeps the sessions of an Envoy whose lease
// ran out, for EnvoySessions alone: the Envoy may only have been cut off.
const LostEnvoyKept = 10 * time.Minute

// Sessions is what live connections need of a store. They need not outlive a
// store that is one process's own: Envoys tell again after every reconnect.
type Sessions interface {
	// PutSession records a session, and in the same step returns its device as
	// it is, ErrNotFound if it is gone (then nothing is recorded). So a session
	// recorded after its device was changed is never overlooked: either whoever
	// made the change finds the session, or whoever records the session sees the
	// change. A confirmed session replaces the one of its ID; an unconfirmed one
	// is recorded only where there is none of its ID. alone reports whether the
	// device has no other session on record, living or not, so that of two that
	// are recorded at once at least one knows of the other.
	PutSession(ctx context.Context, s Session) (d Device, alone bool, err error)
	// ClaimSession records a session as PutSession does, unless the device has
	// another live one of TCP: then it records nothing and returns that, the
	// newest of them. It is one atomic step: of any number of claims at once, one
	// is recorded.
	ClaimSession(ctx context.Context, s Session) (other *Session, err error)
	// RemoveSession removes a session; one that is gone is no error.
	RemoveSession(ctx context.Context, s Session) error
	// DeviceSessions returns the device's live sessions, oldest first: pending
	// for less than PendingSession, or confirmed and of an Envoy whose lease
	// holds.
	DeviceSessions(ctx context.Context, hub HubID, device DeviceID) ([]Session, error)
	// HubSessions returns up to limit of the hub's live sessions after the
	// cursor ("" = from the start), and the next cursor, "" at the end. They
	// come in the order of their IDs, so by age. A page may hold fewer than
	// limit, or none, and not be the last. A session that lives from first page
	// to last is listed exactly once.
	HubSessions(ctx context.Context, hub HubID, cursor string, limit int) ([]Session, string, error)
	// EnvoySessions returns what is recorded of the Envoy process in all hubs,
	// in no order: also while its lease does not hold, for LostEnvoyKept. Of an
	// Envoy without the library, which never asks, it may return none.
	EnvoySessions(ctx context.Context, envoy EnvoyID) ([]Session, error)
	// AnnounceSessions tells every process that the sessions of a device have
	// changed: a SessionsChanged in the change feed.
	AnnounceSessions(ctx context.Context, hub HubID, device DeviceID) error
	// RenewEnvoy says that the Envoy process lives, for that long. One renewal
	// keeps all its sessions. A zero duration ends the lease at once.
	// Renew it before putting sessions that it is to keep.
	RenewEnvoy(ctx context.Context, envoy EnvoyID, lease time.Duration) error
}
