package provision

import (
	"time"

	"github.com/hubgate/hubgate/trust"
)

// Identity is what a verified path says of a device on a hub.
type Identity struct {
	Name    string
	NameErr error // why the leaf's name is unfit, for operators
	Device  DeviceID
	// Key is the leaf's, Issuer that of the CA that issued it, Anchor that of the
	// trust anchor.
	Key, Issuer, Anchor trust.KeyHash
	// Issuers are the keys that signed the path's certificates.
	Issuers []trust.KeyHash
	// Revocable are the IDs by which the path can be revoked, Expires is when
	// its first certificate expires.
	Revocable []trust.RevocationID
	Expires   time.Time
}

// identify reads a path. It is pure.
func identify(path trust.Path, h *Hub) *Identity {
	i := &Identity{
		Key: trust.KeyHashOf(path.Leaf()), Issuer: trust.KeyHashOf(path.Issuer()), Anchor: trust.KeyHashOf(path.Anchor()),
		Issuers: path.Issuers(), Revocable: path.RevocationIDs(), Expires: path.Expires(),
	}
	i.Name, i.NameErr = deviceName(path.Leaf(), h.UnicodeNames)
	if i.NameErr == nil {
		i.Device = DeviceIDOf(h.ID, i.Name)
	}
	return i
}
