package provision

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// CustomCertificate is a certificate that an administrator gave a device. From
// then on the device gets in with its key alone: a chain to an anchor of the hub
// is not needed (Policy.CustomCertificates) and, with another key, not enough.
type CustomCertificate struct {
	DER     []byte
	Key     trust.KeyHash
	Expires time.Time
}

// MaxCustomCertificate bounds a custom certificate, in bytes of DER: it is part of
// its device's record, which caches keep.
const MaxCustomCertificate = 4 << 10

// ReadCustomCertificate reads a certificate (DER) that is to be a device's: it has
// to be one that a device of that name could connect with, now or, with a zero
// time, at some time.
func ReadCustomCertificate(der []byte, name string, unicode bool, now time.Time) (*CustomCertificate, error) {
	if len(der) > MaxCustomCertificate {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(der), MaxCustomCertificate)
	}
	chain, err := trust.ParseChain(der, nil)
	if err != nil {
		return nil, err
	}
	if now.IsZero() {
		now = chain.Leaf().NotAfter
	}
	if err := chain.CheckLeaf(now); err != nil {
		return nil, err
	}
	leaf := chain.Leaf()
	switch cn, err := deviceName(leaf, unicode); {
	case err != nil:
		return nil, err
	case cn != name:
		return nil, fmt.Errorf("its common name is %q, and the device's name is %q: the device is found by it", cn, name)
	}
	return &CustomCertificate{DER: der, Key: trust.KeyHashOf(leaf), Expires: leaf.NotAfter}, nil
}

// Equal reports whether two devices have the same one, or none.
func (c *CustomCertificate) Equal(o *CustomCertificate) bool {
	if c == nil || o == nil {
		return c == o
	}
	return bytes.Equal(c.DER, o.DER)
}

// owns reports whether the key is that of the device's custom certificate.
func (d *Device) owns(key trust.KeyHash) bool {
	return d != nil && d.Custom != nil && d.Custom.Key == key
}

// identifyAlone reads a leaf that verifies under no anchor of the hub. It returns
// nil unless the hub lets such a leaf in where its key is that of the device's
// custom certificate. Whose name it has is not proved by it; the key is what
// Envoy saw used. A hub that was found by issuer has no say: its anchors signed the chain.
func identifyAlone(f *Facts, h *Hub) *Identity {
	var failure *trust.Error
	if !h.Policy.CustomCertificates || f.HubFrom == "issuer" || !errors.As(f.PathErr, &failure) || failure.Fault == trust.Revoked {
		return nil
	}
	leaf := f.Chain.Leaf()
	name, err := deviceName(leaf, h.UnicodeNames)
	if err != nil || f.Chain.CheckLeaf(f.Now) != nil {
		return nil
	}
	key := trust.KeyHashOf(leaf)
	return &Identity{
		Name: name, Device: DeviceIDOf(h.ID, name), Key: key,
		Revocable: []trust.RevocationID{trust.KeyID(key)}, Expires: leaf.NotAfter,
	}
}

// alone reports whether the leaf is looked at without a path.
func (f *Facts) alone() bool { return f.PathErr != nil && f.Identity != nil }

// customDevice is step 7 for a device that has a custom certificate.
func customDevice(f *Facts) finding {
	c := f.Device.Custom
	switch {
	case !f.Device.owns(f.Identity.Key):
		return finding{DeviceKeyChanged, fmt.Sprintf("the key is %s; the device has a custom certificate, with the key %s", f.Identity.Key, c.Key)}
	case f.Now.After(c.Expires):
		return finding{CertificateExpired, fmt.Sprintf("the device's custom certificate expired at %s", c.Expires.Format(time.RFC3339))}
	}
	return finding{DeviceKnown, "known device, by its custom certificate"}
}

// foreignTo reports whether the device's custom certificate, or that it has none,
// rules out the chain that the session came with.
func (s Session) foreignTo(d *Device, h *Hub) bool {
	switch {
	case !s.Secret.IsZero(): // it had no chain
		return false
	case len(s.Certificates) == 0: // nobody knows which it had
		return d.Custom != nil && !h.Policy.CustomCertificates
	case d.Custom == nil:
		return s.Custom
	}
	return !slices.Contains(s.Certificates, trust.KeyID(d.Custom.Key))
}
