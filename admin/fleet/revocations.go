package fleet

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// Revoked is what is revoked on a hub.
type Revoked struct {
	// ByHand are the oldest first.
	ByHand []provision.Revocation
	CRLs   []CRL
	// Sources are where CRLs come from.
	Sources []string
}

// CRL is the newest list of an issuer.
type CRL struct {
	Issuer trust.KeyHash
	provision.StoredCRL
}

// Revoked returns what is revoked on a hub.
func (f *Fleet) Revoked(ctx context.Context, p access.Principal, hub string) (Revoked, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return Revoked{}, err
	}
	stored, err := f.store.Revocations(ctx, h.ID)
	if err != nil {
		return Revoked{}, named(h, err)
	}
	r := Revoked{Sources: h.CRLSources}
	for _, v := range stored.ByHand {
		r.ByHand = append(r.ByHand, v)
	}
	slices.SortFunc(r.ByHand, func(a, b provision.Revocation) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID().String(), b.ID().String()))
	})
	for issuer, c := range stored.CRLs {
		r.CRLs = append(r.CRLs, CRL{issuer, c})
	}
	slices.SortFunc(r.CRLs, func(a, b CRL) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Issuer.String(), b.Issuer.String()))
	})
	return r, nil
}

// RevocationSpec names what to revoke, in one of four ways: a serial number and
// its issuer, a key, a certificate, or the key that a device has.
type RevocationSpec struct {
	Serial string // hexadecimal
	// Issuer is the SHA-256 of the issuer's key, or of its certificate if the hub
	// knows it.
	Issuer      string
	Key         string // SHA-256
	Certificate string // PEM
	Device      string // name or ID
	Reason      string
}

// Revoke revokes a certificate or a key on a hub, stored or declared: whoever
// uses it is refused, and its connections end. It takes an Operator. What is
// revoked already stays as it is.
func (f *Fleet) Revoke(ctx context.Context, p access.Principal, hub string, spec RevocationSpec) (v provision.Revocation, err error) {
	a := f.act(p, provision.Revoked)
	defer a.end(ctx, &err)
	h, err := f.findFor(ctx, p, hub, a)
	if err != nil {
		return v, err
	}
	if err := p.Need(access.Operator); err != nil {
		return v, err
	}
	if v, err = f.revocation(ctx, h, spec); err != nil {
		return v, err
	}
	v.By, v.At = p.Name, f.now()
	a.on("revocation", v.ID().String())
	a.on("reason", spec.Reason)
	err = f.changeRevoked(ctx, h, provision.Revoked, func(r *provision.Revocations) error {
		if known, there := r.ByHand[v.ID()]; there {
			v = known
		}
		return r.Revoke(v)
	})
	return v, err
}

// changeRevoked edits what is revoked on a hub.
func (f *Fleet) changeRevoked(ctx context.Context, h provision.Hub, act provision.Act, change func(*provision.Revocations) error) error {
	err := f.store.UpdateRevocations(ctx, h.ID, change, func(h provision.Hub) provision.Event { return act.OnHub(h, f.now()) })
	switch {
	case errors.Is(err, provision.ErrUnchanged):
		return errUnchanged
	case errors.Is(err, provision.ErrTooManyRevocations):
		return conflict(TooMany, "%s", err)
	case errors.Is(err, provision.ErrCRLGoesBack):
		return conflict(Outdated, "%s", err)
	case err != nil:
		return named(h, err)
	}
	f.inForce(ctx, h)
	return nil
}

// revocation finds out what is to be revoked.
func (f *Fleet) revocation(ctx context.Context, h provision.Hub, spec RevocationSpec) (v provision.Revocation, err error) {
	switch n := utf8.RuneCountInString(spec.Reason); {
	case strings.ContainsFunc(spec.Reason, unicode.IsControl):
		return v, invalid("reason", "reason: has control characters, which terminals may obey")
	case n > provision.MaxReasonRunes || !utf8.ValidString(spec.Reason):
		return v, invalid("reason", "reason: has %d characters, more than %d, or is no text", n, provision.MaxReasonRunes)
	case ways(spec.Serial, spec.Key, spec.Certificate, spec.Device) != 1:
		return v, invalid("", "name one thing to revoke: a serial with its issuer, a key, a certificate, or a device")
	case (spec.Serial == "") != (spec.Issuer == ""):
		return v, invalid("issuer", "serial and issuer go together: a serial number means something to its issuer only")
	}
	cas, err := f.authorities(ctx, h)
	if err != nil {
		return v, err
	}
	switch {
	case spec.Serial != "":
		v, err = bySerial(spec, cas)
	case spec.Key != "":
		if v.Key, err = trust.ParseKeyHash(spec.Key); err != nil {
			err = invalid("key", "key: %s", err)
		}
	case spec.Certificate != "":
		v, err = byCertificate(spec.Certificate, cas)
	default:
		v.Key, err = f.keyOf(ctx, h, spec.Device)
	}
	if err != nil {
		return v, err
	}
	for _, der := range h.Anchors {
		if c, err := x509.ParseCertificate(der); err == nil && v.Serial == nil && trust.KeyHashOf(c) == v.Key {
			return v, conflict(Conflict, "it is the key of %s, a trust anchor of hub %s: to end the trust in it, remove it there", c.Subject, h.Name)
		}
	}
	v.Reason = spec.Reason
	return v, nil
}

// ways counts the texts that are given.
func ways(texts ...string) (n int) {
	for _, t := range texts {
		if t != "" {
			n++
		}
	}
	return n
}

// maxSerial bounds serial numbers, in octets: RFC 5280 allows 20, and some CAs
// make longer ones.
const maxSerial = 32

func bySerial(spec RevocationSpec, cas []*x509.Certificate) (v provision.Revocation, err error) {
	octets, err := hex.DecodeString(evenHex(spec.Serial))
	if err != nil || len(octets) == 0 || len(octets) > maxSerial {
		return v, invalid("serial", "serial: %q is no serial number: write it in hexadecimal, as openssl does, %d octets at most", shorten(spec.Serial), maxSerial)
	}
	v.Serial = new(big.Int).SetBytes(octets)
	hash, err := trust.ParseFingerprint(spec.Issuer)
	if err != nil {
		return v, invalid("issuer", "issuer: %s", err)
	}
	v.Issuer = trust.KeyHash(hash)
	for _, c := range cas {
		if trust.FingerprintOf(c) == hash {
			v.Issuer = trust.KeyHashOf(c)
		}
	}
	return v, nil
}

// evenHex takes a number as people copy it: with colons, or with an odd number
// of digits.
func evenHex(s string) string {
	s = strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X"), ":", "")
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}

// byCertificate revokes the first certificate of a PEM text by its serial number,
// as the CA that signed it knows it.
func byCertificate(text string, cas []*x509.Certificate) (v provision.Revocation, err error) {
	all, err := parseAll("certificate", text)
	if err != nil {
		return v, err
	}
	c := all[0] // a device's file has its chain after it
	for _, ca := range cas {
		if slices.Equal(ca.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(ca) == nil {
			return provision.Revocation{Issuer: trust.KeyHashOf(ca), Serial: c.SerialNumber}, nil
		}
	}
	return v, invalid("certificate", "certificate: none of the hub's CAs signed it; revoke its key instead, SHA-256 %s", trust.KeyHashOf(c))
}

// keyOf returns the key that a device gets in with.
func (f *Fleet) keyOf(ctx context.Context, h provision.Hub, idOrName string) (trust.KeyHash, error) {
	d, err := f.findDevice(ctx, h, idOrName)
	if err != nil {
		return trust.KeyHash{}, err
	}
	if d.Custom != nil {
		return d.Custom.Key, nil
	}
	if !d.Bound() {
		return trust.KeyHash{}, conflict(Conflict, "device %s has never connected, so that it has no key yet: disable it instead", d.Name)
	}
	return d.CurrentKey, nil
}

// authorities are the CAs that a hub knows.
func (f *Fleet) authorities(ctx context.Context, h provision.Hub) ([]*x509.Certificate, error) {
	learned, err := f.store.Learned(ctx, h.ID)
	if err != nil {
		return nil, named(h, err)
	}
	return h.Authorities(learned), nil
}

// Unrevoke lifts a revocation that was made by hand. It takes an Operator.
func (f *Fleet) Unrevoke(ctx context.Context, p access.Principal, hub string, id trust.RevocationID) (err error) {
	a := f.act(p, provision.Unrevoked)
	defer a.end(ctx, &err)
	h, err := f.findFor(ctx, p, hub, a)
	if err != nil {
		return err
	}
	a.on("revocation", id.String())
	if err := p.Need(access.Operator); err != nil {
		return err
	}
	return f.changeRevoked(ctx, h, provision.Unrevoked, func(r *provision.Revocations) error {
		if _, there := r.ByHand[id]; !there {
			return fmt.Errorf("revocation %s %w", id, provision.ErrNotFound)
		}
		delete(r.ByHand, id)
		return nil
	})
}

// PutCRL takes in a CRL (PEM, or DER) that one of the hub's CAs signed. One that
// is older than what is in force is refused. It takes an Operator.
func (f *Fleet) PutCRL(ctx context.Context, p access.Principal, hub string, text []byte) (_ CRL, err error) {
	a := f.act(p, provision.CRLAdded)
	defer a.end(ctx, &err)
	h, err := f.findFor(ctx, p, hub, a)
	if err != nil {
		return CRL{}, err
	}
	if err := p.Need(access.Operator); err != nil {
		return CRL{}, err
	}
	cas, err := f.authorities(ctx, h)
	if err != nil {
		return CRL{}, err
	}
	c, err := trust.ParseCRL(text, cas)
	if err != nil {
		return CRL{}, invalidBy(NotUsable, "crl", "the CRL is not usable: %s", err)
	}
	a.on("issuer", c.Issuer.String())
	a.on("number", c.Number.String())
	var stored provision.StoredCRL
	err = f.changeRevoked(ctx, h, provision.CRLAdded, func(r *provision.Revocations) error {
		defer func() { stored = r.CRLs[c.Issuer] }()
		return r.PutCRL(c, "", f.now())
	})
	return CRL{c.Issuer, stored}, err
}

// RemoveCRL removes what an issuer's list revokes. It takes an Admin.
func (f *Fleet) RemoveCRL(ctx context.Context, p access.Principal, hub string, issuer trust.KeyHash) (err error) {
	a := f.act(p, provision.CRLRemoved)
	defer a.end(ctx, &err)
	h, err := f.findFor(ctx, p, hub, a)
	if err != nil {
		return err
	}
	a.on("issuer", issuer.String())
	if err := p.Need(access.Admin); err != nil {
		return err
	}
	return f.changeRevoked(ctx, h, provision.CRLRemoved, func(r *provision.Revocations) error {
		if _, there := r.CRLs[issuer]; !there {
			return fmt.Errorf("CRL of %s %w", issuer, provision.ErrNotFound)
		}
		delete(r.CRLs, issuer)
		return nil
	})
}

// SetCRLSources says where a stored hub's CRLs come from. What came from a source
// that is none any more stays in force. It takes an Admin.
func (f *Fleet) SetCRLSources(ctx context.Context, p access.Principal, hub string, urls []string) (err error) {
	a := f.act(p, provision.Updated)
	defer a.end(ctx, &err)
	h, err := f.findStored(ctx, p, hub, a)
	if err != nil {
		return err
	}
	if err := p.Need(access.Admin); err != nil {
		return err
	}
	if len(urls) > provision.MaxCRLSources {
		return conflict(TooMany, "%d sources of CRLs, more than %d", len(urls), provision.MaxCRLSources)
	}
	for i, u := range urls {
		if err := provision.CheckCRLURL(u); err != nil {
			return invalid("urls", "urls: %s", err)
		}
		if slices.Contains(urls[:i], u) {
			return invalid("urls", "urls: %s is there twice", u)
		}
	}
	now := f.now()
	after, err := f.store.UpdateHub(ctx, h.ID,
		func(h *provision.Hub) error {
			if slices.Equal(h.CRLSources, urls) {
				return errUnchanged
			}
			h.CRLSources, h.UpdatedAt = slices.Clone(urls), now
			return nil
		},
		func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, now) })
	if err != nil {
		if errors.Is(err, errUnchanged) {
			return err
		}
		return named(h, err)
	}
	f.inForce(ctx, after)
	return nil
}
