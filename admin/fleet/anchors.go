package fleet

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// maxAnchors bounds the anchors of a hub: enough for several vendors and the
// overlap of their rotations, few enough for a hub's record to stay small.
const maxAnchors = 32

// Anchor is a trust anchor of a hub.
type Anchor struct {
	Certificate *x509.Certificate
	// Facts are how it came to be one; zero for a declared hub.
	Facts provision.AnchorFacts
	// Devices is how many devices were last admitted by its key.
	Devices int
	// Superseded: its rotation group has one that was installed later. Once no
	// device is left that this one admitted last, it can be removed.
	Superseded bool
}

// Anchors returns the hub's trust anchors, in the order of their installation.
func (f *Fleet) Anchors(ctx context.Context, p access.Principal, hub string) ([]Anchor, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return nil, err
	}
	return f.anchorsOf(ctx, h)
}

func (f *Fleet) anchorsOf(ctx context.Context, h provision.Hub) ([]Anchor, error) {
	devices, err := f.store.AnchorDevices(ctx, h.ID)
	if err != nil {
		return nil, fmt.Errorf("hub %s: count devices by anchor: %w", h.Name, err)
	}
	anchors := make([]Anchor, len(h.Anchors))
	later := make(map[string]bool) // groups
	for i, der := range slices.Backward(h.Anchors) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("hub %s: trust anchor %d: %w", h.Name, i+1, err)
		}
		facts := h.AnchorFacts[trust.FingerprintOf(c)]
		anchors[i] = Anchor{Certificate: c, Facts: facts, Devices: devices[trust.KeyHashOf(c)], Superseded: later[facts.Group]}
		later[facts.Group] = facts.Group != ""
	}
	return anchors, nil
}

// AnchorSpec is a CA to trust. The proof that its key is the owner's is a
// certificate that the CA signed directly, named like the hub's ID and valid
// for a week at most; or it is waived, for a vendor's CA.
type AnchorSpec struct {
	Certificate string // PEM
	Challenge   string // PEM
	// WaiveProof takes a principal of all projects, and a reason.
	WaiveProof   bool
	WaiverReason string
	// Rotates is an anchor of the hub that this one is to take the place of: what
	// either has admitted, both admit. Zero: none.
	Rotates trust.Fingerprint
}

// AddAnchor installs a trust anchor. It takes an Admin.
func (f *Fleet) AddAnchor(ctx context.Context, p access.Principal, hub string, spec AnchorSpec) (_ Anchor, err error) {
	a := f.act(p, provision.AnchorAdded)
	defer a.end(ctx, &err)
	h, err := f.findStored(ctx, p, hub, a)
	if err != nil {
		return Anchor{}, err
	}
	if err := p.Need(access.Admin); err != nil {
		return Anchor{}, err
	}
	now := f.now()
	c, err := parseOne("certificate", spec.Certificate)
	if err != nil {
		return Anchor{}, err
	}
	print := trust.FingerprintOf(c)
	a.on("anchor", print.String())
	if err := checkAnchor(c, now); err != nil {
		return Anchor{}, err
	}
	facts := provision.AnchorFacts{AddedAt: now, AddedBy: p.Name}
	if spec.WaiveProof {
		if err := checkWaiver(p, spec); err != nil {
			return Anchor{}, err
		}
		facts.Waived, facts.WaiverReason = true, spec.WaiverReason
		a.on("waiver_reason", spec.WaiverReason)
	} else if err := checkChallenge(h.ID, c, spec.Challenge, now); err != nil {
		return Anchor{}, err
	}
	h, err = f.changeTrust(ctx, p, h.ID,
		func(h *provision.Hub) error {
			switch {
			case slices.ContainsFunc(h.Anchors, func(der []byte) bool { return bytes.Equal(der, c.Raw) }):
				return conflict(Exists, "hub %s trusts this certificate already", h.Name)
			case len(h.Anchors) >= maxAnchors:
				return conflict(TooMany, "hub %s has %d trust anchors, the most there can be", h.Name, len(h.Anchors))
			}
			if spec.Rotates != (trust.Fingerprint{}) {
				if !slices.ContainsFunc(h.Anchors, func(der []byte) bool { return trust.FingerprintOfDER(der) == spec.Rotates }) {
					return invalid("rotates", "rotates: hub %s has no trust anchor %s", h.Name, spec.Rotates)
				}
				facts.Group = rotate(h, spec.Rotates)
			}
			h.Anchors = append(slices.Clone(h.Anchors), c.Raw)
			h.AnchorFacts = withFacts(h.AnchorFacts, print, facts)
			h.UpdatedAt = now
			return nil
		},
		func(h provision.Hub) provision.Event { return provision.AnchorAdded.OnHub(h, now) })
	if err != nil {
		return Anchor{}, named(h, err)
	}
	f.inForce(ctx, h)
	devices, err := f.store.AnchorDevices(ctx, h.ID)
	return Anchor{Certificate: c, Facts: facts, Devices: devices[trust.KeyHashOf(c)]}, err
}

// rotate returns the rotation group of an anchor, which is then in one.
func rotate(h *provision.Hub, old trust.Fingerprint) string {
	facts := h.AnchorFacts[old]
	if facts.Group == "" {
		facts.Group = old.String()
		h.AnchorFacts = withFacts(h.AnchorFacts, old, facts)
	}
	return facts.Group
}

func checkWaiver(p access.Principal, spec AnchorSpec) error {
	if err := p.NeedEverywhere(access.Admin); err != nil {
		return err
	}
	switch n := utf8.RuneCountInString(spec.WaiverReason); {
	case spec.Challenge != "":
		return invalid("waive_proof", "waive_proof: there is a challenge too; leave one of the two out")
	case n == 0:
		return invalid("waiver_reason", "waiver_reason: say why nobody has to prove that the CA's key is theirs")
	case strings.ContainsFunc(spec.WaiverReason, unicode.IsControl):
		return invalid("waiver_reason", "waiver_reason: has control characters, which terminals may obey")
	case n > provision.MaxReasonRunes || !utf8.ValidString(spec.WaiverReason):
		return invalid("waiver_reason", "waiver_reason: has %d characters, more than %d", n, provision.MaxReasonRunes)
	}
	return nil
}

// withFacts returns a copy of the facts with one more: records are shared.
func withFacts(all map[trust.Fingerprint]provision.AnchorFacts, print trust.Fingerprint, facts provision.AnchorFacts) map[trust.Fingerprint]provision.AnchorFacts {
	more := make(map[trust.Fingerprint]provision.AnchorFacts, len(all)+1)
	for print, facts := range all {
		more[print] = facts
	}
	more[print] = facts
	return more
}

// RemoveAnchor ends a hub's trust in a CA. Connections that only it admitted
// end, and the devices are refused from then on; as long as there are any, that
// has to be said. It takes an Admin.
func (f *Fleet) RemoveAnchor(ctx context.Context, p access.Principal, hub string, print trust.Fingerprint, endDevices bool) (err error) {
	a := f.act(p, provision.AnchorRemoved)
	defer a.end(ctx, &err)
	h, err := f.findStored(ctx, p, hub, a)
	if err != nil {
		return err
	}
	a.on("anchor", print.String())
	if err := p.Need(access.Admin); err != nil {
		return err
	}
	anchors, err := f.anchorsOf(ctx, h)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(anchors, func(a Anchor) bool { return trust.FingerprintOf(a.Certificate) == print })
	if i < 0 {
		return fmt.Errorf("trust anchor %s on hub %s %w", print, h.Name, provision.ErrNotFound)
	}
	key := trust.KeyHashOf(anchors[i].Certificate)
	alone := !slices.ContainsFunc(anchors, func(o Anchor) bool {
		return trust.KeyHashOf(o.Certificate) == key && trust.FingerprintOf(o.Certificate) != print
	})
	if n := anchors[i].Devices; n > 0 && alone && !endDevices {
		return &Refusal{Kind: ErrConflict, Code: InUse, Devices: n, Message: fmt.Sprintf(
			"%d devices of hub %s were last admitted by this CA and would be refused: say that they are to end", n, h.Name)}
	}
	now := f.now()
	before := h
	h, err = f.store.UpdateHub(ctx, h.ID,
		func(h *provision.Hub) error {
			rest := slices.DeleteFunc(slices.Clone(h.Anchors), func(der []byte) bool { return trust.FingerprintOfDER(der) == print })
			switch {
			case len(rest) == len(h.Anchors):
				return fmt.Errorf("trust anchor %s on hub %s %w", print, h.Name, provision.ErrNotFound)
			case len(rest) == 0 && h.AutoProvisioning:
				return conflict(LastAnchor, "hub %s has auto-provisioning on and no other trust anchor: turn it off first", h.Name)
			case alone && slices.ContainsFunc(h.Policy.Admission, func(r provision.AdmissionRule) bool { return r.Anchor == key }):
				return conflict(Conflict, "an admission rule of hub %s is for this CA: change the rule first, so that it holds for the CA's successor", h.Name)
			}
			h.Anchors = rest
			facts := withFacts(h.AnchorFacts, print, provision.AnchorFacts{})
			delete(facts, print)
			h.AnchorFacts = facts
			h.UpdatedAt = now
			return nil
		},
		func(h provision.Hub) provision.Event { return provision.AnchorRemoved.OnHub(h, now) })
	if err != nil {
		return named(before, err)
	}
	f.inForce(ctx, h)
	return nil
}

// maxIntermediates bounds what operators upload to one hub.
const maxIntermediates = 64

// Intermediate is a CA below a hub's anchors that the hub knows.
type Intermediate struct {
	Certificate *x509.Certificate
	// Learned: a device brought it; else it was uploaded or declared.
	Learned bool
}

// Intermediates returns what the hub knows of its CAs, uploaded ones first.
func (f *Fleet) Intermediates(ctx context.Context, p access.Principal, hub string) ([]Intermediate, error) {
	h, err := f.Find(ctx, p, hub)
	if err != nil {
		return nil, err
	}
	return f.intermediatesOf(ctx, h)
}

func (f *Fleet) intermediatesOf(ctx context.Context, h provision.Hub) ([]Intermediate, error) {
	learned, err := f.store.Learned(ctx, h.ID)
	if err != nil {
		return nil, fmt.Errorf("hub %s: intermediates: %w", h.Name, err)
	}
	var all []Intermediate
	for _, der := range h.Intermediates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("hub %s: intermediates: %w", h.Name, err)
		}
		all = append(all, Intermediate{Certificate: c})
	}
	slices.SortFunc(learned, bytes.Compare)
	for _, der := range learned {
		// Another version of hubgate may have been able to read it.
		if c, err := x509.ParseCertificate(der); err == nil {
			all = append(all, Intermediate{Certificate: c, Learned: true})
		}
	}
	return all, nil
}

// AddIntermediates uploads intermediates (PEM) of the hub's vendors, so that
// devices that send their leaf alone are recognised. Those that are there
// already are no error. It takes an Admin, and one of all projects for a hub that
// is found by issuer: to sign somebody else's CA does not take its key.
func (f *Fleet) AddIntermediates(ctx context.Context, p access.Principal, hub, certificates string) (_ []Intermediate, err error) {
	a := f.act(p, provision.IntermediatesAdded)
	defer a.end(ctx, &err)
	h, err := f.findStored(ctx, p, hub, a)
	if err != nil {
		return nil, err
	}
	if err := p.Need(access.Admin); err != nil {
		return nil, err
	}
	added, err := parseAll("certificates", certificates)
	if err != nil {
		return nil, err
	}
	now := f.now()
	before := h
	h, err = f.changeTrust(ctx, p, h.ID,
		func(h *provision.Hub) error { return addIntermediates(p, h, added, now) },
		func(h provision.Hub) provision.Event { return provision.IntermediatesAdded.OnHub(h, now) })
	switch {
	case errors.Is(err, errUnchanged):
		h = before
	case err != nil:
		return nil, named(before, err)
	default:
		f.inForce(ctx, h)
	}
	all, lerr := f.intermediatesOf(ctx, h)
	return all, errors.Join(lerr, err)
}

func addIntermediates(p access.Principal, h *provision.Hub, added []*x509.Certificate, now time.Time) error {
	all := slices.Clone(h.Intermediates)
	for _, c := range added {
		if !slices.ContainsFunc(all, func(der []byte) bool { return bytes.Equal(der, c.Raw) }) {
			all = append(all, c.Raw)
		}
	}
	switch {
	case len(all) == len(h.Intermediates):
		return errUnchanged
	case !h.SNIOnly && p.Project != uuid.Nil:
		return conflict(Conflict, "hub %s is found by the CAs it knows, and nobody proves to own the key of an intermediate: "+
			"an admin of one project uploads them only where devices name the hub (sni_only). Set that, install the certificate as a trust anchor "+
			"with a challenge that its key signed, or have an admin of all projects upload it", h.Name)
	case len(all) > maxIntermediates:
		return conflict(TooMany, "hub %s would have %d intermediates, more than %d", h.Name, len(all), maxIntermediates)
	}
	after := *h
	after.Intermediates = all
	bundle, err := bundleOf(after)
	if err != nil {
		return err
	}
	for _, r := range bundle.Rejected() {
		if slices.ContainsFunc(added, func(c *x509.Certificate) bool { return c.Equal(r.Certificate) }) {
			return invalidBy(NotUsable, "certificates", "%s", r.Err)
		}
	}
	after.UpdatedAt = now
	*h = after
	return nil
}

// RemoveIntermediate forgets an intermediate, uploaded or learned. Devices bring
// a learned one again. It takes an Admin.
func (f *Fleet) RemoveIntermediate(ctx context.Context, p access.Principal, hub string, print trust.Fingerprint) (err error) {
	a := f.act(p, provision.IntermediateRemoved)
	defer a.end(ctx, &err)
	h, err := f.findStored(ctx, p, hub, a)
	if err != nil {
		return err
	}
	a.on("intermediate", print.String())
	if err := p.Need(access.Admin); err != nil {
		return err
	}
	now := f.now()
	before := h
	is := func(der []byte) bool { return trust.FingerprintOfDER(der) == print }
	forgotten, err := f.store.Forget(ctx, h.ID, print)
	if err != nil {
		return named(before, err)
	}
	h, err = f.store.UpdateHub(ctx, h.ID,
		func(h *provision.Hub) error {
			rest := slices.DeleteFunc(slices.Clone(h.Intermediates), is)
			if len(rest) == len(h.Intermediates) && !forgotten {
				return fmt.Errorf("intermediate %s on hub %s %w", print, h.Name, provision.ErrNotFound)
			}
			h.Intermediates = rest
			h.UpdatedAt = now
			return nil
		},
		func(h provision.Hub) provision.Event { return provision.IntermediateRemoved.OnHub(h, now) })
	if err != nil {
		return named(before, err)
	}
	f.inForce(ctx, h)
	return nil
}
