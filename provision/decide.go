package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// Facts are what a decision is made of. The Gate gathers them; Decide judges
// them. A fact that an earlier step makes pointless is left out.
type Facts struct {
	Connection Connection
	Now        time.Time

	// Limited is how long the certificates of the source network are not looked
	// at, as too many were refused; 0 if they are.
	Limited time.Duration

	// Chain is the parsed chain, nil if Leaf is empty or ChainErr is set.
	Chain    *trust.Chain
	ChainErr error // a *trust.Error

	// Hub is the hub that the connection belongs to, nil if none was found:
	// then NoHub says why.
	Hub   *Hub
	NoHub Problem
	// Rules are the hub's.
	Rules *Rules
	// HubFrom tells how the hub was found: "hint", "SNI" or "issuer".
	HubFrom string
	// AuthorityHub is the hub that the HTTP authority names: nil if it names
	// none. AuthorityUnknown is set if it names one that does not exist.
	AuthorityHub     *HubID
	AuthorityUnknown bool

	// Path is the verified chain under the hub's anchors, unless PathErr.
	Path    trust.Path
	PathErr error // a *trust.Error, or another error: ours
	// UserDevice is the device that the user name names, without TLS.
	UserDevice string
	// Identity is what the path says of the device. Decide fills it in. With a
	// PathErr it is what the leaf says alone, where that may be enough.
	Identity *Identity
	// NameIsHub reports whether a name is the ID of some hub.
	NameIsHub func(name string) bool

	// Looked is set once the store was asked for the device. Device is nil if
	// the hub does not know it. StoreErr is set if the store did not tell.
	Looked   bool
	Device   *Device
	StoreErr error
	// Asked is what hooks said of a device that the hub does not know. Nil: none
	// was asked.
	Asked *HookVerdict
	// Creatable is set in a dry run once the store said that it would create the
	// device.
	Creatable bool
	// Outage is set if the store did not answer and Device is what was known
	// before.
	Outage bool

	// Sought is set once the store was asked for another connection of a device
	// that may hold one. Other is nil if there is none; OtherErr is set if the
	// store did not tell.
	Sought   bool
	Other    *Session
	OtherErr error

	// learned is set if the hub has nothing to learn from the path.
	learned bool
	// stranger is set unless the certificates were recognised as those of a device:
	// that they are refused counts as a failure of their network.
	stranger bool
	// remembered is what a device with a custom certificate is recognised by.
	remembered *recognized
	// draft is the decision while Decide makes it: here, as each step takes its
	// address, it needs no memory of its own.
	draft Decision
}

// finding is what a step says: no reason to stop, or why it ends the check.
type finding struct {
	reason Reason // "" = go on
	detail string // what was found, for operators
}

// step is one row of the decision table.
type step struct {
	name  string
	check func(f *Facts, d *Decision) finding
}

// steps is the decision table, in order: the first step with a reason to refuse
// ends the check. insecureSteps is that of connections without TLS.
var steps = []step{
	{"certificate presented", usable},
	{"within limits", withinLimits},
	{"hub found", hubFound},
	{"hub enabled", hubEnabled},
	{"chain verifies", chainVerifies},
	{"name fits", nameFits},
	{"device", device},
	{"one connection at a time", oneConnection},
}

// Decide judges the facts. It is pure: the same facts give the same decision.
// It returns false when the facts that are there do not decide: then
// Decision.DeviceName is the device to look up, and Decide is called again with
// Looked set; or, if it is, the hooks are to be asked about the device, and Decide
// is called again with Asked. DeviceProvisioned means that the device may be
// created, not that it has been.
func Decide(f *Facts) (Decision, bool) {
	d := &f.draft
	*d = Decision{}
	table := steps
	if !f.Connection.TLS {
		table = insecureSteps
	}
	for _, s := range table {
		found := s.check(f, d)
		if f.Connection.DryRun {
			ok := found.reason == "" || found.reason.Outcome() == Allow
			d.Steps = append(d.Steps, Step{Name: s.name, OK: ok, Detail: found.detail})
		}
		if found.reason == "" {
			continue
		}
		d.Reason, d.Detail = found.reason, found.detail
		if found.reason.Outcome() != Allow {
			return *d, true
		}
	}
	return *d, d.Reason != ""
}

func usable(f *Facts, d *Decision) finding {
	c := &f.Connection
	if f.Limited > 0 {
		d.RetryAfter = f.Limited
		return finding{RateLimited, fmt.Sprintf("too many certificates were refused that came from %s", failingNetwork(c.Source))}
	}
	switch {
	case c.Problem != nil:
		return finding{c.Problem.Reason, c.Problem.Detail}
	case len(c.Leaf) == 0:
		return finding{NoCertificate, "the device presented no certificate"}
	}
	if !c.DryRun {
		return finding{}
	}
	return finding{detail: fmt.Sprintf("%s over TLS, %d certificates presented", c.Protocol, max(1, len(c.Presented)))}
}

func withinLimits(f *Facts, d *Decision) finding {
	if n := len(f.Connection.Attested); n > trust.MaxCertificates {
		// Over TCP the chain itself does not get here.
		return finding{CertificateUnsupported, fmt.Sprintf("the device presented %d or more certificates, more than %d", n, trust.MaxCertificates)}
	}
	if f.ChainErr != nil {
		return chainFinding(f.ChainErr, d)
	}
	if !f.Connection.DryRun {
		return finding{}
	}
	return finding{detail: fmt.Sprintf("leaf %s", f.Chain.Leaf().Subject)}
}

func hubFound(f *Facts, d *Decision) finding {
	if f.Hub == nil {
		// The chain's own failure, where there is one, names the certificate.
		var failure *trust.Error
		if errors.As(f.PathErr, &failure) {
			d.Certificate = failure.Certificate
		}
		return finding{f.NoHub.Reason, f.NoHub.Detail}
	}
	d.Hub, d.HubName = f.Hub.ID, f.Hub.Name
	if f.AuthorityUnknown || f.AuthorityHub != nil && *f.AuthorityHub != f.Hub.ID {
		return finding{AuthorityMismatch, fmt.Sprintf("the request's authority %q names another hub than %s (by %s)",
			f.Connection.Authority, f.Hub.Name, f.HubFrom)}
	}
	if !f.Connection.DryRun {
		return finding{}
	}
	return finding{detail: fmt.Sprintf("%s (%s), by %s", f.Hub.Name, f.Hub.ID, f.HubFrom)}
}

func hubEnabled(f *Facts, _ *Decision) finding {
	switch {
	case f.Hub.Deleting:
		return finding{HubDisabled, "the hub is being deleted"}
	case f.Hub.Disabled:
		return finding{HubDisabled, "the hub is disabled"}
	}
	return finding{}
}

func chainVerifies(f *Facts, d *Decision) finding {
	switch {
	case f.alone() && f.Hub.isRevoked(f.Identity.Revocable):
		return finding{CertificateRevoked, fmt.Sprintf("the key of the leaf (SHA-256 %s) is revoked", f.Identity.Key)}
	case f.alone():
		return finding{detail: "under no anchor of the hub; the device may have a custom certificate"}
	case f.PathErr != nil:
		return chainFinding(f.PathErr, d)
	}
	if f.Identity == nil {
		f.Identity = identify(f.Path, f.Hub)
	}
	if f.Hub.Policy.Revocation == RefuseUnlisted {
		if why := f.Hub.unlisted(f.Identity.Issuers, f.Now); why != "" {
			d.Certificate = f.Path.Leaf()
			return finding{RevocationUnknown, why}
		}
	}
	if !f.Connection.DryRun {
		return finding{}
	}
	return finding{detail: fmt.Sprintf("anchor %s, %d certificates", f.Path.Anchor().Subject, len(f.Path.Certificates()))}
}

func nameFits(f *Facts, d *Decision) finding {
	i := f.Identity
	if i.NameErr != nil {
		d.Certificate = f.Path.Leaf()
		return finding{NameInvalid, i.NameErr.Error()}
	}
	if !f.alone() && f.NameIsHub != nil && f.NameIsHub(i.Name) {
		d.Certificate = f.Path.Leaf()
		return finding{NameInvalid, fmt.Sprintf("the common name %q is the ID of a hub", i.Name)}
	}
	d.DeviceName, d.Device = i.Name, i.Device
	return finding{detail: i.Name}
}

// device holds steps 7 and 8 of the design: what a known device and an unknown
// one may do.
func device(f *Facts, d *Decision) finding {
	d.Outage = f.Outage
	switch {
	case !f.Looked:
		return finding{}
	case f.Rules == nil:
		return finding{Internal, "the hub's rules are not at hand"}
	case f.StoreErr != nil:
		return storeFinding(f.StoreErr, d)
	case f.alone() && !f.Device.owns(f.Identity.Key):
		d.Device, d.DeviceName = DeviceID{}, "" // which is a stranger's word
		return chainFinding(f.PathErr, d)
	case f.Device == nil:
		return unseenDevice(f)
	}
	return knownDevice(f)
}

// quotaRetryAfter is when a device that its full hub refused may try again:
// people have to make room first.
const quotaRetryAfter = time.Minute

// storeFinding tells what the store refused on purpose from what it failed to do.
func storeFinding(err error, d *Decision) finding {
	var rate *RateError
	switch {
	case errors.Is(err, ErrNotClaimed):
		return finding{DeviceNotAllowed, err.Error()}
	case errors.Is(err, ErrQuota):
		d.RetryAfter = quotaRetryAfter
		return finding{QuotaExceeded, err.Error()}
	case errors.Is(err, errNoPlace):
		return finding{Overloaded, err.Error()}
	case errors.As(err, &rate):
		d.RetryAfter = rate.After
		return finding{RateLimited, err.Error()}
	}
	return finding{StoreUnavailable, err.Error()}
}

// chainReasons maps what trust found wrong to reasons.
var chainReasons = map[trust.Fault]Reason{
	trust.Malformed:   CertificateMalformed,
	trust.Unsupported: CertificateUnsupported,
	trust.Incomplete:  ChainIncomplete,
	trust.Untrusted:   ChainUntrusted,
	trust.Expired:     CertificateExpired,
	trust.NotYetValid: CertificateNotYetValid,
	trust.WrongUsage:  CertificateWrongUsage,
	trust.Revoked:     CertificateRevoked,
}

func chainFinding(err error, d *Decision) finding {
	var failure *trust.Error
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return finding{Overloaded, "the check's time ran out while it waited for a CPU"}
	case errors.Is(err, errNoTurn):
		return finding{Overloaded, err.Error()}
	case !errors.As(err, &failure):
		return finding{Internal, err.Error()}
	}
	d.Certificate = failure.Certificate
	reason, ok := chainReasons[failure.Fault]
	if !ok {
		reason = Internal
	}
	return finding{reason, failure.Detail}
}
