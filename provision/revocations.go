package provision

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// Bounds of what is revoked on a hub.
const (
	// MaxRevoked bounds what administrators revoke by hand; who has more to
	// revoke makes a CRL.
	MaxRevoked = 10_000
	// MaxCRLs and MaxCRLBytes bound a hub's CRLs, and their size in all.
	MaxCRLs     = 32
	MaxCRLBytes = 4 * trust.MaxCRLBytes
	// MaxCRLSources bounds the files and addresses that a hub's CRLs come from.
	MaxCRLSources = 32
)

// Revocations are what is revoked on a hub: by hand, and by the newest CRL of
// each issuer.
type Revocations struct {
	ByHand map[trust.RevocationID]Revocation
	CRLs   map[trust.KeyHash]StoredCRL // by the issuer's key
}

// Revocation is a certificate, or a key, that an administrator revoked.
type Revocation struct {
	// Issuer and Serial name a certificate; then Key is zero. Else Key names a
	// key, and Serial is nil.
	Issuer trust.KeyHash
	Serial *big.Int
	Key    trust.KeyHash
	Reason string // for people; may be empty
	By     string // who did it
	At     time.Time
}

// ID is what it is found by.
func (r Revocation) ID() trust.RevocationID {
	if r.Serial == nil {
		return trust.KeyID(r.Key)
	}
	return trust.SerialID(r.Issuer, r.Serial)
}

// StoredCRL is what a store keeps of a CRL. The list itself is beside it, as
// it may be large.
type StoredCRL struct {
	Digest                 trust.Fingerprint // of the list
	Name                   string            // of the issuer, for people
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	Entries, Size          int
	AddedAt                time.Time // when it took the place of the one before
	// Sources are the files and addresses that this issuer's lists came from.
	Sources []string
	// List is the list, DER, if it is to be stored; a store returns nil.
	List []byte
}

// Errors of changes of what is revoked.
var (
	// ErrTooManyRevocations: a bound of what is revoked on a hub is reached.
	ErrTooManyRevocations = errors.New("too much is revoked")
	// ErrCRLGoesBack: the CRL is older than the one in force.
	ErrCRLGoesBack = errors.New("the CRL is not newer than the one in force")
)

// Revoke adds a revocation; what is revoked already is ErrUnchanged.
func (r *Revocations) Revoke(v Revocation) error {
	if _, there := r.ByHand[v.ID()]; there {
		return ErrUnchanged
	}
	if len(r.ByHand) >= MaxRevoked {
		return fmt.Errorf("%w: %d certificates and keys were revoked by hand, the most there can be; revoke them by a CRL", ErrTooManyRevocations, len(r.ByHand))
	}
	r.ByHand[v.ID()] = v
	return nil
}

// PutCRL takes in a CRL that came from a source, "" for an administrator, unless
// its number or its time goes back. What says nothing new is ErrUnchanged.
func (r *Revocations) PutCRL(c *trust.CRL, source string, now time.Time) error {
	old, replaces := r.CRLs[c.Issuer]
	digest := trust.FingerprintOfDER(c.DER)
	switch {
	case !replaces && len(r.CRLs) >= MaxCRLs:
		return fmt.Errorf("%w: the hub has %d CRLs, the most there can be", ErrTooManyRevocations, len(r.CRLs))
	case replaces && c.Number.Cmp(old.Number) < 0:
		return fmt.Errorf("%w: its number is %s, and was %s", ErrCRLGoesBack, c.Number, old.Number)
	case replaces && c.Number.Cmp(old.Number) == 0 && digest != old.Digest:
		return fmt.Errorf("%w: it is another list of the same number %s", ErrCRLGoesBack, c.Number)
	case replaces && c.ThisUpdate.Before(old.ThisUpdate):
		return fmt.Errorf("%w: it was made at %s, and the other one at %s", ErrCRLGoesBack,
			c.ThisUpdate.Format(time.RFC3339), old.ThisUpdate.Format(time.RFC3339))
	}
	size := len(c.DER) - old.Size
	for _, o := range r.CRLs {
		size += o.Size
	}
	if size > MaxCRLBytes {
		return fmt.Errorf("%w: with it, the hub's CRLs have %d bytes, more than %d", ErrTooManyRevocations, size, MaxCRLBytes)
	}
	stored := StoredCRL{
		Digest: digest, Name: c.Name.String(), Number: c.Number,
		ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate, Entries: len(c.Revoked), Size: len(c.DER),
		AddedAt: now, Sources: old.Sources, List: c.DER,
	}
	known := source == "" || slices.Contains(old.Sources, source)
	if digest == old.Digest {
		if known {
			return ErrUnchanged
		}
		stored.AddedAt, stored.List = old.AddedAt, nil
	}
	if !known {
		if len(stored.Sources) >= MaxCRLSources { // most of them are not the hub's any more
			stored.Sources = nil
		}
		stored.Sources = append(slices.Clone(stored.Sources), source)
	}
	r.CRLs[c.Issuer] = stored
	return nil
}

// CheckCRLURL says what is wrong with an address of a CRL. It may be of http, as
// CRLs are signed.
func CheckCRLURL(text string) error {
	const most = 1024
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" || len(text) > most:
		return fmt.Errorf("%q is no address of a CRL: write http://host/path or https://host/path", text)
	case u.User != nil:
		return fmt.Errorf("the address of a CRL at %s holds credentials: CRLs are public", u.Host)
	}
	return nil
}

// Authorities are the CAs that a hub knows: its anchors, its intermediates, and
// what it has learned.
func (h Hub) Authorities(learned [][]byte) []*x509.Certificate {
	var all []*x509.Certificate
	for _, der := range slices.Concat(h.Anchors, h.Intermediates, learned) {
		if c, err := x509.ParseCertificate(der); err == nil { // what is learned may be of another version
			all = append(all, c)
		}
	}
	return all
}
